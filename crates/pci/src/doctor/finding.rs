//! What was found about one condition.

use serde::{Serialize, Serializer};

use crate::Address;
use crate::refusal::Code;

/// What was found about one condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The condition.
    pub code: Code,
    /// What it is about.
    pub subject: Subject,
    /// The function that it is about, if it is about one.
    pub function: Option<Address>,
    /// Whether it holds.
    pub status: Status,
    /// Whether the card cannot be given away unless it holds.
    pub decides: bool,
    /// What was found, or why it could not be measured: one line.
    pub says: String,
    /// What was read.
    pub evidence: Vec<Evidence>,
    /// What to do, where it does not hold.
    pub remedy: Option<String>,
    /// A command that would measure it.
    pub settle: Option<String>,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// It could not be measured.
    Unmeasured,
}

/// What a finding is about; findings are shown in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// The processor and KVM.
    Processor,
    /// The IOMMU and interrupt remapping.
    Iommu,
    /// The card's IOMMU group.
    Group,
    /// The card itself.
    Card,
    /// What the host would lose.
    Loss,
    /// The kernel and its modules.
    Kernel,
    /// What this user may use.
    Access,
    /// QEMU and firmware for guests.
    Qemu,
}

impl Subject {
    /// All subjects.
    pub const ALL: [Self; 8] = [
        Self::Processor,
        Self::Iommu,
        Self::Group,
        Self::Card,
        Self::Loss,
        Self::Kernel,
        Self::Access,
        Self::Qemu,
    ];

    /// A heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Processor => "Processor",
            Self::Iommu => "IOMMU",
            Self::Group => "IOMMU group",
            Self::Card => "Card",
            Self::Loss => "What the host would lose",
            Self::Kernel => "Kernel",
            Self::Access => "Rights",
            Self::Qemu => "QEMU",
        }
    }
}

/// One thing that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The file, as the host names it.
    pub file: String,
    /// What it says.
    pub value: String,
}

/// Whether a card can be given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readiness {
    /// It can.
    Ready,
    /// A condition that decides could not be measured.
    Unknown,
    /// It cannot.
    NotReady,
}

impl Readiness {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Unknown => "unknown",
            Self::NotReady => "not ready",
        }
    }
}

impl Serialize for Readiness {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Returns what findings come to.
pub fn readiness<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Readiness {
    let decisive = findings.into_iter().filter(|finding| finding.decides);
    let each = decisive.map(|finding| match finding.status {
        Status::Pass => Readiness::Ready,
        Status::Unmeasured => Readiness::Unknown,
        Status::Fail => Readiness::NotReady,
    });
    each.max().unwrap_or(Readiness::Ready)
}

/// The longest text of a finding, in characters.
const LONGEST: usize = 400;

/// Makes text fit to print: some of it comes from files of the host.
fn tidy(text: impl Into<String>) -> String {
    let text: String = text.into();
    if text.len() <= LONGEST && !text.chars().any(char::is_control) {
        return text;
    }
    text.chars().filter(|char| !char.is_control()).take(LONGEST).collect()
}

impl Finding {
    fn new(code: Code, subject: Subject, status: Status, says: impl Into<String>) -> Self {
        Self {
            code,
            subject,
            function: None,
            status,
            decides: true,
            says: tidy(says),
            evidence: Vec::new(),
            remedy: None,
            settle: None,
        }
    }

    /// Returns a condition that holds.
    pub fn pass(code: Code, subject: Subject, says: impl Into<String>) -> Self {
        Self::new(code, subject, Status::Pass, says)
    }

    /// Returns a condition that does not hold.
    pub fn fail(code: Code, subject: Subject, says: impl Into<String>) -> Self {
        Self::new(code, subject, Status::Fail, says)
    }

    /// Returns a condition that could not be measured, and why.
    pub fn unmeasured(code: Code, subject: Subject, why: impl Into<String>) -> Self {
        Self::new(code, subject, Status::Unmeasured, why)
    }

    /// Says that a card can be given away all the same.
    #[must_use]
    pub fn advisory(mut self) -> Self {
        self.decides = false;
        self
    }

    /// Names the function that it is about.
    #[must_use]
    pub fn of(mut self, function: Address) -> Self {
        self.function = Some(function);
        self
    }

    /// Adds what was read.
    #[must_use]
    pub fn seen(mut self, file: impl Into<String>, value: impl Into<String>) -> Self {
        self.evidence.push(Evidence { file: tidy(file), value: tidy(value) });
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn remedy(mut self, text: impl Into<String>) -> Self {
        self.remedy = Some(tidy(text));
        self
    }

    /// Adds the command that would measure it.
    #[must_use]
    pub fn settle(mut self, command: impl Into<String>) -> Self {
        self.settle = Some(tidy(command));
        self
    }
}
