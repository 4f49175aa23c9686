//! The two streams of a command, when nobody reads them any more.

use std::io::{self, Write};

/// Standard output. A reader that has gone, as of `kireji list | head`, is no failure: what is
/// written from then on is dropped, and the command goes on to its own end.
#[derive(Debug)]
pub(crate) struct Data<W> {
    inner: W,
    has_reader: bool,
}

impl<W: Write> Data<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, has_reader: true }
    }

    fn unless_gone<T>(&mut self, done: io::Result<T>, otherwise: T) -> io::Result<T> {
        match done {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.has_reader = false;
                Ok(otherwise)
            }
            other => other,
        }
    }
}

impl<W: Write> Write for Data<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.has_reader {
            return Ok(bytes.len());
        }
        let written = self.inner.write(bytes);
        self.unless_gone(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.has_reader {
            return Ok(());
        }
        let flushed = self.inner.flush();
        self.unless_gone(flushed, ())
    }
}

/// Standard error. What a command does, and how it ends, never depends on whether it can be told.
#[derive(Debug)]
pub(crate) struct Narration<W>(W);

impl<W: Write> Narration<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self(inner)
    }
}

impl<W: Write> Write for Narration<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.write(bytes).unwrap_or(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        drop(self.0.flush());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_a_reader_that_has_gone_is_no_failure_of_data() {
        let mut gone = Data::new(Fails(io::ErrorKind::BrokenPipe));
        assert!(writeln!(gone, "one").and_then(|()| gone.flush()).is_ok());
        let mut full = Data::new(Fails(io::ErrorKind::StorageFull));
        let error = writeln!(full, "one").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(full.flush().is_err());
    }

    #[test]
    fn narration_never_fails() {
        for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::StorageFull] {
            let mut narration = Narration::new(Fails(kind));
            assert!(writeln!(narration, "one").and_then(|()| narration.flush()).is_ok());
        }
    }
}
