//! Hosts that are no ordinary machines.

use super::parts::{ACS, intel, nic, port};
use crate::tree::{Function, Port, Tree};

pub(super) fn virtual_machine() -> Tree {
    let mut tree = intel();
    tree.processor("GenuineIntel", 6, 0x8f, "QEMU Virtual CPU", "hypervisor");
    tree.remove("/sys/firmware/acpi/tables/DMAR");
    tree.remove("/dev/kvm");
    tree.qemu(None);
    super::parts::unused(&tree);
    tree.rights(Some(super::parts::GIB));
    tree.add(Function::new("0000:00:02.0", 0x1af4, 0x1000).class(0x02_0000).driver("virtio-pci"));
    tree
}

/// No PCI bus, and hardly anything else.
pub(super) fn no_pci() -> Tree {
    let tree = Tree::new();
    tree.remove("/sys/bus/pci");
    tree.processor("AuthenticAMD", 0x1a, 2, "AMD EPYC", "hypervisor");
    tree
}

/// Forty bridges above one card, each a port.
pub(super) fn deep() -> Tree {
    let mut tree = intel();
    let mut above = "0000:00:01.0".to_owned();
    tree.add(port(&above, 1, 2));
    for bus in 1..40u8 {
        let kind = if bus % 2 == 1 { Port::Upstream } else { Port::Downstream };
        let address = format!("0000:{bus:02x}:00.0");
        let bridge =
            Function::port(&address, kind, bus + 1).below(&above).group(3).config(0x100, &ACS);
        tree.add(bridge.driver("pcieport"));
        above = address;
    }
    tree.add(nic("0000:28:00.0").below(&above).group(4));
    tree
}

/// A container: the rules of its control group let nothing through, and much is hidden.
pub(super) fn container() -> Tree {
    let mut tree = intel();
    tree.add(port("0000:00:01.0", 1, 2));
    tree.add(nic("0000:01:00.0").below("0000:00:01.0").group(3));
    tree.write("/proc/self/cgroup", "5:devices:/box\n0::/\n");
    tree.write("/sys/fs/cgroup/devices/box/devices.list", "c 1:3 rwm\nc 5:0 rwm\n");
    tree.node("/dev/vfio/vfio", false);
    for path in [
        "/proc/cpuinfo",
        "/proc/interrupts",
        "/proc/iomem",
        "/proc/self/limits",
        "/proc/self/status",
        "/proc/cmdline",
        "/sys/class/iommu",
        "/sys/kernel/iommu_groups/3/reserved_regions",
        "/sys/kernel/security/lockdown",
        "/lib/modules/6.12.1-amd64/modules.builtin",
        "/lib/modules/6.12.1-amd64/modules.dep",
        "/usr/share/qemu/firmware",
    ] {
        tree.unreadable(path);
    }
    tree.forget_node("/dev/kvm");
    tree
}

/// Garbage in every file that is read, but for the names of directories.
pub(super) fn garbage() -> Tree {
    let mut tree = intel();
    tree.add(port("0000:00:01.0", 1, 2));
    tree.add(
        Function::new("0000:00:02.0", 0x8086, 0x3e92)
            .class(0x03_0000)
            .group(1)
            .attribute("reset_method", GARBAGE)
            .attribute("boot_vga", GARBAGE)
            .attribute("power_state", GARBAGE)
            .attribute("power/runtime_status", GARBAGE)
            .attribute("current_link_speed", GARBAGE)
            .attribute("numa_node", GARBAGE)
            .attribute("config", GARBAGE)
            .attribute("resource", GARBAGE),
    );
    super::parts::unused(&tree);
    for path in [
        "/proc/cpuinfo",
        "/proc/interrupts",
        "/proc/iomem",
        "/proc/cmdline",
        "/proc/swaps",
        "/proc/net/route",
        "/proc/self/mountinfo",
        "/proc/self/limits",
        "/proc/self/status",
        "/proc/self/cgroup",
        "/proc/bus/input/devices",
        "/proc/sys/kernel/osrelease",
        "/sys/firmware/acpi/tables/DMAR",
        "/sys/kernel/iommu_groups/1/type",
        "/sys/kernel/iommu_groups/1/reserved_regions",
        "/sys/kernel/security/lockdown",
        "/etc/fstab",
        "/etc/crypttab",
        "/usr/share/misc/pci.ids",
        "/usr/share/qemu/firmware/50.json",
        "/lib/modules/x/modules.dep",
    ] {
        tree.write(path, GARBAGE);
    }
    tree
}

/// A kernel that shows less of its functions, and a display card of which little is known.
pub(super) fn old_kernel() -> Tree {
    let mut tree = super::parts::amd();
    tree.processor("AuthenticAMD", 0x10, 4, "AMD Phenom(tm) II X4 955", "svm");
    tree.kernel("5.10.0-33-amd64", "root=/dev/sda1", super::parts::CONFIG);
    tree.add(port("0000:00:02.0", 1, 1).config(0x100, &[0; 8]));
    let rom = super::super::rom_bytes::legacy(0x1002, 0x68c8);
    let card = super::parts::display("0000:01:00.0").below("0000:00:02.0").group(1);
    tree.add(card.rom(0xfea2_0000, 0x1_0000, &rom));
    let device = tree.device("0000:01:00.0").to_owned();
    for attribute in ["reset_method", "power_state"] {
        tree.remove(&format!("{device}/{attribute}"));
    }
    tree.unreadable("/sys/bus/pci/devices/0000:01:00.0/rom");
    tree.unreadable("/proc/iomem");
    tree.remove("/sys/kernel/iommu_groups/1/type");
    tree
}

/// Two cards on one bus of conventional PCI: neither has a group or a reset of its own.
pub(super) fn conventional() -> Tree {
    let mut tree = intel();
    tree.add(Function::port("0000:00:1e.0", Port::Conventional, 7).group(5));
    for device in ["0000:07:01.0", "0000:07:02.0"] {
        let card = Function::new(device, 0x8086, 0x100e).class(0x02_0000).below("0000:00:1e.0");
        tree.add(card.group(5).attribute("reset_method", "bus\n"));
    }
    tree
}

const GARBAGE: &[u8] = b"\xff\xfe\x00 : \n=0x\t[-]\x1b[31m\n\xc3\x28 0xffffffffffffffffffffff zz\n";
