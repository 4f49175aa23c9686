//! The protocol of `-accel qtest` (`system/qtest.c` of QEMU): a command is a line, and so is its
//! answer. Between the answers come lines that say that an interrupt line changed.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use vfio::Width;

use super::super::{Outcome, said};

/// The longest answer is that to `read`: two digits a byte.
const LINE_LIMIT: usize = 64 << 10;

/// An interrupt line changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signal {
    pub(super) line: u32,
    pub(super) is_raised: bool,
}

/// The processor's place in a machine that has none.
#[derive(Debug)]
pub(super) struct Qtest {
    stream: UnixStream,
    /// How long an answer is waited for.
    patience: Duration,
    pending: Vec<u8>,
    signals: VecDeque<Signal>,
}

/// A line from QEMU.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Signal(Signal),
    Done(&'a str),
    Failed,
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Self {
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        match first {
            "OK" => Self::Done(rest),
            "IRQ" => Self::signal(rest).map_or(Self::Failed, Self::Signal),
            _ => Self::Failed,
        }
    }

    fn signal(text: &str) -> Option<Signal> {
        let (what, line) = text.split_once(' ')?;
        let is_raised = match what {
            "raise" => true,
            "lower" => false,
            _ => return None,
        };
        Some(Signal { line: line.parse().ok()?, is_raised })
    }
}

impl Qtest {
    pub(super) fn new(stream: UnixStream, patience: Duration) -> Self {
        Self { stream, patience, pending: Vec::new(), signals: VecDeque::new() }
    }

    /// Sends a command and returns what follows `OK` in its answer.
    pub(super) fn command(&mut self, command: &str) -> Result<String, String> {
        let told = self.stream.write_all(format!("{command}\n").as_bytes());
        told.map_err(|error| format!("{command}: {error}"))?;
        let deadline = Instant::now() + self.patience;
        loop {
            let line = self.line(deadline).map_err(|error| format!("{command}: {error}"))?;
            let line = line.ok_or_else(|| format!("{command}: no answer"))?;
            match Line::parse(&line) {
                Line::Signal(signal) => self.signals.push_back(signal),
                Line::Done(answer) => return Ok(answer.to_owned()),
                Line::Failed => return Err(format!("{command}: {line}")),
            }
        }
    }

    /// Returns the next change of an interrupt line, or `None` if there is none within `limit`.
    pub(super) fn signal(&mut self, limit: Duration) -> Result<Option<Signal>, String> {
        if let Some(signal) = self.signals.pop_front() {
            return Ok(Some(signal));
        }
        let Some(line) = self.line(Instant::now() + limit)? else { return Ok(None) };
        match Line::parse(&line) {
            Line::Signal(signal) => Ok(Some(signal)),
            _ => Err(format!("unasked for: {line}")),
        }
    }

    /// Returns the next line, or `None` if it is not whole at the deadline.
    fn line(&mut self, deadline: Instant) -> Result<Option<String>, String> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(end + 1);
                let line = std::mem::replace(&mut self.pending, rest);
                return Ok(Some(String::from_utf8_lossy(&line[..end]).trim_end().to_owned()));
            }
            if self.pending.len() > LINE_LIMIT {
                return Err("a line without an end".to_owned());
            }
            // A limit of zero would mean none.
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).map_err(said)?;
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("QEMU closed the connection".to_owned()),
                Ok(length) => self.pending.extend(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() >= deadline {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn value(&mut self, command: &str) -> Result<u64, String> {
        let answer = self.command(command)?;
        let digits = answer.strip_prefix("0x").unwrap_or(&answer);
        u64::from_str_radix(digits, 16).map_err(|_| format!("{command}: no number: {answer}"))
    }

    /// Reads physical memory or a register at a physical address.
    pub(super) fn read(&mut self, address: u64, width: Width) -> Result<u64, String> {
        self.value(&format!("read{} {address:#x}", suffix(width)))
    }

    /// Writes physical memory or a register at a physical address.
    pub(super) fn write(&mut self, address: u64, width: Width, value: u64) -> Outcome {
        self.command(&format!("write{} {address:#x} {value:#x}", suffix(width))).map(drop)
    }

    /// Reads bytes of physical memory.
    pub(super) fn read_bytes(&mut self, address: u64, length: usize) -> Result<Vec<u8>, String> {
        let command = format!("read {address:#x} {length:#x}");
        let answer = self.command(&command)?;
        let digits = answer.strip_prefix("0x").unwrap_or(&answer).as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        bytes
            .filter(|bytes| bytes.len() == length)
            .ok_or_else(|| format!("{command}: no {length} bytes: {answer}"))
    }

    /// Writes bytes to physical memory.
    pub(super) fn write_bytes(&mut self, address: u64, bytes: &[u8]) -> Outcome {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.command(&format!("write {address:#x} {:#x} 0x{digits}", bytes.len())).map(drop)
    }

    /// Fills physical memory with zeros.
    pub(super) fn clear(&mut self, address: u64, length: usize) -> Outcome {
        self.command(&format!("memset {address:#x} {length:#x} 0x0")).map(drop)
    }

    /// Writes an I/O port of 32 bits.
    pub(super) fn set_port(&mut self, port: u16, value: u64) -> Outcome {
        self.command(&format!("outl {port:#x} {value:#x}")).map(drop)
    }
}

fn suffix(width: Width) -> char {
    match width {
        Width::Byte => 'b',
        Width::Word => 'w',
        Width::Double => 'l',
        Width::Quad => 'q',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// A client whose peer has said this already.
    fn told(text: &str) -> (Qtest, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(text.as_bytes()).unwrap();
        (Qtest::new(ours, PATIENCE), theirs)
    }

    #[test]
    fn lines_are_told_apart() {
        let signal = |line, is_raised| Line::Signal(Signal { line, is_raised });
        for (text, expected) in [
            ("OK", Line::Done("")),
            ("OK 0x0100", Line::Done("0x0100")),
            ("IRQ raise 21", signal(21, true)),
            ("IRQ lower 0", signal(0, false)),
            ("IRQ raise", Line::Failed),
            ("IRQ raise -1", Line::Failed),
            ("FAIL Unknown command 'x'", Line::Failed),
            ("", Line::Failed),
        ] {
            assert_eq!(Line::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn commands_are_written_and_answers_read_as_qemu_has_them() {
        let (mut qtest, mut peer) = told("OK 0x00000000010000ed\nOK\nOK 0x00ff10\nOK\n");
        assert_eq!(qtest.read(0xfe00_0000, Width::Double), Ok(0x0100_00ed));
        assert_eq!(qtest.write_bytes(0x1000, &[1, 0xab]), Ok(()));
        assert_eq!(qtest.read_bytes(0x1000, 3), Ok(vec![0, 0xff, 0x10]));
        assert_eq!(qtest.set_port(0xcf8, 1 << 31), Ok(()));
        let mut commands = [0; 256];
        let length = peer.read(&mut commands).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&commands[..length]),
            "readl 0xfe000000\nwrite 0x1000 0x2 0x01ab\nread 0x1000 0x3\noutl 0xcf8 0x80000000\n"
        );
    }

    #[test]
    fn signals_between_answers_are_kept_in_order() {
        let (mut qtest, _peer) = told("IRQ raise 21\nOK\nIRQ lower 21\nIRQ raise 3\n");
        assert_eq!(qtest.command("clock_step"), Ok(String::new()));
        let mut next = || qtest.signal(Duration::from_millis(1)).unwrap();
        assert_eq!(next(), Some(Signal { line: 21, is_raised: true }));
        assert_eq!(next(), Some(Signal { line: 21, is_raised: false }));
        assert_eq!(next(), Some(Signal { line: 3, is_raised: true }));
        assert_eq!(next(), None);
    }

    #[test]
    fn what_is_no_answer_is_an_error_that_names_the_command() {
        let (mut qtest, _peer) = told("FAIL Unknown command 'x'\nOK 0x1234\nOK zero\n");
        assert_eq!(qtest.command("x").unwrap_err(), "x: FAIL Unknown command 'x'");
        assert!(qtest.read_bytes(0, 3).unwrap_err().starts_with("read 0x0 0x3: no 3 bytes"));
        assert!(qtest.read(0, Width::Byte).unwrap_err().starts_with("readb 0x0: no number"));
        let (mut qtest, peer) = told("");
        drop(peer);
        assert!(qtest.command("inb 0x80").is_err());
    }

    #[test]
    fn a_silent_peer_is_not_waited_for_without_end() {
        let (mut qtest, _peer) = told("OK without an end");
        qtest.patience = Duration::from_millis(20);
        assert_eq!(qtest.command("inb 0x80").unwrap_err(), "inb 0x80: no answer");
    }
}
