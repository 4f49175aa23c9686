//! The kernel's log.

use std::fs::File;
use std::io::{ErrorKind, Read};

use pci::Address;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::inside::InsideError;

/// A record with all its context fits in this (kernel/printk/internal.h, PRINTK_MESSAGE_MAX).
const RECORD: usize = 8 << 10;

/// How many records are kept at most; the kernel's buffer holds fewer.
const RECORDS: usize = 1 << 16;

/// How many lines are reported of one function, and how long they may be: the first, which say
/// how it began, and the last, which say how it ended.
const FIRST: usize = 24;
const LAST: usize = 24;
const LINE: usize = 240;

/// What the kernel has logged so far.
pub(super) struct KernelLog(Vec<Entry>);

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    device: Option<String>,
    text: String,
}

impl KernelLog {
    /// Reads all of it.
    pub(super) fn read() -> Result<Self, InsideError> {
        const LOG: &str = "/dev/kmsg";
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let log = rustix::fs::open(LOG, flags, Mode::empty()).map_err(InsideError::file(LOG))?;
        let mut log = File::from(log);
        let mut entries = Vec::new();
        let mut record = [0; RECORD];
        while entries.len() < RECORDS {
            match log.read(&mut record) {
                Ok(0) => break,
                Ok(length) => entries.extend(parse(&record[..length])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Records that were overwritten before they were read.
                Err(error) if error.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => {}
                Err(error) => return Err(InsideError::file(LOG)(error)),
            }
        }
        Ok(Self(entries))
    }

    /// Returns the lines about a function: those that the kernel says are, that name its address,
    /// or that begin with one of `words`.
    pub(super) fn about(&self, address: Address, words: &[&str]) -> Vec<String> {
        let address = address.to_string();
        let device = format!("+pci:{address}");
        let is_about = |entry: &&Entry| {
            let first = entry.text.split([' ', ':']).next().unwrap_or_default();
            entry.device.as_ref() == Some(&device)
                || entry.text.contains(&address)
                || words.contains(&first)
        };
        let mut lines: Vec<String> = self
            .0
            .iter()
            .filter(is_about)
            .map(|entry| entry.text.chars().take(LINE).collect())
            .collect();
        if lines.len() > FIRST + LAST {
            let left_out = lines.len() - FIRST - LAST;
            lines.splice(FIRST..FIRST + left_out, [format!("({left_out} lines left out)")]);
        }
        lines
    }
}

/// A record is `PRIORITY,SEQUENCE,TIME,FLAGS;TEXT`, then lines of context, each after a blank (the
/// kernel's Documentation/ABI/testing/dev-kmsg).
fn parse(record: &[u8]) -> Option<Entry> {
    let record = String::from_utf8_lossy(record);
    let (_, body) = record.split_once(';')?;
    let mut lines = body.lines();
    let text = lines.next()?.to_owned();
    let device = lines.find_map(|line| line.strip_prefix(" DEVICE=")).map(str::to_owned);
    Some(Entry { device, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_about_a_function_are_found() {
        let records = [
            "6,1,0,-;e1000e: Intel(R) PRO/1000 Network Driver\n",
            "6,2,9,-;e1000e 0000:01:00.0: Interrupt mode\n SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0\n",
            "6,3,9,-;e1000e 0000:02:00.0: another card\n SUBSYSTEM=pci\n DEVICE=+pci:0000:02:00.0\n",
            "6,4,9,-;something of the card's\n SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0\n",
            "6,5,9,-;eth0: link is up; really\n",
            "6,6,9,-;eth0x: not ours\n",
            "6,7,9,-;pci 0000:01:00.0: BAR 0\n",
            "rubbish",
            "",
        ];
        let log = KernelLog(records.iter().filter_map(|r| parse(r.as_bytes())).collect());
        let lines = log.about("01:00.0".parse().unwrap(), &["eth0"]);
        assert_eq!(
            lines,
            [
                "e1000e 0000:01:00.0: Interrupt mode",
                "something of the card's",
                "eth0: link is up; really",
                "pci 0000:01:00.0: BAR 0",
            ]
        );
    }

    #[test]
    fn many_lines_are_shortened_in_the_middle() {
        let entry = |n| Entry { device: None, text: format!("nvme {n} {}", "x".repeat(900)) };
        let lines =
            KernelLog((0..100).map(entry).collect()).about("01:00.0".parse().unwrap(), &["nvme"]);
        assert_eq!(lines.len(), FIRST + 1 + LAST);
        assert_eq!(lines[FIRST], "(52 lines left out)");
        assert!(lines[0].starts_with("nvme 0 ") && lines[FIRST + LAST].starts_with("nvme 99 "));
        assert!(lines.iter().all(|line| line.len() <= LINE));
    }
}
