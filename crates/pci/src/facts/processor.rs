//! The processor: who made it, and whether it can run guests.

use ::host::{Measured, Sysroot};
use serde::Serialize;

use super::why;

const PATH: &str = "/proc/cpuinfo";
/// What is read of it at most, in bytes: a server with hundreds of processors has half a million.
const LIMIT: u64 = 16 << 20;

/// The first processor of a host; the others are of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Processor {
    /// `GenuineIntel`, `AuthenticAMD` and so on.
    pub vendor: String,
    /// The display family.
    pub family: u32,
    /// The display model.
    pub model: u32,
    /// The name that it gives itself.
    pub name: String,
    /// How it runs guests.
    pub virtualisation: Virtualisation,
    /// Whether the host is itself a guest.
    pub is_guest: bool,
}

/// How a processor runs guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Virtualisation {
    /// By Intel's VMX (flag `vmx`).
    Vmx,
    /// By AMD's SVM (flag `svm`).
    Svm,
    /// Not, as far as the kernel shows it.
    #[default]
    None,
}

impl Processor {
    /// Whether Intel made it.
    pub fn is_intel(&self) -> bool {
        self.vendor == "GenuineIntel"
    }

    /// Whether AMD made it, or Hygon after AMD's design.
    pub fn is_amd(&self) -> bool {
        matches!(self.vendor.as_str(), "AuthenticAMD" | "HygonGenuine")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut processor = Self::default();
        let mut lines = text.lines().skip_while(|line| line.trim().is_empty());
        let first = lines.by_ref().take_while(|line| !line.trim().is_empty());
        for (key, value) in first.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match key.trim() {
                "vendor_id" => processor.vendor = printable(value),
                "cpu family" => processor.family = value.parse().unwrap_or_default(),
                "model" => processor.model = value.parse().unwrap_or_default(),
                "model name" => processor.name = printable(value),
                "flags" => {
                    let has = |flag| value.split_whitespace().any(|word| word == flag);
                    processor.is_guest = has("hypervisor");
                    processor.virtualisation = match (has("vmx"), has("svm")) {
                        (true, _) => Virtualisation::Vmx,
                        (_, true) => Virtualisation::Svm,
                        _ => Virtualisation::None,
                    };
                }
                _ => {}
            }
        }
        (!processor.vendor.is_empty()).then_some(processor)
    }
}

pub(super) fn read(sysroot: &Sysroot) -> Measured<Processor> {
    let bytes = match sysroot.read_limited(PATH, LIMIT) {
        Ok(bytes) => bytes,
        Err(error) => return Measured::unmeasured(why(&error)),
    };
    match Processor::parse(&String::from_utf8_lossy(&bytes)) {
        Some(processor) => Measured::Known(processor),
        None => Measured::unmeasured(format!("{PATH} names no vendor")),
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_first_processor() {
        let text = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\nmodel\t\t: 113\n\
                    model name\t: AMD Ryzen 5 3600\nflags\t\t: fpu svm nx\n\n\
                    processor\t: 1\nvendor_id\t: Other\n";
        let processor = Processor::parse(text).unwrap();
        assert!(processor.is_amd() && !processor.is_guest);
        assert_eq!((processor.family, processor.model), (23, 113));
        assert_eq!(processor.virtualisation, Virtualisation::Svm);
        assert_eq!(Processor::parse("\u{0}garbage\n:::\n"), None);
    }
}
