//! The standard input of a command in a rig, on its way there.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;

use super::LabError;
use crate::channel::{self, input_within};

/// What is read at once, in bytes.
const PIECE: usize = 1024;

/// The command's input: read only as fast as the rig has room for it, so that there is never more
/// than a piece of it here.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    source: Option<BorrowedFd<'a>>,
    /// How many bytes the rig has room for.
    room: u32,
    /// A frame that is not yet sent.
    waiting: Vec<u8>,
    /// Whether the end is sent, or waits to be.
    ended: bool,
}

impl<'a> Input<'a> {
    /// Returns the input that comes from `source`; without it, one that has ended.
    pub(crate) fn new(source: Option<BorrowedFd<'a>>) -> Self {
        Self { source, room: 0, waiting: Vec::new(), ended: false }
    }

    /// Takes note that the rig has room for so many more bytes.
    pub(crate) fn allow(&mut self, bytes: u32) -> Result<(), LabError> {
        self.room = self.room.saturating_add(bytes);
        if self.source.is_none() && !self.ended { self.put(&[]) } else { Ok(()) }
    }

    /// The source, while it is to be read.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'a>> {
        self.source.filter(|_| self.waiting.is_empty() && input_within(self.room) > 0)
    }

    /// Whether there is something to send.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Reads a piece from the source, which is ready.
    pub(crate) fn fill(&mut self) -> Result<(), LabError> {
        let Some(source) = self.source() else { return Ok(()) };
        let mut buffer = [0; PIECE];
        let most = input_within(self.room).min(PIECE);
        match rustix::io::read(source, &mut buffer[..most]) {
            Ok(0) => {
                self.source = None;
                self.put(&[])
            }
            Ok(length) => self.put(&buffer[..length]),
            Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            Err(errno) => Err(LabError::Input(errno.into())),
        }
    }

    fn put(&mut self, piece: &[u8]) -> Result<(), LabError> {
        let frame = channel::input(piece).map_err(LabError::Channel)?;
        self.room = self.room.saturating_sub(u32::try_from(frame.len()).unwrap_or(u32::MAX));
        self.waiting.extend(frame);
        self.ended |= piece.is_empty();
        Ok(())
    }

    /// Sends what the channel takes now.
    pub(crate) fn send(&mut self, channel: &mut UnixStream) -> Result<(), LabError> {
        channel.set_nonblocking(true).map_err(LabError::Channel)?;
        match channel.write(&self.waiting) {
            Ok(sent) => {
                self.waiting.drain(..sent);
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(())
            }
            // QEMU has ended; the other direction says so, and why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.waiting.clear();
                self.source = None;
                Ok(())
            }
            Err(error) => Err(LabError::Channel(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;
    use crate::channel::InputDecoder;

    fn source(bytes: &[u8]) -> File {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("input");
        std::fs::write(&path, bytes).unwrap();
        File::open(path).unwrap()
    }

    #[test]
    fn no_more_is_read_than_there_is_room_for() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let file = source(&bytes);
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let mut input = Input::new(Some(file.as_fd()));
        assert!(input.source().is_none(), "nothing is read before the rig says so");
        let mut decoder = InputDecoder::default();
        let mut arrived = Vec::new();
        let (mut room, mut ended) = (0_u32, false);
        for allowed in [1, 1, 1, 500, 2048].into_iter().chain(std::iter::repeat(64)) {
            input.allow(allowed).unwrap();
            room += allowed;
            while input.source().is_some() {
                input.fill().unwrap();
                input.send(&mut ours).unwrap();
            }
            input.send(&mut ours).unwrap();
            theirs.set_nonblocking(true).unwrap();
            let mut buffer = vec![0; 1 << 16];
            let length = theirs.read(&mut buffer).unwrap_or_default();
            room = room.checked_sub(u32::try_from(length).unwrap()).expect("within the room");
            decoder.feed(&buffer[..length]);
            while let Some((piece, _)) = decoder.next_piece() {
                ended |= piece.is_empty();
                arrived.extend(piece);
            }
            if ended {
                break;
            }
        }
        assert!(arrived == bytes, "{} bytes", arrived.len());
    }

    #[test]
    fn without_a_source_the_end_is_sent_once() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let mut input = Input::new(None);
        for _ in 0..3 {
            input.allow(100).unwrap();
            if input.is_waiting() {
                input.send(&mut ours).unwrap();
            }
        }
        drop(ours);
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [0, 0]);
    }

    #[test]
    fn a_source_that_cannot_be_read_is_an_error_and_a_rig_that_ended_is_none() {
        let directory = File::open("/").unwrap();
        let mut input = Input::new(Some(directory.as_fd()));
        input.allow(100).unwrap();
        assert!(matches!(input.fill(), Err(LabError::Input(_))));
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let mut input = Input::new(None);
        input.allow(100).unwrap();
        input.send(&mut ours).unwrap();
        assert!(!input.is_waiting());
    }
}
