//! What the hosts are put together from.

use crate::acpi;
use crate::tree::{Bar, Function, Port, Tree};

pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// Options as distributions set them.
pub(super) const CONFIG: &str = "CONFIG_MODULES=y\nCONFIG_AMD_IOMMU=y\nCONFIG_INTEL_IOMMU=y\n\
    CONFIG_INTEL_IOMMU_DEFAULT_ON=y\nCONFIG_IRQ_REMAP=y\nCONFIG_VFIO_PCI=m\nCONFIG_IOMMUFD=m\n";

/// Extended capability 0x000d at 0x100 with source validation, request and completion redirect and
/// upstream forwarding switched on.
pub(super) const ACS: [u8; 8] = [0x0d, 0, 1, 0, 0x1f, 0, 0x1d, 0];

/// An Intel desktop with its IOMMU in use, seen by root.
pub(super) fn intel() -> Tree {
    let mut tree = Tree::new();
    tree.processor("GenuineIntel", 6, 0x9e, "Intel(R) Core(TM) i7-8700", "vmx");
    let table = acpi::dmar(
        acpi::DMAR_INTERRUPT_REMAPPING,
        &[
            acpi::drhd(0, 0xfed9_0000, false, &[acpi::scope(1, 0, &[(2, 0)])]),
            acpi::drhd(0, 0xfed9_1000, true, &[]),
        ],
    );
    tree.firmware_table(Some(("DMAR", &table)));
    tree.kernel("6.12.1-amd64", "BOOT_IMAGE=/vmlinuz-6.12.1 root=UUID=5f3c-11 quiet", CONFIG);
    tree.iommu("dmar0");
    tree.iommu("dmar1");
    tree.interrupts(true);
    common(&tree);
    tree.add(Function::new("0000:00:00.0", 0x8086, 0x3ec2).class(0x06_0000).group(0));
    tree
}

/// An AMD desktop with its IOMMU in use, seen by root.
pub(super) fn amd() -> Tree {
    let mut tree = Tree::new();
    tree.processor("AuthenticAMD", 0x19, 0x21, "AMD Ryzen 7 5800X", "svm");
    let unit = acpi::ivhd(0x11, 0, 2, 0xfeb8_0000, &[&[3, 8, 0, 0], &[4, 0xff, 0xff, 0]]);
    tree.firmware_table(Some(("IVRS", &acpi::ivrs(&[unit]))));
    tree.kernel("6.12.1-arch1", "root=UUID=5f3c-11 rw", CONFIG);
    tree.iommu("ivhd0");
    tree.interrupts(true);
    common(&tree);
    tree.add(Function::new("0000:00:00.0", 0x1022, 0x1480).class(0x06_0000).group(0));
    tree
}

/// Takes the IOMMU out of use: no unit, no remapping. Functions must have no group.
pub(super) fn unused(tree: &Tree) {
    for unit in ["dmar0", "dmar1", "ivhd0"] {
        tree.remove(&format!("/sys/class/iommu/{unit}"));
    }
    tree.interrupts(false);
}

fn common(tree: &Tree) {
    tree.rights(None);
    tree.node("/dev/kvm", true);
    tree.node("/dev/vfio/vfio", true);
    tree.node("/dev/iommu", true);
    tree.write("/usr/share/OVMF/OVMF_CODE_4M.fd", "");
    tree.write("/usr/share/OVMF/OVMF_VARS_4M.fd", "");
    tree.keyboard(None, "AT Translated Set 2 keyboard");
}

/// A root port with a slot, that isolates.
pub(super) fn port(address: &str, bus: u8, group: u32) -> Function {
    Function::port(address, Port::Root, bus)
        .slot()
        .driver("pcieport")
        .group(group)
        .config(0x100, &ACS)
}

/// A root port without ACS.
pub(super) fn open_port(address: &str, bus: u8, group: u32) -> Function {
    Function::port(address, Port::Root, bus).slot().driver("pcieport").group(group)
}

/// Intel's 82574L network chip.
pub(super) fn nic(address: &str) -> Function {
    Function::new(address, 0x8086, 0x10d3)
        .subsystem(0x8086, 0xa01f)
        .class(0x02_0000)
        .bar(0, 0xfe40_0000, 0x2_0000, Bar::Memory32)
        .bar(2, 0xe000, 0x20, Bar::Io)
        .express()
        .attribute("reset_method", "flr bus\n")
}

/// A Samsung NVMe disk's controller.
pub(super) fn nvme(address: &str) -> Function {
    Function::new(address, 0x144d, 0xa80a)
        .subsystem(0x144d, 0xa801)
        .class(0x01_0802)
        .driver("nvme")
        .bar(0, 0xfe60_0000, 0x4000, Bar::Memory64)
        .express()
        .attribute("reset_method", "flr bus\n")
}

/// Display and audio of an AMD card, the one of the old wiki page.
pub(super) fn display(address: &str) -> Function {
    Function::new(address, 0x1002, 0x68c8)
        .subsystem(0x1002, 0x2245)
        .class(0x03_0000)
        .bar(0, 0xe000_0000, 0x1000_0000, Bar::Memory64)
        .bar(2, 0xfea0_0000, 0x2_0000, Bar::Memory32)
        .bar(4, 0xe000, 0x100, Bar::Io)
        .express()
        .attribute("boot_vga", "0\n")
        .attribute("reset_method", "pm bus\n")
}

pub(super) fn audio(address: &str) -> Function {
    Function::new(address, 0x1002, 0xaa60)
        .subsystem(0x1002, 0xaa60)
        .class(0x04_0300)
        .bar(0, 0xfea4_0000, 0x4000, Bar::Memory64)
        .attribute("reset_method", "pm bus\n")
}

/// A processor's own display, with a screen.
pub(super) fn own_display(tree: &mut Tree, screen: bool) {
    tree.add(
        Function::new("0000:00:02.0", 0x8086, 0x3e92)
            .class(0x03_0000)
            .group(1)
            .driver("i915")
            .bar(0, 0xd000_0000, 0x100_0000, Bar::Memory64)
            .attribute("boot_vga", "1\n")
            .attribute("reset_method", "flr\n"),
    );
    tree.connector("0000:00:02.0", "card0", "DP-1", screen);
    if screen {
        tree.monitor("card0", "DP-1", "DELL U2412");
    }
}

/// A disk behind the chipset's controller, with the root file system.
pub(super) fn root_disk(tree: &mut Tree, group: Option<u32>) {
    let controller = Function::new("0000:00:17.0", 0x8086, 0xa352).class(0x01_0601).driver("ahci");
    tree.add(match group {
        Some(group) => controller.group(group),
        None => controller,
    });
    tree.disk("0000:00:17.0", "sda", 64 * MIB);
    tree.partition("sda", "sda1", 32 * MIB);
    tree.mount(&tree.block_number("sda1"), "/", "ext4", "/dev/sda1");
}
