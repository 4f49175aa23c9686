//! What decides for one function.

use ::host::{Measured, Sysroot};
use serde::Serialize;

use super::why;
use crate::rom::Rom;
use crate::{Address, Function, Region, RegionKind};

/// The largest ROM that is read, in bytes (PCI Local Bus 3.0, 6.2.5.2).
const LARGEST_ROM: u64 = 16 << 20;

/// What decides for one function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionFacts {
    /// Its regions.
    pub regions: Measured<Vec<Region>>,
    /// How the kernel can reset it, in the order in which it tries.
    pub reset_methods: Measured<Vec<String>>,
    /// How deep it sleeps.
    pub power: Power,
    /// The kinds of code in its option ROM; `None` where it has none.
    pub rom: Option<Measured<Vec<String>>>,
    /// Its link as it is and as it could be, in the kernel's words. `None` without one, and while
    /// the function sleeps: the kernel reads the link's registers.
    pub link: Option<LinkFacts>,
    /// The memory node that it is nearest to; `None` where the machine has only one.
    pub numa_node: Option<u32>,
    /// What it is to SR-IOV; `None` where it has nothing to do with it.
    pub sr_iov: Option<SrIovRole>,
    /// The name by which the kernel finds modules for it.
    pub modalias: Option<String>,
}

/// A link of PCI Express.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkFacts {
    /// Its speed now.
    pub speed: Option<String>,
    /// Its lanes now.
    pub width: Option<u8>,
    /// The highest speed that the function can have.
    pub max_speed: Option<String>,
    /// The most lanes that it can have.
    pub max_width: Option<u8>,
}

/// What a function is to SR-IOV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum SrIovRole {
    /// It has virtual functions, or can have them.
    Physical {
        /// How many it can have.
        total: u16,
        /// How many it has.
        number: u16,
    },
    /// It is one.
    Virtual {
        /// Whose.
        of: Address,
    },
}

/// What is known of a function's power without waking it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Power {
    /// `D0` to `D3cold`; `None` before Linux 5.11.
    pub state: Option<String>,
    /// Run-time power management: `active`, `suspended`, `unsupported`.
    pub runtime: Option<String>,
    /// Whether the power may be cut off entirely.
    pub may_lose_power: Option<bool>,
}

impl FunctionFacts {
    /// Reads the facts of a function. Nothing is woken: neither configuration space nor a region
    /// is read.
    pub fn read(sysroot: &Sysroot, function: &Function) -> Self {
        let path = Function::path(function.address);
        let regions = match Region::read_all(sysroot, function.address) {
            Ok(regions) => Measured::Known(regions),
            Err(error) => Measured::unmeasured(why(&error)),
        };
        let has_rom = regions
            .known()
            .is_some_and(|regions| regions.iter().any(|region| region.kind == RegionKind::Rom));
        let attribute = |name: &str| {
            let text = sysroot.optional_text(format!("{path}/{name}")).ok()??;
            Some(text.chars().filter(|char| !char.is_control()).take(40).collect::<String>())
        };
        let number = |name: &str| attribute(name)?.parse::<u16>().ok();
        let sleeps = attribute("power/runtime_status").as_deref() == Some("suspended");
        Self {
            link: if sleeps { None } else { link(attribute) },
            numa_node: attribute("numa_node").and_then(|text| text.parse().ok()),
            sr_iov: match (function.physical, number("sriov_totalvfs")) {
                (Some(of), _) => Some(SrIovRole::Virtual { of }),
                (None, Some(total)) => {
                    let number = number("sriov_numvfs").unwrap_or_default();
                    Some(SrIovRole::Physical { total, number })
                }
                (None, None) => None,
            },
            modalias: sysroot.optional_text(format!("{path}/modalias")).ok().flatten(),
            rom: has_rom.then(|| rom(sysroot, &path)),
            reset_methods: reset_methods(sysroot, &path),
            power: Power {
                state: attribute("power_state"),
                runtime: attribute("power/runtime_status"),
                may_lose_power: attribute("d3cold_allowed").map(|text| text == "1"),
            },
            regions,
        }
    }
}

/// The kernel shows `Unknown` where a register says nothing (drivers/pci/pci-sysfs.c).
fn link(attribute: impl Fn(&str) -> Option<String>) -> Option<LinkFacts> {
    let speed =
        |name| attribute(name).filter(|text| text.starts_with(|c: char| c.is_ascii_digit()));
    let width = |name| attribute(name)?.parse().ok().filter(|width| (1..=64).contains(width));
    let link = LinkFacts {
        speed: speed("current_link_speed"),
        width: width("current_link_width"),
        max_speed: speed("max_link_speed"),
        max_width: width("max_link_width"),
    };
    (link != LinkFacts::default()).then_some(link)
}

/// The kernel hides `reset_method` from a function that it cannot reset
/// (drivers/pci/pci.c, pci_dev_reset_method_attr_is_visible), and before 5.15 from all.
fn reset_methods(sysroot: &Sysroot, path: &str) -> Measured<Vec<String>> {
    match sysroot.optional_text(format!("{path}/reset_method")) {
        Ok(Some(text)) => {
            let plain = |method: &&str| method.bytes().all(|byte| byte.is_ascii_graphic());
            let methods = text.split_whitespace().filter(plain);
            return Measured::Known(methods.map(str::to_owned).collect());
        }
        Ok(None) => {}
        Err(error) => return Measured::unmeasured(why(&error)),
    }
    let release = sysroot.optional_text("/proc/sys/kernel/osrelease").ok().flatten();
    let release = release.unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (5, 15) => {
            Measured::Known(Vec::new())
        }
        _ => Measured::unmeasured("a kernel before 5.15 does not show them"),
    }
}

/// The ROM can be read only after it was switched on by a write, which looking does not make
/// (drivers/pci/pci-sysfs.c, pci_read_rom); a captured host may hold it.
fn rom(sysroot: &Sysroot, path: &str) -> Measured<Vec<String>> {
    const SHUT: &str = "the option ROM can be read only after a write switched it on";
    if sysroot.is_live() {
        return Measured::unmeasured(SHUT);
    }
    match sysroot.read_limited(format!("{path}/rom"), LARGEST_ROM) {
        Ok(bytes) => match Rom::parse(&bytes) {
            Ok(rom) => {
                Measured::Known(rom.images.iter().map(|image| image.kind.to_string()).collect())
            }
            Err(error) => Measured::unmeasured(format!("{path}/rom: {error}")),
        },
        Err(error) if error.is_absent() => Measured::unmeasured(SHUT),
        Err(error) => Measured::unmeasured(why(&error)),
    }
}
