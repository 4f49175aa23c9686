//! What passes between a machine and the program of its payload: see `agent.sh`.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ChildStdout;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::channel::ChannelError;
use crate::run::LabError;

/// What the agent says once the system is up, before the identity of the boot.
const GREETING: &[u8] = b"\nkireji-rig-up ";

/// The most bytes of a script: less than the line discipline of a serial port keeps for a reader
/// (`N_TTY_BUF_SIZE`, drivers/tty/n_tty.c).
const SCRIPT_LIMIT: usize = 2048;

/// The most bytes that may wait here: those of firmware and boot loader before the greeting, or of an
/// answer.
const PENDING_LIMIT: usize = 8 << 20;

/// How a script ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The shell's exit code.
    pub code: i32,
    /// What it wrote on standard output.
    pub out: String,
    /// What it wrote on standard error.
    pub err: String,
}

/// The channel to a machine.
#[derive(Debug)]
pub(super) struct Channel<R = ChildStdout> {
    output: R,
    pending: Vec<u8>,
}

impl<R: Read + AsFd> Channel<R> {
    pub(super) fn new(output: R) -> Self {
        Self { output, pending: Vec::new() }
    }

    /// Waits until a system greets that is not the boot `last`, and returns the identity of its boot.
    pub(super) fn greeting(&mut self, last: &str, limit: Duration) -> Result<String, LabError> {
        let seconds = limit.as_secs();
        let slow = || LabError::BootTimeout { seconds, tail: String::new() };
        let deadline = Instant::now() + limit;
        loop {
            while let Some(boot) = self.greeted() {
                if boot != last {
                    return Ok(boot);
                }
            }
            if !self.receive(deadline, false)? {
                return Err(slow());
            }
        }
    }

    /// Sends a script.
    pub(super) fn send(&self, input: &mut UnixStream, script: &str) -> Result<(), LabError> {
        if script.len() > SCRIPT_LIMIT {
            let why = format!("a script of more than {SCRIPT_LIMIT} bytes");
            return Err(LabError::Input(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        let frame = format!("{}\n{script}", script.len());
        input.write_all(frame.as_bytes()).map_err(LabError::Channel)
    }

    /// Sends a script, and returns its answer.
    pub(super) fn run(
        &mut self,
        input: &mut UnixStream,
        script: &str,
        limit: Duration,
    ) -> Result<Done, LabError> {
        self.send(input, script)?;
        let deadline = Instant::now() + limit;
        loop {
            if let Some(done) = self.answered()? {
                return Ok(done);
            }
            if !self.receive(deadline, true)? {
                return Err(LabError::TimeLimit { seconds: limit.as_secs() });
            }
        }
    }

    /// Takes what comes; returns whether something came before the deadline.
    fn receive(&mut self, deadline: Instant, greeted: bool) -> Result<bool, LabError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut polled = [PollFd::new(&self.output, PollFlags::IN)];
        // What the clock cannot count never comes.
        match rustix::event::poll(&mut polled, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(true),
            Err(errno) => return Err(LabError::Channel(errno.into())),
        }
        let mut bytes = vec![0; 64 << 10];
        match self.output.read(&mut bytes) {
            Ok(0) => return Err(LabError::Ended { greeted, tail: String::new() }),
            Ok(length) => self.pending.extend(&bytes[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LabError::Channel(error)),
        }
        if self.pending.len() > PENDING_LIMIT {
            return Err(ChannelError::NoGreeting.into());
        }
        Ok(true)
    }

    /// Takes a greeting out of what has come, with all before it.
    fn greeted(&mut self) -> Option<String> {
        let windows = self.pending.windows(GREETING.len());
        let start = windows.enumerate().find(|(_, window)| *window == GREETING)?.0;
        let start = start + GREETING.len();
        let length = self.pending[start..].iter().position(|byte| *byte == b'\n')?;
        let boot = String::from_utf8_lossy(&self.pending[start..start + length]).into_owned();
        self.pending.drain(..=start + length);
        Some(boot)
    }

    /// Takes an answer out of what has come, once it is whole.
    fn answered(&mut self) -> Result<Option<Done>, LabError> {
        let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let line = String::from_utf8_lossy(&self.pending[..end]).into_owned();
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap_or_default();
        let head =
            (next(), next().parse::<i32>(), next().parse::<usize>(), next().parse::<usize>());
        let ("=", Ok(code), Ok(out), Ok(err)) = head else {
            return Err(ChannelError::UnknownKind(line.bytes().next().unwrap_or_default()).into());
        };
        let start = end + 1;
        let middle = start.saturating_add(out);
        let stop = middle.saturating_add(err);
        if stop > PENDING_LIMIT {
            return Err(ChannelError::Malformed(b'=').into());
        }
        if self.pending.len() < stop {
            return Ok(None);
        }
        let text = |from, to| String::from_utf8_lossy(&self.pending[from..to]).into_owned();
        let done = Done { code, out: text(start, middle), err: text(middle, stop) };
        self.pending.drain(..stop);
        Ok(Some(done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn channel() -> (Channel<UnixStream>, UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Channel::new(ours.try_clone().unwrap()), theirs, ours)
    }

    #[test]
    fn a_boot_greets_once() {
        let (mut channel, mut rig, _) = channel();
        rig.write_all(b"BdsDxe: starting\r\nkireji\nkireji-rig-up one\n").unwrap();
        assert_eq!(channel.greeting("", LIMIT).unwrap(), "one");
        rig.write_all(b"\nkireji-rig-up one\n\0\nkireji-rig-up two\n").unwrap();
        assert_eq!(channel.greeting("one", LIMIT).unwrap(), "two");
        let slow = channel.greeting("two", Duration::ZERO);
        assert!(matches!(slow, Err(LabError::BootTimeout { seconds: 0, .. })), "{slow:?}");
        drop(rig);
    }

    #[test]
    fn an_answer_has_both_outputs() {
        let (mut channel, mut rig, mut input) = channel();
        rig.write_all(b"= 3 4 5\na\n=\nerror= 0 0 0\n").unwrap();
        let done = channel.run(&mut input, "false", LIMIT).unwrap();
        let expected = Done { code: 3, out: "a\n=\n".into(), err: "error".into() };
        assert_eq!(done, expected);
        let done = channel.run(&mut input, "true", LIMIT).unwrap();
        assert_eq!(done, Done { code: 0, out: String::new(), err: String::new() });
        let mut sent = [0; 13];
        rig.read_exact(&mut sent).unwrap();
        assert_eq!(&sent, b"5\nfalse4\ntrue");
    }

    #[test]
    fn what_an_agent_would_not_say_is_an_error() {
        for said in ["= 0 0\n", "= x 0 0\n", "= 0 0 18446744073709551615\n", "\n"] {
            let (mut channel, mut rig, mut input) = channel();
            rig.write_all(said.as_bytes()).unwrap();
            let result = channel.run(&mut input, "true", LIMIT);
            assert!(matches!(result, Err(LabError::Protocol(_))), "{said:?}: {result:?}");
        }
        let (mut channel, rig, mut input) = channel();
        drop(rig);
        assert!(channel.run(&mut input, "true", LIMIT).is_err());
        let long = channel.run(&mut input, &"x".repeat(SCRIPT_LIMIT + 1), LIMIT);
        assert!(matches!(long, Err(LabError::Input(_))), "{long:?}");
    }
}
