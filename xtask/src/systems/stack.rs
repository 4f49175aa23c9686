//! What a system is started by, as data: packages, settings, and how the boot loader gets on the disk.

/// What a disk starts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// A BIOS, which starts GRUB from sectors of the disk: `finish` leaves `boot.img` and `core.img`
    /// in `/boot/grub/i386-pc`, as grub-install(8) does.
    Bios,
    /// UEFI, which starts what is on the EFI system partition: `finish` leaves that in `/boot/efi`.
    Uefi,
}

/// A file of the system.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Where, from the root.
    pub path: &'static str,
    /// What is in it.
    pub text: &'static str,
}

const fn text(path: &'static str, text: &'static str) -> Text {
    Text { path, text }
}

/// How a system boots.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    /// Its name, which is that of its directory in the cache.
    pub name: &'static str,
    /// The firmware.
    pub firmware: Firmware,
    /// The suite of Debian, where that of the lab is too old.
    pub suite: Option<&'static str>,
    /// The packages beside those that every system has.
    pub packages: &'static [&'static str],
    /// What is there before the packages are installed, beside what every system has. Settings in
    /// directories of drop-ins, since a package asks about a file that is there already.
    pub files: &'static [Text],
    /// What is done in the system once its packages are there.
    pub finish: &'static str,
}

/// What every system has.
pub const PACKAGES: [&str; 5] = ["kmod", "linux-image-amd64", "pciutils", "systemd-sysv", "udev"];

/// Every system mounts the payload and the tools disk, and starts the agent of the payload.
pub const FILES: [Text; 3] = [
    text("etc/hostname", "rig\n"),
    text(
        "etc/fstab",
        "LABEL=root / ext4 noatime 0 0\n\
         LABEL=kireji-payload /payload ext4 ro,x-systemd.device-timeout=600 0 0\n\
         LABEL=kireji-tools /lab ext4 ro,x-systemd.device-timeout=600 0 0\n",
    ),
    text(
        "etc/systemd/system/kireji-rig.service",
        "[Unit]\n\
         Description=agent of the rig\n\
         After=local-fs.target systemd-tmpfiles-setup.service\n\n\
         [Service]\n\
         ExecStart=/payload/agent\n\n\
         [Install]\n\
         WantedBy=multi-user.target\n",
    ),
];

/// Units that a machine without network, screen and user only waits for.
pub const MASKED: [&str; 19] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "ldconfig.service",
    "modprobe@drm.service",
    "serial-getty@ttyS0.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-networkd-wait-online.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
];

/// The kernel's parameters, where the menu is GRUB's. For `no_timer_check` see the command line of
/// the other rigs.
const GRUB: Text = text(
    "etc/default/grub.d/rig.cfg",
    "GRUB_TIMEOUT=0\n\
     GRUB_RECORDFAIL_TIMEOUT=0\n\
     GRUB_TERMINAL=serial\n\
     GRUB_SERIAL_COMMAND=\"serial --speed=115200 --unit=0\"\n\
     GRUB_DISABLE_OS_PROBER=true\n\
     GRUB_CMDLINE_LINUX=\"console=ttyS0 no_timer_check\"\n",
);

/// Few modules, lightly packed: an emulated processor takes minutes for what is usual. The type of the
/// root's file system is asked of its disk else, and there is none while the packages are installed.
const INITRAMFS_TOOLS: [Text; 2] = [
    text(
        "etc/initramfs-tools/conf.d/rig",
        "MODULES=list\nCOMPRESS=gzip\nCOMPRESSLEVEL=1\nFSTYPE=ext4\n",
    ),
    text("usr/share/initramfs-tools/modules.d/rig", "virtio_pci\nvirtio_blk\next4\n"),
];

const DRACUT: Text = text(
    "etc/dracut.conf.d/rig.conf",
    "hostonly=\"no\"\n\
     compress=\"gzip -1\"\n\
     drivers=\"virtio_pci virtio_blk ext4\"\n",
);

/// GRUB as grub-install(8) would have put it, which needs the disk; and a first menu, which the
/// system's own update-grub(8) replaces.
const GRUB_BIOS: &str = include_str!("grub-bios.sh");

/// systemd-boot(7), and what kernel-install(8) makes for it of the initramfs: that is called by the
/// package's hook of update-initramfs(8).
const SYSTEMD_BOOT: &str = concat!("entries=yes\n", include_str!("systemd-boot.sh"));
const SYSTEMD_BOOT_UKI: &str = concat!("entries=no\n", include_str!("systemd-boot.sh"));

/// GRUB as grub-install(8) would have put it for UEFI, whose menu is what is in `/boot/loader/entries`,
/// as Fedora's is: by its command `blscfg`, which is in GRUB 2.14 (its manual, "blscfg"). It starts an
/// entry once as the menus of grub-mkconfig do (00_header).
const GRUB_BLS: &str = include_str!("grub-bls-uefi.sh");

/// The command line that kernel-install(8) takes. The IOMMU is off, so that there is a parameter to
/// change.
const KERNEL_INSTALL: Text =
    text("etc/kernel/cmdline", "root=LABEL=root ro console=ttyS0 no_timer_check intel_iommu=off\n");

/// The stacks, in the order of how much each is used.
pub const STACKS: [Stack; 5] = [
    Stack {
        name: "initramfs-tools-grub",
        firmware: Firmware::Bios,
        suite: None,
        packages: &["busybox", "grub-pc", "initramfs-tools"],
        files: &[GRUB, INITRAMFS_TOOLS[0], INITRAMFS_TOOLS[1]],
        finish: GRUB_BIOS,
    },
    Stack {
        name: "dracut-grub",
        firmware: Firmware::Bios,
        suite: None,
        packages: &["dracut", "grub-pc"],
        files: &[GRUB, DRACUT],
        finish: GRUB_BIOS,
    },
    Stack {
        name: "initramfs-tools-systemd-boot",
        firmware: Firmware::Uefi,
        suite: None,
        packages: &["busybox", "initramfs-tools", "systemd-boot", "systemd-boot-efi"],
        files: &[KERNEL_INSTALL, INITRAMFS_TOOLS[0], INITRAMFS_TOOLS[1]],
        finish: SYSTEMD_BOOT,
    },
    Stack {
        name: "initramfs-tools-uki",
        firmware: Firmware::Uefi,
        suite: None,
        packages: &[
            "busybox",
            "initramfs-tools",
            "systemd-boot",
            "systemd-boot-efi",
            "systemd-ukify",
        ],
        files: &[
            KERNEL_INSTALL,
            text("etc/kernel/install.conf", "layout=uki\n"),
            INITRAMFS_TOOLS[0],
            INITRAMFS_TOOLS[1],
        ],
        finish: SYSTEMD_BOOT_UKI,
    },
    Stack {
        name: "dracut-grub-bls-uefi",
        firmware: Firmware::Uefi,
        suite: Some("forky"),
        packages: &["dracut", "grub-efi-amd64-bin", "grub2-common"],
        files: &[
            KERNEL_INSTALL,
            text(
                "etc/default/grub",
                "GRUB_CMDLINE_LINUX=\"console=ttyS0 no_timer_check intel_iommu=off\"\n\
                 GRUB_ENABLE_BLSCFG=true\n",
            ),
            DRACUT,
        ],
        finish: GRUB_BLS,
    },
];
