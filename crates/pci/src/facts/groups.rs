//! IOMMU groups as sysfs shows them.

use ::host::{Measured, Sysroot};
use serde::Serialize;

use super::{optional, why};

/// Where they are (Documentation/ABI/testing/sysfs-kernel-iommu_groups of the kernel).
const GROUPS: &str = "/sys/kernel/iommu_groups";

/// One IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its number.
    pub number: u32,
    /// The kind of translation its devices have while the host uses them: `DMA`, `DMA-FQ`,
    /// `identity` and so on. `None` before Linux 5.11.
    pub kind: Measured<Option<String>>,
    /// What is not translated.
    pub reserved: Measured<Vec<ReservedRegion>>,
}

/// A range of addresses that is not translated as others are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReservedRegion {
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
    /// `direct`, `direct-relaxable`, `reserved` or `msi`.
    pub kind: String,
}

impl ReservedRegion {
    /// Whether the firmware needs it mapped one to one whatever a guest says, for which VFIO
    /// refuses the group (drivers/iommu/iommu.c, iommu_group_has_isolated_msi and
    /// drivers/iommu/intel/iommu.c, device_rmrr_is_relaxable).
    pub fn is_direct(&self) -> bool {
        self.kind == "direct"
    }
}

impl Group {
    /// The directory of a group.
    pub fn path(number: u32) -> String {
        format!("{GROUPS}/{number}")
    }

    /// Reads a group.
    pub fn read(sysroot: &Sysroot, number: u32) -> Self {
        let path = Self::path(number);
        let reserved = match sysroot.text(format!("{path}/reserved_regions")) {
            Ok(text) => Measured::Known(text.lines().filter_map(region).collect()),
            Err(error) => Measured::unmeasured(why(&error)),
        };
        Self { number, kind: optional(sysroot, &format!("{path}/type")), reserved }
    }
}

fn region(line: &str) -> Option<ReservedRegion> {
    let mut words = line.split_whitespace();
    let mut number = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let (start, end) = (number()?, number()?);
    let kind = words.next()?.chars().filter(char::is_ascii_graphic).take(32).collect();
    Some(ReservedRegion { start, end, kind })
}

#[cfg(test)]
mod tests {
    use testkit::tree::{Function, Tree};

    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let mut tree = Tree::new();
        tree.add(Function::new("0000:00:02.0", 0x8086, 0x3e92).group(3));
        tree.write(
            "/sys/kernel/iommu_groups/3/reserved_regions",
            "0x000000007b800000 0x000000007fffffff direct\ngarbage\n\
             0x00000000fee00000 0x00000000feefffff msi\n",
        );
        let group = Group::read(&tree.sysroot(), 3);
        assert_eq!(group.kind, Measured::Known(Some("DMA-FQ".to_owned())));
        let reserved = group.reserved.known().unwrap();
        assert_eq!(reserved.len(), 2);
        assert!(reserved[0].is_direct() && !reserved[1].is_direct());
        assert!(Group::read(&tree.sysroot(), 4).reserved.known().is_none());
    }
}
