//! What the host's kernel says of a card while a guest has it.
//!
//! Its log is followed from the moment a run begins (`/dev/kmsg`, Documentation/ABI/testing/dev-kmsg
//! of Linux): DMA that the IOMMU refused, errors of the link, and what vfio-pci says. Where this
//! user may not read the log, a run goes on without it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use pci::Address;
use rustix::fs::{Mode, OFlags};

/// The longest record: the kernel's own limit (kernel/printk/printk.c, `PRINTK_MESSAGE_MAX`) and
/// room for its head.
const LONGEST: usize = 16 << 10;
/// Records that are read in one turn at most.
const TURN: usize = 256;

/// The log, from the moment that it was opened.
#[derive(Debug)]
pub struct KernelLog {
    file: File,
    functions: Vec<Address>,
}

impl KernelLog {
    /// Opens the log at its end, to hear of these functions.
    ///
    /// # Errors
    /// This user may not read it, or there is none.
    pub fn open(path: &Path, functions: Vec<Address>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        match file.seek(SeekFrom::End(0)) {
            // A pipe in the log's place has nothing of before.
            Err(error) if error.kind() == io::ErrorKind::NotSeekable => {}
            other => drop(other?),
        }
        Ok(Self { file, functions })
    }

    /// Returns what has been said of the functions since.
    ///
    /// # Errors
    /// The log cannot be read any more.
    pub fn read(&mut self) -> io::Result<Vec<String>> {
        let (mut lines, mut record) = (Vec::new(), vec![0; LONGEST]);
        for _ in 0..TURN {
            match self.file.read(&mut record) {
                // A plain file in the log's place has an end.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    let text = String::from_utf8_lossy(&record[..count]).into_owned();
                    lines.extend(message(&text).filter(|line| is_about(line, &self.functions)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Records were overwritten before they were read.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(lines)
    }
}

impl AsFd for KernelLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The message of a record: `priority,sequence,time,flags;message`, and lines of a dictionary.
fn message(record: &str) -> Option<String> {
    let (_, rest) = record.split_once(';')?;
    Some(rest.lines().next()?.to_owned())
}

/// Whether a message names one of the functions, with its domain or, as the IOMMU drivers of
/// Intel do, without.
fn is_about(message: &str, functions: &[Address]) -> bool {
    functions.iter().any(|function| {
        let name = function.to_string();
        let short = name.split_once(':').map(|(_, short)| format!("[{short}]"));
        message.contains(&name) || short.is_some_and(|short| message.contains(&short))
    })
}

/// What a message means for the guest's card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The IOMMU refused an access of the card to memory (drivers/iommu/intel/dmar.c,
    /// drivers/iommu/amd/iommu.c).
    Dma {
        /// The address that the card used, in the guest's memory as the card sees it.
        address: Option<u64>,
    },
    /// The link or the function reported an error (drivers/pci/pcie/aer.c).
    Link,
    /// The card does not answer any more (drivers/pci/pci.c).
    Gone,
}

impl Fault {
    /// Returns the fault that a message tells of, if it does.
    pub fn of(message: &str) -> Option<Self> {
        let number_after = |word: &str| {
            let (_, rest) = message.split_once(word)?;
            let digits = rest.trim_start().trim_start_matches("0x");
            let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
            u64::from_str_radix(digits.get(..end)?, 16).ok()
        };
        if message.contains("[DMA ") && message.contains("fault addr") {
            return Some(Self::Dma { address: number_after("fault addr") });
        }
        if message.contains("IO_PAGE_FAULT") {
            return Some(Self::Dma { address: number_after("address=") });
        }
        let is_gone = ["device inaccessible", "not ready", "Unable to change power state"];
        if is_gone.iter().any(|words| message.contains(words)) {
            return Some(Self::Gone);
        }
        let is_serious = message.contains("Uncorrect") || message.contains("severity=Fatal");
        (message.contains("AER") && is_serious).then_some(Self::Link)
    }

    /// Returns what it means, for a guest with so much memory in bytes.
    pub fn explain(self, memory: u64) -> String {
        match self {
            Self::Dma { address: Some(address) } if address < memory => format!(
                "the IOMMU refused the card's access to {address:#x}, which is within the guest's \
                 memory: perhaps a page that is not mapped yet, or may only be read"
            ),
            Self::Dma { address: Some(address) } => format!(
                "the IOMMU refused the card's access to {address:#x}, which is no memory of the \
                 guest's: the driver gave it a wrong address, such as a virtual one"
            ),
            Self::Dma { address: None } => {
                "the IOMMU refused an access of the card to memory".to_owned()
            }
            Self::Link => "the card's link reported an error that was not corrected".to_owned(),
            Self::Gone => {
                "the card does not answer any more: it fell off the bus, and reads as ones"
                    .to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        for (message, expected) in [
            (
                "DMAR: [DMA Read NO_PASID] Request device [29:00.0] fault addr 0xdeadb000 [fault \
                 reason 0x06] PTE Read access is not set",
                Some(Fault::Dma { address: Some(0xdead_b000) }),
            ),
            (
                "vfio-pci 0000:29:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000e \
                 address=0x1000 flags=0x0000]",
                Some(Fault::Dma { address: Some(0x1000) }),
            ),
            (
                "vfio-pci 0000:29:00.0: Unable to change power state from D3cold to D0, device \
                 inaccessible",
                Some(Fault::Gone),
            ),
            (
                "vfio-pci 0000:29:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer",
                None,
            ),
            (
                "pcieport 0000:00:1c.0: AER: Uncorrected (Fatal) error received: 0000:29:00.0",
                Some(Fault::Link),
            ),
            ("vfio-pci 0000:29:00.0: resetting", None),
        ] {
            assert_eq!(Fault::of(message), expected, "{message}");
        }
        let words = |address| Fault::Dma { address: Some(address) }.explain(1 << 30);
        assert!(words(1 << 31).contains("no memory of the guest's"));
        assert!(words(0x1000).contains("within the guest's memory"));
    }

    #[test]
    fn only_what_names_the_card_counts() {
        let card = ["0000:29:00.0".parse().unwrap()];
        assert!(is_about("DMAR: Request device [29:00.0] fault", &card));
        assert!(is_about("vfio-pci 0000:29:00.0: x", &card));
        assert!(!is_about("vfio-pci 0001:29:00.0: x", &card));
        assert!(!is_about("[28:00.0]", &card));
        assert_eq!(message("6,1,2,-;hello; you\n SUBSYSTEM=pci\n").as_deref(), Some("hello; you"));
        assert_eq!(message("garbage"), None);
    }

    #[test]
    fn a_log_with_an_end_is_no_log() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(KernelLog::open(file.path(), vec![]).unwrap().read().is_err());
        assert!(KernelLog::open(Path::new("/nonexistent"), vec![]).is_err());
    }
}
