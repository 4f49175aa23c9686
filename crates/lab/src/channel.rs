//! What passes between kireji outside a rig and kireji inside it.
//!
//! The channel is the rig's second serial port. From the inside come frames: a kind (one byte), a
//! length (two bytes, little endian) and that many bytes. The first frame is preceded by
//! [`GREETING`], so that bytes which the kernel's probing of the port may have sent are skipped.
//! To the inside go, in a shell, plain bytes; else the command's standard input, in frames of a length
//! (two bytes, little endian) and that many bytes; a frame of none is the end of the input. The
//! serial port keeps only so much for the inside, and drops the rest. So the inside says how much
//! it has room for, and no more is sent.

use std::io::{self, Write};

/// What comes before the first frame.
pub const GREETING: &[u8] = b"\0kireji-rig-1\n";

/// How many bytes may come before the greeting. A kernel that says more than this on its second
/// serial port has been told to use it as a console.
const NOISE_LIMIT: usize = 64 << 10;

/// The most that one frame holds, in bytes.
pub const FRAME_LIMIT: usize = 4096;

/// How many bytes may be on their way to the inside: fewer than the line discipline of its serial
/// port keeps (`N_TTY_BUF_SIZE`, drivers/tty/n_tty.c).
pub const WINDOW: u32 = 2048;

/// What the length of a frame takes, in bytes.
const INPUT_HEADER: usize = 2;

/// A message from the inside of a rig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The command starts now.
    Started,
    /// The command wrote this on standard output.
    Stdout(Vec<u8>),
    /// The command wrote this on standard error.
    Stderr(Vec<u8>),
    /// The command has ended with this exit code; 128 + n where signal n ended it.
    Exit(i32),
    /// The rig could not be made ready, or the command not started.
    Failed(String),
    /// There is room for so many further bytes of the command's input, lengths of frames included.
    Room(u32),
}

/// The inside of a rig does not keep to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// There is no greeting in what came.
    #[error("the rig's second serial port says something else than kireji would")]
    NoGreeting,
    /// A frame has an unknown kind.
    #[error("a message of the unknown kind {0:#04x}")]
    UnknownKind(u8),
    /// A frame is too long or does not hold what its kind should.
    #[error("a malformed message of the kind {0:#04x}")]
    Malformed(u8),
}

const STARTED: u8 = 1;
const STDOUT: u8 = 2;
const STDERR: u8 = 3;
const EXIT: u8 = 4;
const FAILED: u8 = 5;
const ROOM: u8 = 6;

/// Writes a message as one or more frames.
///
/// # Errors
/// The writer's.
pub fn write(writer: &mut impl Write, message: &Message) -> io::Result<()> {
    let (kind, bytes): (u8, &[u8]) = match message {
        Message::Started => (STARTED, &[]),
        Message::Stdout(bytes) => (STDOUT, bytes),
        Message::Stderr(bytes) => (STDERR, bytes),
        Message::Exit(code) => (EXIT, &code.to_le_bytes()),
        Message::Room(bytes) => (ROOM, &bytes.to_le_bytes()),
        Message::Failed(text) => (FAILED, &text.as_bytes()[..text.len().min(FRAME_LIMIT)]),
    };
    if bytes.is_empty() {
        return frame(writer, kind, bytes);
    }
    bytes.chunks(FRAME_LIMIT).try_for_each(|chunk| frame(writer, kind, chunk))
}

// One write a frame, so that a frame is never left half sent by an error between its parts.
fn frame(writer: &mut impl Write, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(3 + bytes.len());
    frame.push(kind);
    frame.extend(length.to_le_bytes());
    frame.extend(bytes);
    writer.write_all(&frame)
}

/// Makes messages of the bytes that come from a rig.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
    greeted: bool,
    noise: usize,
}

impl Decoder {
    /// Whether the inside has greeted.
    pub fn greeted(&self) -> bool {
        self.greeted
    }

    /// Takes bytes as they come.
    ///
    /// # Errors
    /// The bytes before the greeting are too many.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        self.pending.extend(bytes);
        if !self.greeted {
            self.find_greeting()?;
        }
        Ok(())
    }

    /// Returns the next message, or `None` until more bytes have come.
    ///
    /// # Errors
    /// The bytes are not what kireji sends.
    pub fn next_message(&mut self) -> Result<Option<Message>, ChannelError> {
        if !self.greeted {
            return Ok(None);
        }
        let Some((message, length)) = first(&self.pending)? else { return Ok(None) };
        self.pending.drain(..length);
        Ok(Some(message))
    }

    /// Returns what has come after the last message.
    pub fn into_rest(self) -> Vec<u8> {
        self.pending
    }

    fn find_greeting(&mut self) -> Result<(), ChannelError> {
        let at = self.pending.windows(GREETING.len()).position(|window| window == GREETING);
        if let Some(at) = at {
            self.pending.drain(..at + GREETING.len());
            self.greeted = true;
            return Ok(());
        }
        // Its beginning may be at the end of what has come so far.
        let noise = self.pending.len().saturating_sub(GREETING.len());
        self.pending.drain(..noise);
        self.noise += noise;
        if self.noise > NOISE_LIMIT { Err(ChannelError::NoGreeting) } else { Ok(()) }
    }
}

/// Returns the message at the start of the bytes and its length, or `None` where it is not whole.
fn first(bytes: &[u8]) -> Result<Option<(Message, usize)>, ChannelError> {
    let [kind, low, high, rest @ ..] = bytes else { return Ok(None) };
    let length = usize::from(u16::from_le_bytes([*low, *high]));
    if !(STARTED..=ROOM).contains(kind) {
        return Err(ChannelError::UnknownKind(*kind));
    }
    if length > FRAME_LIMIT {
        return Err(ChannelError::Malformed(*kind));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let message = match *kind {
        STARTED => Message::Started,
        STDOUT => Message::Stdout(body.to_owned()),
        STDERR => Message::Stderr(body.to_owned()),
        EXIT => {
            let code = body.try_into().map_err(|_| ChannelError::Malformed(EXIT))?;
            Message::Exit(i32::from_le_bytes(code))
        }
        ROOM => {
            let bytes = body.try_into().map_err(|_| ChannelError::Malformed(ROOM))?;
            Message::Room(u32::from_le_bytes(bytes))
        }
        _ => Message::Failed(String::from_utf8_lossy(body).into_owned()),
    };
    Ok(Some((message, 3 + length)))
}

/// Returns how many bytes of input fit where there is room for `room` bytes of the channel.
pub fn input_within(room: u32) -> usize {
    usize::try_from(room).unwrap_or(usize::MAX).saturating_sub(INPUT_HEADER).min(FRAME_LIMIT)
}

/// Returns the frame of a piece of the command's input; of none, the end of the input.
///
/// # Errors
/// The piece is longer than a frame can be.
pub fn input(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    Ok([&length.to_le_bytes(), bytes].concat())
}

/// Makes the command's input of the bytes that come to the inside.
#[derive(Debug, Default)]
pub struct InputDecoder {
    pending: Vec<u8>,
}

impl InputDecoder {
    /// Takes bytes as they come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.pending.extend(bytes);
    }

    /// Returns the next piece of the input and how many bytes of the channel it took, or `None`
    /// until more have come. An empty piece is the end.
    pub fn next_piece(&mut self) -> Option<(Vec<u8>, u32)> {
        let length = self.pending.first_chunk().map(|length| u16::from_le_bytes(*length))?;
        let end = INPUT_HEADER + usize::from(length);
        let piece = self.pending.get(INPUT_HEADER..end)?.to_owned();
        self.pending.drain(..end);
        Some((piece, u32::try_from(end).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn received(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Message>, ChannelError> {
        decoder.feed(bytes)?;
        std::iter::from_fn(|| decoder.next_message().transpose()).collect()
    }

    fn sent(messages: &[Message]) -> Vec<u8> {
        let mut bytes = GREETING.to_vec();
        messages.iter().for_each(|message| write(&mut bytes, message).unwrap());
        bytes
    }

    #[test]
    fn noise_before_the_greeting_is_skipped() {
        let messages = [
            Message::Started,
            Message::Room(2048),
            Message::Exit(-3),
            Message::Failed("no such file".into()),
        ];
        let mut bytes = b"\xff\0kireji\0".to_vec();
        bytes.extend(sent(&messages));
        bytes.extend([STDOUT, 9, 0, 7]);
        let mut decoder = Decoder::default();
        assert_eq!(received(&mut decoder, &bytes), Ok(messages.to_vec()));
        assert_eq!(decoder.into_rest(), [STDOUT, 9, 0, 7]);
    }

    #[test]
    fn endless_noise_is_an_error_and_takes_no_memory() {
        let mut decoder = Decoder::default();
        let noise = [b'x'; 1000];
        let result = (0..100).find_map(|_| decoder.feed(&noise).err());
        assert_eq!(result, Some(ChannelError::NoGreeting));
        assert!(decoder.pending.len() < 2000);
    }

    #[test]
    fn frames_that_kireji_would_not_send_are_errors() {
        for (frame, expected) in [
            (&[9, 0, 0][..], ChannelError::UnknownKind(9)),
            (&[0, 0, 0], ChannelError::UnknownKind(0)),
            (&[STDOUT, 1, 16], ChannelError::Malformed(STDOUT)),
            (&[EXIT, 1, 0, 7], ChannelError::Malformed(EXIT)),
            (&[ROOM, 0, 0], ChannelError::Malformed(ROOM)),
        ] {
            let mut bytes = GREETING.to_vec();
            bytes.extend(frame);
            assert_eq!(received(&mut Decoder::default(), &bytes), Err(expected));
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_arrives_however_it_is_cut(
            output in proptest::collection::vec(any::<u8>(), 0..10_000),
            cut in 1_usize..5_000,
        ) {
            let bytes = sent(&[Message::Stdout(output.clone()), Message::Exit(1)]);
            let mut decoder = Decoder::default();
            let mut messages = Vec::new();
            for chunk in bytes.chunks(cut) {
                messages.extend(received(&mut decoder, chunk).unwrap());
            }
            prop_assert_eq!(messages.pop(), Some(Message::Exit(1)));
            let mut arrived = Vec::new();
            for message in messages {
                let Message::Stdout(part) = message else { panic!("{message:?}") };
                arrived.extend(part);
            }
            prop_assert_eq!(arrived, output);
        }

        #[test]
        fn input_arrives_however_it_is_cut(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..20),
            cut in 1_usize..1_000,
        ) {
            let mut sent: Vec<u8> = pieces.iter().flat_map(|piece| input(piece).unwrap()).collect();
            sent.extend(input(&[]).unwrap());
            let mut decoder = InputDecoder::default();
            let mut arrived = Vec::new();
            let mut taken = 0;
            for chunk in sent.chunks(cut) {
                decoder.feed(chunk);
                while let Some((piece, bytes)) = decoder.next_piece() {
                    arrived.push(piece);
                    taken += usize::try_from(bytes).unwrap();
                }
            }
            prop_assert_eq!(taken, sent.len());
            prop_assert_eq!(arrived.pop(), Some(Vec::new()));
            prop_assert_eq!(arrived, pieces);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder { greeted: true, ..Decoder::default() };
            drop(received(&mut decoder, &bytes));
        }
    }
}
