//! What a self-test found, as plain data.

use host::Measured;
use pci::config::{Capabilities, HeaderType};
use pci::{Address, Ids, RegionKind};
use serde::{Serialize, Serializer};

use crate::dma::{Aperture, IovaRange};
use crate::error::Error;
use crate::group::Choice;
use crate::interrupt::{Interrupt, InterruptInfo};
use crate::reset::Dependent;
use crate::take::Unwell;

/// All that a self-test found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The function.
    pub address: Address,
    /// The interface that it was opened through, and why that one.
    pub interface: Option<Choice>,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// What was checked, in order.
    pub checks: Vec<Check>,
    /// Its configuration space as VFIO shows it.
    pub config: Option<ConfigReport>,
    /// Its base address registers.
    pub bars: Vec<BarReport>,
    /// Its kinds of interrupt.
    pub interrupts: Vec<InterruptReport>,
    /// What it can be given for DMA.
    pub dma: Option<DmaReport>,
    /// How it can be reset.
    pub reset: Option<ResetReport>,
    /// Why it could not be opened, where that was so.
    #[serde(skip)]
    pub refusal: Option<Error>,
}

impl Report {
    /// Whether the card could be driven: it was opened, and no check failed. Checks that could not
    /// be made do not count.
    pub fn passed(&self) -> bool {
        let mut outcomes = self.checks.iter().map(|check| &check.outcome);
        self.refusal.is_none() && !outcomes.any(|outcome| matches!(outcome, Outcome::Fail(_)))
    }

    /// Why the function should not go back to a native driver, as far as the test has found out
    /// what sysfs does not show: a reset was made, and failed.
    pub fn unwell(&self) -> Option<Unwell> {
        let reset = self.checks.iter().find(|check| check.what == Subject::Reset);
        match reset.map(|check| &check.outcome) {
            Some(Outcome::Fail(why)) => Some(Unwell::ResetFailed(self.address, why.clone())),
            _ => None,
        }
    }
}

/// One checked condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    #[serde(flatten)]
    pub what: Subject,
    /// How it came out.
    pub outcome: Outcome,
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", content = "which", rename_all = "kebab-case")]
pub enum Subject {
    /// The group is viable and the function opens.
    Open,
    /// The configuration space answers, with the ids that sysfs shows.
    Config,
    /// Both capability lists are well formed.
    Capabilities,
    /// Bus mastering is off, so that the card does no DMA of its own accord.
    BusMaster,
    /// A base address register is as large as sysfs says, and can be mapped if the kernel says so.
    Bar(u8),
    /// A kind of interrupt can be enabled, reaches us, and can be disabled.
    Interrupt(Interrupt),
    /// Memory within the aperture can be mapped and unmapped.
    Dma,
    /// The function can be reset, and answers afterwards.
    Reset,
}

/// How a check came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it must be.
    Pass,
    /// Not as it must be.
    Fail(String),
    /// It was not checked, and why.
    Unmeasured(String),
}

/// A configuration space as VFIO shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigReport {
    /// Its size in bytes: 256, or 4096 with PCI Express.
    pub size: u64,
    /// Vendor and device id.
    pub ids: Option<Ids>,
    /// The layout of its header.
    pub header: Option<HeaderType>,
    /// Its capability lists.
    pub capabilities: Capabilities,
}

/// A base address register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BarReport {
    /// Its number.
    pub index: u8,
    /// What it is.
    pub kind: RegionKind,
    /// Whether reads have no side effects.
    pub prefetchable: bool,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it holds the MSI-X table.
    pub msix_table: bool,
    /// Whether it can be mapped.
    pub mapping: BarMapping,
}

/// Whether a base address register can be mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BarMapping {
    /// A page of it was mapped, and unmapped again.
    Mapped,
    /// The kernel does not offer it, and why.
    Not(String),
    /// The kernel offers it, but it failed.
    Failed(String),
}

/// A kind of interrupt that the function has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct InterruptReport {
    /// The kind.
    pub kind: Interrupt,
    /// What the kernel says of it.
    #[serde(flatten)]
    pub info: InterruptInfo,
}

/// What the function can be given for DMA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DmaReport {
    /// The addresses that it can use; `None` where the kernel does not say.
    pub ranges: Option<Vec<IovaRange>>,
    /// What addresses and sizes must be multiples of, in bytes.
    pub alignment: u64,
    /// How many mappings there can be; `None` where the kernel does not say.
    pub mappings: Option<u32>,
}

impl From<Aperture> for DmaReport {
    fn from(aperture: Aperture) -> Self {
        let Aperture { ranges, alignment, mappings_left } = aperture;
        Self { ranges, alignment, mappings: mappings_left }
    }
}

impl Serialize for IovaRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [format!("{:#x}", self.first), format!("{:#x}", self.last)].serialize(serializer)
    }
}

/// How the function can be reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResetReport {
    /// Whether it can be reset alone. The kernel tried when it was opened.
    pub alone: bool,
    /// The methods that the kernel has for that, as sysfs lists them (since Linux 5.15).
    pub methods: Measured<Vec<String>>,
    /// What a bus or slot reset would touch; `None` where there is no such reset.
    pub bus_scope: Measured<Option<Vec<Dependent>>>,
}
