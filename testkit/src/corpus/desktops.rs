//! Desktops and a laptop.

use super::parts::{
    CONFIG, amd, audio, display, intel, nic, nvme, own_display, port, root_disk, unused,
};
use crate::acpi;
use crate::rom_bytes;
use crate::tree::{Bar, Function, Tree};

/// Everything passes: a display card of two functions that the host does not need.
pub(super) fn intel_ready() -> Tree {
    let mut tree = intel();
    own_display(&mut tree, true);
    tree.add(port("0000:00:01.0", 1, 2));
    let rom = rom_bytes::both(0x1002, 0x68c8);
    tree.add(display("0000:01:00.0").below("0000:00:01.0").group(3).rom(
        0xfea2_0000,
        0x1_0000,
        &rom,
    ));
    tree.add(audio("0000:01:00.1").below("0000:00:01.0").group(3).driver("snd_hda_intel"));
    tree.slot("1", "0000:01:00");
    root_disk(&mut tree, Some(4));
    tree.add(port("0000:00:1c.0", 2, 5));
    tree.add(nic("0000:02:00.0").below("0000:00:1c.0").group(6).driver("e1000e"));
    tree.interface("0000:02:00.0", "enp2s0", true);
    tree.route("enp2s0", [0, 0, 0, 0], [192, 168, 1, 1], [0, 0, 0, 0]);
    tree.add(port("0000:00:1d.0", 9, 7));
    tree.installed_kernel("6.11.0-amd64", true);
    tree.secure_boot(false, "none");
    tree.qemu(Some(("10.0.2", true)));
    tree
}

/// The same as an ordinary user sees it.
pub(super) fn intel_user() -> Tree {
    let mut tree = intel();
    tree.unreadable("/sys/firmware/acpi/tables/DMAR");
    // As hardened kernels have it.
    tree.unreadable("/proc/interrupts");
    tree.rights(Some(8 << 20));
    tree.node("/dev/kvm", false);
    tree.node("/dev/vfio/vfio", false);
    own_display(&mut tree, true);
    tree.add(port("0000:00:01.0", 1, 2).visible(64));
    tree.add(display("0000:01:00.0").below("0000:00:01.0").group(3).visible(64));
    tree.add(audio("0000:01:00.1").below("0000:00:01.0").group(3).visible(64));
    // Whether two devices of one bus are one card is in the port's capabilities.
    tree.add(port("0000:00:1b.0", 5, 8).visible(64));
    tree.add(port("0000:05:00.0", 6, 8).below("0000:00:1b.0").visible(64));
    tree.add(nic("0000:06:01.0").below("0000:05:00.0").group(9).visible(64));
    tree.add(nic("0000:06:02.0").below("0000:05:00.0").group(9).visible(64));
    root_disk(&mut tree, Some(4));
    tree.unreadable("/dev/sda");
    tree
}

pub(super) fn amd_firmware_off() -> Tree {
    let mut tree = amd();
    unused(&tree);
    tree.remove("/sys/firmware/acpi/tables/IVRS");
    // As a build without CONFIG_VFIO_PCI of QEMU's answers.
    tree.qemu(Some(("9.2.0", false)));
    tree.add(display("0000:01:00.0").driver("radeon").attribute("boot_vga", "1\n"));
    tree.write(
        "/proc/iomem",
        "00000000-00000000 : PCI Bus 0000:00\n  00000000-00000000 : 0000:01:00.0\n    \
         00000000-00000000 : efifb\n",
    );
    tree.connector("0000:01:00.0", "card0", "HDMI-A-1", true);
    tree
}

pub(super) fn amd_parameter_off() -> Tree {
    let mut tree = amd();
    unused(&tree);
    tree.kernel("6.12.1-arch1", "root=UUID=5f3c-11 amd_iommu=on iommu=off", CONFIG);
    tree.installed_kernel("6.6.63-1-lts", false);
    tree.add(display("0000:01:00.0").driver("radeon"));
    tree
}

pub(super) fn intel_parameter_off() -> Tree {
    let mut tree = intel();
    unused(&tree);
    tree.kernel("6.12.1-amd64", "root=/dev/sda1 intel_iommu=off", CONFIG);
    tree.add(display("0000:01:00.0").driver("radeon").attribute("power_state", "error\n"));
    tree
}

/// A display card with its own USB: four functions, one card.
pub(super) fn gpu_with_usb_c() -> Tree {
    let mut tree = intel();
    own_display(&mut tree, true);
    tree.add(port("0000:00:01.0", 1, 2));
    let function = |number: u8, device, class| {
        Function::new(&format!("0000:01:00.{number}"), 0x10de, device)
            .subsystem(0x1458, 0x37a7)
            .class(class)
            .below("0000:00:01.0")
            .group(3)
            .attribute("reset_method", "bus\n")
    };
    let rom = rom_bytes::legacy(0x10de, 0x1e87);
    tree.add(
        function(0, 0x1e87, 0x03_0000)
            .driver("nouveau")
            .bar(0, 0xf600_0000, 0x100_0000, Bar::Memory32)
            .bar(1, 0xe000_0000, 0x1000_0000, Bar::Memory64)
            .rom(0xf700_0000, 0x8_0000, &rom),
    );
    tree.add(function(1, 0x10f8, 0x04_0300).driver("snd_hda_intel"));
    tree.add(function(2, 0x1ad8, 0x0c_0330).driver("xhci_hcd"));
    tree.add(function(3, 0x1ad9, 0x0c_8000));
    tree.connector("0000:01:00.0", "card1", "HDMI-A-1", true);
    tree.monitor("card1", "HDMI-A-1", "LG TV");
    root_disk(&mut tree, Some(4));
    tree.remove("/usr/share/OVMF");
    tree
}

/// Two identical cards, one of which drives the screen.
pub(super) fn twins() -> Tree {
    let mut tree = amd();
    for (above, address, group, first) in
        [("0000:00:01.1", "0000:01:00.0", 1, true), ("0000:00:03.1", "0000:02:00.0", 3, false)]
    {
        let bus = if first { 1 } else { 2 };
        tree.add(port(above, bus, group));
        let card = display(address).below(above).group(group + 1);
        let flag = if first { "1\n" } else { "0\n" };
        let card = card.attribute("boot_vga", flag);
        tree.add(if first { card.driver("radeon") } else { card });
    }
    tree.connector("0000:01:00.0", "card0", "DP-1", true);
    tree.monitor("card0", "DP-1", "EIZO EV2450");
    tree
}

/// One display, one disk, one radio: nothing to spare.
pub(super) fn laptop() -> Tree {
    let mut tree = intel();
    let table = acpi::dmar(
        acpi::DMAR_INTERRUPT_REMAPPING,
        &[
            acpi::drhd(0, 0xfed9_0000, true, &[]),
            acpi::rmrr(0, 0x7b80_0000, 0x7fff_ffff, &[acpi::scope(1, 0, &[(2, 0)])]),
        ],
    );
    tree.firmware_table(Some(("DMAR", &table)));
    tree.add(
        Function::new("0000:00:02.0", 0x8086, 0x9bca)
            .class(0x03_0000)
            .group(1)
            .driver("i915")
            .attribute("boot_vga", "1\n")
            .attribute("reset_method", "flr\n"),
    );
    tree.connector("0000:00:02.0", "card0", "eDP-1", true);
    tree.monitor("card0", "eDP-1", "LP140WF");
    tree.write(
        "/sys/kernel/iommu_groups/1/reserved_regions",
        "0x000000007b800000 0x000000007fffffff direct-relaxable\n\
         0x00000000fee00000 0x00000000feefffff msi\n",
    );
    tree.add(port("0000:00:1d.0", 1, 2));
    tree.add(nvme("0000:01:00.0").below("0000:00:1d.0").group(3));
    tree.disk("0000:01:00.0", "nvme0n1", 64 << 20);
    tree.partition("nvme0n1", "nvme0n1p1", 32 << 20);
    tree.mount(&tree.block_number("nvme0n1p1"), "/", "ext4", "/dev/nvme0n1p1");
    tree.add(
        Function::new("0000:00:14.3", 0x8086, 0x02f0)
            .class(0x02_8000)
            .group(5)
            .driver("iwlwifi")
            .attribute("reset_method", "flr\n")
            .attribute("power_state", "D3hot\n")
            .attribute("power/runtime_status", "suspended\n"),
    );
    tree.interface("0000:00:14.3", "wlp0s20f3", true);
    tree.route("wlp0s20f3", [0, 0, 0, 0], [192, 168, 1, 1], [0, 0, 0, 0]);
    tree.secure_boot(true, "integrity");
    tree.rights(Some(8 << 20));
    tree
}
