//! The codes of errors that are neither refusals nor findings, and what they mean.

use std::fmt;
use std::str::FromStr;

use pci::refusal::{Code, Explanation};

/// A code that `kireji explain` knows.
#[derive(Clone, Copy, Debug)]
pub enum Known {
    /// The code of a refusal or a finding.
    Code(Code),
    /// The code of another error.
    Trouble(&'static str, Explanation),
}

impl Known {
    /// All codes, those of refusals and findings first.
    pub fn all() -> impl Iterator<Item = Self> {
        let troubles = TROUBLES.iter().map(|(code, text)| Self::Trouble(code, *text));
        Code::ALL.iter().copied().map(Self::Code).chain(troubles)
    }

    /// Returns what the code means.
    pub fn explanation(self) -> Explanation {
        match self {
            Self::Code(code) => code.explanation(),
            Self::Trouble(_, text) => text,
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => code.fmt(f),
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
        "E-LEASE-DAMAGED",
        Explanation {
            title: "A lease cannot be used",
            meaning: "The file that tells how a card was before it was taken is damaged, was put \
                      there by somebody else, or was written by another version of kireji. The \
                      card is left alone: what it had is not known. Other cards are not affected.",
            remedy: "If another version of kireji took the card, return it with that. Otherwise see \
                     with `kireji show` which driver the card has, bring it where it belongs, and \
                     remove the file that `kireji status` names. A reboot does all of that.",
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
        "E-X86-GCC2",
        Explanation {
            title: "32-bit drivers are not checked or made yet",
            meaning: "The file or the image is for 32 bits (x86 or x86_gcc2). Such images are read, \
                      changed and run, and their panics are explained, but `driver check`, `install` \
                      and `new` know the loader and the compiler options of x86_64 only.",
            remedy: "Use an x86_64 image and compile for x86_64. `kireji image put` puts any file \
                     where you say.",
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
    fn no_code_is_explained_twice() {
        let mut codes: Vec<_> = Known::all().map(|code| code.to_string()).collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
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
