//! What comes through sockets and serial lines, in pieces.

use std::io::Write;
use std::os::unix::net::UnixStream;

use guest::Guest;
use guest::guests::{Goal, Haiku, Observer, Sign, Storage, Verdict};
use guest::linux;
use guest::machine::DiskBus;
use guest::process::GuestEnd;
use guest::qmp::Connection;
use haiku::image::{Container, Image};
use haiku::kdl::{Event, Reader};
use lab::channel::{ChannelError, Decoder, InputDecoder, Message};

/// What the inside of a rig sends, and what is sent to it. The first byte says in what pieces it
/// comes.
pub fn channel(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    // More is noise, of which there is a limit that a greeting may come just before or after.
    let bytes = &bytes[..bytes.len().min(32 << 10)];
    let in_pieces = decode(bytes.chunks(usize::from(*size).max(1)));
    assert_eq!(in_pieces, decode(std::iter::once(bytes)));
    let in_pieces = input(bytes.chunks(usize::from(*size).max(1)));
    assert_eq!(in_pieces, input(std::iter::once(bytes)));
    let taken: u32 = in_pieces.iter().map(|(_, taken)| taken).sum();
    assert!(usize::try_from(taken).is_ok_and(|taken| taken <= bytes.len()));
}

fn input<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<(Vec<u8>, u32)> {
    let mut decoder = InputDecoder::default();
    let mut found = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        found.extend(std::iter::from_fn(|| decoder.next_piece()));
    }
    found
}

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Option<ChannelError>) {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for piece in pieces {
        if let Err(error) = decoder.feed(piece) {
            return (messages, Some(error));
        }
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

/// What QEMU sends on its control channel.
pub fn qmp(data: &[u8]) {
    // What a socket takes without a reader.
    let data = &data[..data.len().min(64 << 10)];
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    let mut connection = Connection::new(ours).expect("a connection");
    for piece in data.chunks(1024) {
        theirs.write_all(piece).expect("room in the socket");
        if connection.receive().is_err() {
            return;
        }
    }
    drop(theirs);
    // At the end of the stream there is an error, after at most one more set of messages.
    let _ = connection.receive();
    assert!(connection.receive().is_err());
}

/// What a guest writes to its serial line. The first byte says in what pieces it comes.
pub fn serial(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let haiku = Haiku {
        path: "/image".into(),
        image: Image { container: Container::Raw, content: None, disk_size: 1 << 20 },
        base: None,
        storage: Storage::ThrowAway,
        bus: DiskBus::Ahci,
        login: false,
        goal: Goal::default(),
    };
    let nonce = linux::Nonce::try_from("0123456789abcdef".repeat(2)).expect("a nonce");
    let observers = || -> [Box<dyn Observer>; 2] {
        [haiku.observer(), Box::new(linux::Observer::new(nonce.clone(), 1))]
    };
    for (one, other) in observers().into_iter().zip(observers()) {
        let in_pieces = observe(one, bytes.chunks(usize::from(*size).max(1)));
        assert_eq!(in_pieces, observe(other, std::iter::once(bytes)));
    }
}

fn observe<'a>(
    mut observer: Box<dyn Observer>,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Sign>, [Verdict; GuestEnd::ALL.len()]) {
    let signs = pieces.flat_map(|piece| observer.feed(piece)).collect();
    (signs, GuestEnd::ALL.map(|end| observer.judge(end)))
}

/// What a kernel writes when it panics. The first byte says in what pieces it comes.
pub fn kdl(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let in_pieces = read(bytes.chunks(usize::from(*size).max(1)));
    assert_eq!(in_pieces, read(std::iter::once(bytes)));
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let (mut reader, mut events) = (Reader::default(), Vec::new());
    let mut keep = |event: Event<'_>| {
        if let Event::Complete(panic) = &event {
            assert!(panic.frames.len() <= 400);
            assert_eq!(panic.corrupted, !panic.damage.is_empty());
        }
        events.push(format!("{event:?}"));
    };
    for piece in pieces {
        reader.push(piece, &mut keep);
    }
    reader.finish(&mut keep);
    events
}
