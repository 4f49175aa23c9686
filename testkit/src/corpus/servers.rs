//! Servers: shared groups, reserved memory, many functions, many networks.

use super::parts::{CONFIG, intel, nic, nvme, open_port, port, root_disk};
use crate::acpi;
use crate::tree::{Bar, Function, Tree};

/// Two cards below ports of the chipset that do not keep them apart, and a free slot that would.
pub(super) fn no_acs() -> Tree {
    let mut tree = intel();
    tree.add(open_port("0000:00:1c.0", 3, 5));
    tree.add(open_port("0000:00:1c.4", 4, 5));
    tree.add(port("0000:00:01.0", 9, 2));
    tree.add(nic("0000:03:00.0").below("0000:00:1c.0").group(5));
    tree.add(nvme("0000:04:00.0").below("0000:00:1c.4").group(5));
    tree.disk("0000:04:00.0", "nvme0n1", 64 << 20);
    tree
}

pub(super) fn no_remapping() -> Tree {
    let mut tree = intel();
    tree.kernel("6.12.1-amd64", "root=/dev/sda1 nointremap", CONFIG);
    tree.interrupts(false);
    tree.add(port("0000:00:01.0", 1, 2));
    tree.add(nic("0000:01:00.0").below("0000:00:01.0").group(3));
    tree
}

/// A management controller shares memory with a network card.
pub(super) fn rmrr() -> Tree {
    let mut tree = intel();
    tree.processor("GenuineIntel", 6, 0x55, "Intel(R) Xeon(R) Silver 4110", "vmx");
    let scope = acpi::scope(1, 0, &[(1, 0), (0, 0)]);
    let table = acpi::dmar(
        acpi::DMAR_INTERRUPT_REMAPPING,
        &[acpi::drhd(0, 0xfed9_0000, true, &[]), acpi::rmrr(0, 0x791e_d000, 0x791f_cfff, &[scope])],
    );
    tree.firmware_table(Some(("DMAR", &table)));
    tree.add(port("0000:00:01.0", 1, 2));
    tree.add(nic("0000:01:00.0").below("0000:00:01.0").group(3).driver("e1000e"));
    tree.write(
        "/sys/kernel/iommu_groups/3/reserved_regions",
        "0x00000000791ed000 0x00000000791fcfff direct\n\
         0x00000000fee00000 0x00000000feefffff msi\n",
    );
    tree
}

pub(super) fn sr_iov() -> Tree {
    let mut tree = intel();
    tree.add(port("0000:00:01.0", 1, 2));
    let sr_iov = |function: Function| {
        function
            .bar(0, 0x38_0000_0000, 0x10_0000, Bar::Memory64)
            .attribute("numa_node", "0\n")
            .attribute("reset_method", "flr\n")
    };
    let physical = Function::new("0000:01:00.0", 0x8086, 0x10fb)
        .subsystem(0x8086, 0x0003)
        .class(0x02_0000)
        .below("0000:00:01.0")
        .group(3)
        .driver("ixgbe")
        .attribute("sriov_totalvfs", "63\n")
        .attribute("sriov_numvfs", "2\n");
    tree.add(sr_iov(physical));
    for (address, group) in [("0000:01:10.0", 4), ("0000:01:10.2", 5)] {
        let function = Function::new(address, 0x8086, 0x10ed)
            .subsystem(0x8086, 0x0003)
            .class(0x02_0000)
            .below("0000:00:01.0")
            .group(group)
            .virtual_of("0000:01:00.0");
        tree.add(sr_iov(function));
    }
    tree
}

/// A disk behind a volume management device, and a second ordinary domain.
pub(super) fn vmd_and_domains() -> Tree {
    let mut tree = intel();
    tree.add(Function::new("0000:00:0e.0", 0x8086, 0x467f).class(0x01_0400).group(2).driver("vmd"));
    tree.add(port("10000:e0:06.0", 0xe1, 2).below("0000:00:0e.0"));
    tree.add(nvme("10000:e1:00.0").below("10000:e0:06.0").group(2));
    tree.disk("10000:e1:00.0", "nvme0n1", 64 << 20);
    tree.add(Function::new("0001:00:00.0", 0x1ff4, 0xc000).class(0x02_0000).group(9));
    tree
}

/// The default route leads through a bridge over a bond of two cards; a third is only up.
pub(super) fn network_stack() -> Tree {
    let mut tree = intel();
    for (above, address, bus, group, name) in [
        ("0000:00:01.0", "0000:01:00.0", 1, 2, "eno1"),
        ("0000:00:01.1", "0000:02:00.0", 2, 4, "eno2"),
        ("0000:00:01.2", "0000:03:00.0", 3, 6, "eno3"),
        ("0000:00:01.3", "0000:04:00.0", 4, 8, "eno4"),
    ] {
        tree.add(port(above, bus, group));
        tree.add(nic(address).below(above).group(group + 1).driver("e1000e"));
        tree.interface(address, name, name != "eno4");
    }
    tree.upper_interface("bond0", &["eno1", "eno2"]);
    tree.upper_interface("br0", &["bond0"]);
    tree.route("br0", [0, 0, 0, 0], [192, 168, 1, 1], [0, 0, 0, 0]);
    root_disk(&mut tree, Some(20));
    tree
}
