//! The codes of errors that are no refusals, and what they mean.

use std::fmt;
use std::str::FromStr;

use pci::refusal::{Code, Explanation};

/// A code that `kireji explain` knows.
#[derive(Clone, Copy, Debug)]
pub enum Known {
    /// The code of a refusal.
    Refusal(Code),
    /// The code of another error.
    Trouble(&'static str, Explanation),
}

impl Known {
    /// All codes, those of refusals first.
    pub fn all() -> impl Iterator<Item = Self> {
        let troubles = TROUBLES.iter().map(|(code, text)| Self::Trouble(code, *text));
        Code::ALL.into_iter().map(Self::Refusal).chain(troubles)
    }

    /// Returns what the code means.
    pub fn explanation(self) -> Explanation {
        match self {
            Self::Refusal(code) => code.explanation(),
            Self::Trouble(_, text) => text,
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refusal(code) => code.fmt(f),
            Self::Trouble(code, _) => f.pad(code),
        }
    }
}

impl FromStr for Known {
    type Err = String;

    /// Parses a code; its letters may be small, and the leading `E-` left out.
    fn from_str(text: &str) -> Result<Self, String> {
        let written = text.to_ascii_uppercase();
        let bare = written.strip_prefix("E-").unwrap_or(&written);
        Self::all()
            .find(|known| known.to_string().strip_prefix("E-") == Some(bare))
            .ok_or_else(|| format!("`{text}` is no code; `kireji explain` lists them"))
    }
}

const TROUBLES: &[(&str, Explanation)] = &[
    (
        "E-BUSY",
        Explanation {
            title: "The card is taken",
            meaning: "Another kireji holds the card, is taking or returning it, or was killed while \
                      a helper of it writes to the kernel. A card is held under one lease.",
            remedy: "`kireji status` shows who holds it. End that run, or return the card.",
        },
    ),
    (
        "E-HUNG",
        Explanation {
            title: "A write hangs in the kernel",
            meaning: "The driver does not let go of the device and holds the device's lock in the \
                      kernel. Whatever else touches the device waits with it, without end.",
            remedy: "Save your work and reboot. Until then leave the card alone.",
        },
    ),
    (
        "E-NOT-BOUND",
        Explanation {
            title: "vfio-pci did not bind the function",
            meaning: "The kernel was asked to let vfio-pci bind the function, and it did not, though \
                      it reported no error. The first driver has been restored.",
            remedy: "The kernel log (`dmesg`) says why. Error -22 means that no IOMMU isolates the \
                     function.",
        },
    ),
    (
        "E-NOT-ROLLED-BACK",
        Explanation {
            title: "A take failed, and so did the way back",
            meaning: "A function could not be taken, and its first driver could not be restored. The \
                      lease stays and tells how it was.",
            remedy: "`kireji status` shows how the card stands; `kireji recover` tries again.",
        },
    ),
    (
        "E-NOT-HELD",
        Explanation {
            title: "kireji does not hold the card",
            meaning: "Only a card that kireji has taken can be returned: of others it does not know \
                      which driver they had.",
            remedy: "`kireji status` lists the cards that are held.",
        },
    ),
    (
        "E-NO-USER",
        Explanation {
            title: "There is no such user",
            meaning: "A card can be prepared for a user of this host, named as in its list of users \
                      or by number.",
            remedy: "`getent passwd` lists the users.",
        },
    ),
    (
        "E-NO-VFIO-PCI",
        Explanation {
            title: "The kernel has no driver vfio-pci",
            meaning: "vfio-pci hands a device to user space. It is a module of the kernel that some \
                      distributions keep in a package of its own.",
            remedy: "Install the package with all modules of the running kernel; reboot if the kernel \
                     was updated since it was started.",
        },
    ),
    (
        "E-NO-INTERRUPT-REMAPPING",
        Explanation {
            title: "Interrupts are not remapped",
            meaning: "A card sends interrupts by writing to memory. Without interrupt remapping a \
                      guest that drives the card can send the host any interrupt, and so get at the \
                      host itself; VFIO refuses the card.",
            remedy: "Switch interrupt remapping on: in the firmware's setup (with VT-d or AMD-Vi, \
                     often together with x2APIC), and without `intremap=off` on the kernel's command \
                     line. Where the guest is trusted as the host is, write Y to \
                     /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts.",
        },
    ),
    (
        "E-NOT-ON-VFIO",
        Explanation {
            title: "The function is not on vfio-pci",
            meaning: "Only a function that vfio-pci, or a driver of its kind, has can be driven from \
                      user space.",
            remedy: "`kireji take` takes it; `kireji selftest --take` takes and returns it.",
        },
    ),
    (
        "E-GROUP-NOT-VIABLE",
        Explanation {
            title: "A host driver has a function of the same group",
            meaning: "The IOMMU cannot keep the functions of one group apart, so VFIO opens a group \
                      only if no driver of the host has a part of it.",
            remedy: "Take the other functions too (`--with-group`), if the host can do without.",
        },
    ),
    (
        "E-LOCKED-MEMORY",
        Explanation {
            title: "The user may not lock enough memory",
            meaning: "The card writes to the guest's memory at any time, so VFIO locks all of it. How \
                      much a user may lock is limited, usually to a few MiB.",
            remedy: "Put a line `USER hard memlock KIB` into a file in /etc/security/limits.d and log \
                     in again, or run as root: kireji then raises the limit for QEMU alone.",
        },
    ),
    (
        "E-ROM",
        Explanation {
            title: "The option ROM is not what the card's flash holds",
            meaning: "What the kernel shows is missing, cut off, damaged, or the copy that the \
                      firmware changed when it used the card. A guest would fail with it in ways that \
                      are hard to see.",
            remedy: "Read it while a driver has the card, or with another card as the boot display.",
        },
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_as_they_are_written() {
        for text in ["E-BUSY", "e-busy", "busy"] {
            assert_eq!(text.parse::<Known>().unwrap().to_string(), "E-BUSY");
        }
        assert_eq!("group-shared".parse::<Known>().unwrap().to_string(), "E-GROUP-SHARED");
        for text in ["", "E-", "nothing"] {
            assert!(text.parse::<Known>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_code_of_an_error_is_explained() {
        let mut directories = vec![concat!(env!("CARGO_MANIFEST_DIR"), "/src").into()];
        let mut found = 0;
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir::<std::path::PathBuf>(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                for rest in text.split(".code(\"").skip(1) {
                    let code = rest.split('"').next().unwrap();
                    if code.starts_with("E-") {
                        assert!(code.parse::<Known>().is_ok(), "{code} of {}", path.display());
                        found += 1;
                    }
                }
            }
        }
        assert!(found > 10);
    }
}
