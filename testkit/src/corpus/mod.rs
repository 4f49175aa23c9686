//! Synthetic hosts of many kinds, each with the source of what is particular about it.
//!
//! Every command that only looks is run on each of them, and its output is compared with a file.

mod desktops;
mod in_use;
mod odd;
mod parts;
mod servers;
mod storage;

use crate::tree::Tree;

/// One synthetic host.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Its name.
    pub name: &'static str,
    /// Where what is particular about it comes from.
    pub source: &'static str,
    /// The cards that commands about one card are run on.
    pub cards: &'static [&'static str],
    make: fn() -> Tree,
}

impl Sample {
    /// Makes the host.
    pub fn tree(&self) -> Tree {
        let tree = (self.make)();
        tree.source(self.source);
        if self.name != "garbage" {
            tree.write("/usr/share/misc/pci.ids", include_str!("pci.ids"));
        }
        tree
    }
}

/// All of them, by name.
pub const ALL: &[Sample] = &[
    Sample {
        name: "amd-firmware-off",
        source: "AMD IOMMU 48882 3.08, 5: without IVRS the firmware describes none; family 0x19 of \
                 arch/x86/kernel/cpu/amd.c is Zen 3",
        cards: &["01:00.0"],
        make: desktops::amd_firmware_off,
    },
    Sample {
        name: "amd-parameter-off",
        source: "drivers/iommu/amd/init.c, parse_amd_iommu_options: `on` is no value, `off` is one",
        cards: &["01:00.0"],
        make: desktops::amd_parameter_off,
    },
    Sample {
        name: "btrfs-raid",
        source: "fs/btrfs/sysfs.c: devices below the file system's UUID; mountinfo shows 0:NN",
        cards: &["02:00.0"],
        make: storage::btrfs_raid,
    },
    Sample {
        name: "container",
        source: "Documentation/admin-guide/cgroup-v1/devices.rst, and a container that hides /sys",
        cards: &["01:00.0"],
        make: odd::container,
    },
    Sample {
        name: "conventional",
        source: "drivers/pci/search.c, pci_for_each_dma_alias: behind a conventional bridge all have \
                 the bridge's requester id",
        cards: &["07:01.0"],
        make: odd::conventional,
    },
    Sample {
        name: "deep",
        source: "PCI-to-PCI Bridge 1.2: nothing limits depth but 256 buses",
        cards: &["28:00.0"],
        make: odd::deep,
    },
    Sample {
        name: "garbage",
        source: "no kernel writes so; a captured host may hold anything",
        cards: &["00:02.0"],
        make: odd::garbage,
    },
    Sample {
        name: "gpu-with-usb-c",
        source: "a display card of four functions as NVIDIA's TU104 has: display, audio, xHCI, UCSI \
                 (pci.ids, 10de:1e87, 10f8, 1ad8, 1ad9)",
        cards: &["01:00.0"],
        make: desktops::gpu_with_usb_c,
    },
    Sample {
        name: "in-use",
        source: "one card for each use that is refused: fs/nfs, drivers/md, net/core, drivers/hid; \
                 NTFS's boot sector begins with its name (fs/ntfs3/ntfs.h)",
        cards: &["00:1f.0", "01:00.0", "02:00.0", "03:00.0", "04:00.0", "05:00.0", "06:00.0"],
        make: in_use::all,
    },
    Sample {
        name: "intel-parameter-off",
        source: "drivers/iommu/intel/iommu.c, intel_iommu_setup",
        cards: &["01:00.0"],
        make: desktops::intel_parameter_off,
    },
    Sample {
        name: "intel-ready",
        source: "Intel VT-d 4.1, 8; reset methods and power states as drivers/pci names them",
        cards: &["01:00.0"],
        make: desktops::intel_ready,
    },
    Sample {
        name: "intel-user",
        source: "drivers/pci/pci-sysfs.c, pci_read_config: 64 bytes without CAP_SYS_ADMIN; ACPI \
                 tables are of mode 0400",
        cards: &["01:00.0"],
        make: desktops::intel_user,
    },
    Sample {
        name: "laptop",
        source: "drivers/gpu/drm/drm_connector.c: an internal panel is eDP; Secure Boot's variable \
                 of UEFI 2.10, 3.3",
        cards: &["00:02.0"],
        make: desktops::laptop,
    },
    Sample {
        name: "lvm-on-luks",
        source: "drivers/md/dm-sysfs.c; holders and slaves of block/holder.c",
        cards: &["01:00.0"],
        make: storage::lvm_on_luks,
    },
    Sample {
        name: "network-stack",
        source: "net/core/dev.c: links upper_* and master; net/ipv4/fib_trie.c: the table of routes",
        cards: &["01:00.0"],
        make: servers::network_stack,
    },
    Sample {
        name: "no-acs",
        source: "drivers/iommu/iommu.c, pci_device_group: without ACS the functions of one port's \
                 siblings share a group",
        cards: &["03:00.0"],
        make: servers::no_acs,
    },
    Sample {
        name: "no-pci",
        source: "a virtual machine of Firecracker's before it had PCI: no /sys/bus/pci/devices",
        cards: &[],
        make: odd::no_pci,
    },
    Sample {
        name: "no-remapping",
        source: "drivers/iommu/irq_remapping.c, setup_nointremap",
        cards: &["01:00.0"],
        make: servers::no_remapping,
    },
    Sample {
        name: "old-kernel",
        source: "Documentation/ABI/testing/sysfs-bus-pci: power_state is of 5.11, reset_method of \
                 5.15; family 0x10 of arch/x86/kernel/cpu/amd.c is before Zen",
        cards: &["01:00.0"],
        make: odd::old_kernel,
    },
    Sample {
        name: "rmrr",
        source: "Intel VT-d 4.1, 8.4; drivers/iommu/intel/iommu.c: USB and graphics are relaxable, \
                 network is not",
        cards: &["01:00.0"],
        make: servers::rmrr,
    },
    Sample {
        name: "sr-iov",
        source: "drivers/pci/iov.c: physfn and virtfn links; an 82599 with two virtual functions",
        cards: &["01:00.0"],
        make: servers::sr_iov,
    },
    Sample {
        name: "twins",
        source: "two cards with one id, the commonest trap of binding by id",
        cards: &["02:00.0"],
        make: desktops::twins,
    },
    Sample {
        name: "virtual-machine",
        source: "flag `hypervisor` of arch/x86/include/asm/cpufeatures.h; QEMU without an IOMMU",
        cards: &["00:02.0"],
        make: odd::virtual_machine,
    },
    Sample {
        name: "vmd-and-domains",
        source: "drivers/pci/controller/vmd.c: domains from 0x10000 on",
        cards: &["10000:e1:00.0"],
        make: servers::vmd_and_domains,
    },
    Sample {
        name: "zfs",
        source: "mountinfo of OpenZFS, and its label at 128 KiB (include/sys/vdev_impl.h)",
        cards: &["01:00.0"],
        make: storage::zfs,
    },
];
