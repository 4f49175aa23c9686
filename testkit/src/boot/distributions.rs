//! Hosts as distributions install them: the files by which it is told how they boot, and those
//! that a reservation changes. What is left out is what is read for neither.

use host::{Program, Runner};

use super::{Builders, archive};
use crate::tree::{Function, Port, Tree};

/// The card that can be reserved on each of them.
pub const CARD: &str = "0000:01:00.0";

/// A distribution.
#[derive(Clone, Copy, Debug)]
pub struct Distribution {
    /// Its name, with the boot loader where it has several.
    pub name: &'static str,
    /// Where its files are known from.
    pub origin: &'static str,
    /// Makes the host.
    make: fn() -> Tree,
    /// What its installer ran.
    built_by: &'static [&'static str],
}

impl Distribution {
    /// Makes a host of it, with its images built.
    ///
    /// # Panics
    /// A program that builds them fails.
    pub fn tree(&self) -> Tree {
        let tree = (self.make)();
        self.build(&tree, str::to_owned);
        tree
    }

    /// Installs another kernel, as a later update does it: its package's hooks run what the
    /// installer ran. Returns its release; `None` where kernels are named after their packages, and
    /// the one takes the place of the other.
    ///
    /// # Panics
    /// A program that builds its images fails.
    pub fn add_kernel(&self, tree: &Tree) -> Option<String> {
        let all = "update-initramfs -u -k all";
        let mut releases = std::fs::read_dir(tree.locate("/lib/modules")).ok()?.flatten();
        let old = releases.find_map(|one| one.file_name().into_string().ok())?;
        let is_named = |line: &&str| *line == all || line.contains(&old);
        if !self.built_by.iter().any(is_named) {
            return None;
        }
        let new = format!("9{}", &old[1..]);
        let copy = |path: String| {
            if let Ok(bytes) = std::fs::read(tree.locate(&path)) {
                tree.write(&path.replace(&old, &new), bytes);
            }
        };
        copy(format!("/lib/modules/{old}/modules.dep"));
        copy(format!("/lib/modules/{old}/vmlinuz"));
        copy(format!("/boot/vmlinuz-{old}"));
        self.build(tree, |line| line.replace(&old, &new));
        Some(new)
    }

    fn build(&self, tree: &Tree, change: impl Fn(&str) -> String) {
        let programs = Builders::new(tree);
        for line in self.built_by {
            let line = change(line);
            let mut words = line.split(' ');
            let program = Program::new(words.next().unwrap_or_default()).args(words);
            let done = programs.run(&program).expect("it runs");
            assert!(done.status.success(), "{}: {line}", self.name);
        }
    }
}

/// All of them.
pub const ALL: &[Distribution] = &[
    Distribution {
        name: "debian-12",
        origin: "grub2-common 2.06-13+deb12u1, initramfs-tools 0.142: read in the packages",
        make: || debian(&["6.1.0-27-amd64", "6.1.0-28-amd64"]),
        built_by: &["update-initramfs -u -k all", "update-grub"],
    },
    Distribution {
        name: "debian-13",
        origin: "grub2-common 2.12, initramfs-tools 0.148: as Debian 12, with its kernels' names",
        make: || debian(&["6.12.48+deb13-amd64"]),
        built_by: &["update-initramfs -u -k all", "update-grub"],
    },
    Distribution {
        name: "debian-13-systemd-boot",
        origin: "systemd-boot 252 and its hooks for kernels and initramfs-tools: read in the package",
        make: || {
            let tree = base(&["6.12.48+deb13-amd64"], "root=UUID=1 ro quiet");
            loader(&tree, "systemd-boot 257.8-1~deb13u2");
            tree.write("/etc/kernel/cmdline", "root=UUID=1 ro quiet\n");
            tree.directory("/efi");
            tree
        },
        built_by: &[
            "update-initramfs -u -k all",
            "kernel-install add 6.12.48+deb13-amd64 /boot/vmlinuz-6.12.48+deb13-amd64 \
             /boot/initrd.img-6.12.48+deb13-amd64",
        ],
    },
    Distribution {
        name: "debian-13-u-boot",
        origin: "u-boot-menu 4.2.2: read in the package; initramfs-tools as Debian 12",
        make: || {
            let tree = base(&["6.12.48+deb13-arm64"], "root=UUID=1 ro quiet");
            tree.write("/etc/default/u-boot", "#U_BOOT_PARAMETERS=\"ro quiet\"\n");
            tree
        },
        built_by: &["update-initramfs -u -k all", "u-boot-update"],
    },
    Distribution {
        name: "debian-13-uki",
        origin: "systemd-ukify and systemd-boot 257.13 of Debian 13, layout=uki: from a system of it",
        make: || {
            let tree = base(&["6.12.107+deb13-amd64"], "root=LABEL=root ro quiet");
            loader(&tree, "systemd-boot 257.13-1~deb13u1");
            tree.write("/etc/kernel/install.conf", "layout=uki\n");
            tree.write("/etc/kernel/cmdline", "root=LABEL=root ro quiet\n");
            tree.directory("/efi");
            tree
        },
        built_by: &[
            "update-initramfs -u -k all",
            "kernel-install add 6.12.107+deb13-amd64 /boot/vmlinuz-6.12.107+deb13-amd64 \
             /boot/initrd.img-6.12.107+deb13-amd64",
        ],
    },
    Distribution {
        name: "ubuntu-24.04",
        origin: "grub2-common 2.12-1ubuntu7, initramfs-tools 0.142ubuntu25: from knowledge",
        make: || {
            let tree = debian(&["6.8.0-45-generic"]);
            tree.write("/etc/default/grub.d/init-select.cfg", "# Work around a bug\n");
            tree
        },
        built_by: &["update-initramfs -u -k all", "update-grub"],
    },
    Distribution {
        name: "ubuntu-26.04",
        origin: "dracut builds what is booted while initramfs-tools stays installed: from knowledge",
        make: || {
            let tree = debian(&["7.0.0-14-generic"]);
            tree.write("/etc/initramfs-tools/initramfs.conf", "MODULES=most\n");
            tree
        },
        built_by: &[
            "dracut --force /boot/initrd.img-7.0.0-14-generic 7.0.0-14-generic",
            "update-grub",
        ],
    },
    Distribution {
        name: "fedora-43",
        origin: "grub2-tools 2.12, grubby 8.40 (read at its source), kernel-core: from knowledge",
        make: || fedora("6.17.1-300.fc43.x86_64", "Fedora Linux"),
        built_by: &[
            "dracut --force /boot/initramfs-6.17.1-300.fc43.x86_64.img 6.17.1-300.fc43.x86_64",
            "dracut --force /boot/initramfs-0-rescue-0123456789abcdef0123456789abcdef.img 0",
        ],
    },
    Distribution {
        name: "rhel-10",
        origin: "as Fedora, with its kernel's name: from knowledge",
        make: || fedora("6.12.0-55.9.1.el10_0.x86_64", "Red Hat Enterprise Linux"),
        built_by: &[
            "dracut --force /boot/initramfs-6.12.0-55.9.1.el10_0.x86_64.img \
             6.12.0-55.9.1.el10_0.x86_64",
            "dracut --force /boot/initramfs-0-rescue-0123456789abcdef0123456789abcdef.img 0",
        ],
    },
    Distribution {
        name: "fedora-43-uki",
        origin: "kernel-install with layout=uki and dracut (kernel-install(8)): from knowledge",
        make: || {
            let tree = base(&["6.17.1-300.fc43.x86_64"], "root=UUID=1 ro");
            loader(&tree, "systemd-boot 258");
            kernels(&tree, &["6.17.1-300.fc43.x86_64"]);
            tree.write("/etc/kernel/install.conf", "layout=uki\nuki_generator=dracut\n");
            tree.write("/etc/kernel/cmdline", "root=UUID=1 ro\n");
            tree
        },
        built_by: &[
            "kernel-install add 6.17.1-300.fc43.x86_64 /lib/modules/6.17.1-300.fc43.x86_64/vmlinuz",
        ],
    },
    Distribution {
        name: "opensuse-tumbleweed",
        origin: "sdbootutil (its source), GRUB with entries of the specification: from knowledge",
        make: || {
            let tree = base(&["6.17.1-1-default"], "root=UUID=1 splash=silent quiet");
            loader(&tree, "GRUB 2.12");
            tree.write("/etc/sysconfig/bootloader", "LOADER_TYPE=\"grub2-bls\"\n");
            tree.write("/etc/kernel/cmdline", "root=UUID=1 splash=silent quiet\n");
            tree
        },
        built_by: &["sdbootutil --no-reuse-initrd add-all-kernels"],
    },
    Distribution {
        name: "opensuse-leap-15.6",
        origin: "grub2 2.12, dracut 055+suse: from knowledge",
        make: || {
            let tree = base(&["6.4.0-150600.23.25-default"], grub_line());
            tree.write("/usr/sbin/grub2-mkconfig", "# sources /etc/default/grub alone\n");
            tree.write(
                "/etc/default/grub",
                "GRUB_DISTRIBUTOR=\nGRUB_DEFAULT=saved\nGRUB_TIMEOUT=8\n\
                 GRUB_CMDLINE_LINUX_DEFAULT=\"splash=silent quiet security=apparmor\"\n\
                 GRUB_CMDLINE_LINUX=\"\"\nGRUB_TERMINAL=\"gfxterm\"\n",
            );
            tree
        },
        built_by: &[
            "dracut --force /boot/initrd-6.4.0-150600.23.25-default 6.4.0-150600.23.25-default",
            "grub2-mkconfig -o /boot/grub2/grub.cfg",
        ],
    },
    Distribution {
        name: "arch-grub",
        origin: "mkinitcpio 39 (its source), grub 2.12: from knowledge",
        make: || {
            let tree = arch(BUSYBOX, grub_line(), IMAGES);
            tree.write("/usr/bin/grub-mkconfig", "# sources /etc/default/grub alone\n");
            tree.write("/etc/default/grub", ARCH_GRUB);
            tree
        },
        built_by: &["mkinitcpio -P", "grub-mkconfig -o /boot/grub/grub.cfg"],
    },
    Distribution {
        name: "arch-systemd-boot",
        origin: "mkinitcpio 39 with the hook systemd, an entry from the wiki: from knowledge",
        make: || {
            let tree = arch(SYSTEMD, "initrd=\\initramfs-linux.img root=UUID=1 rw", IMAGES);
            loader(&tree, "systemd-boot 258-1-arch");
            for (name, suffix) in [("arch", ""), ("arch-fallback", "-fallback")] {
                let entry = format!(
                    "title   Arch Linux\nlinux   /vmlinuz-linux\ninitrd  /initramfs-linux{suffix}.img\n\
                     options root=UUID=1 rw\n"
                );
                tree.write(&format!("/boot/loader/entries/{name}.conf"), entry);
            }
            tree
        },
        built_by: &["mkinitcpio -P"],
    },
    Distribution {
        name: "arch-uki",
        origin: "mkinitcpio 39 with default_uki: from knowledge",
        make: || {
            let uki = "default_uki=\"/efi/EFI/Linux/arch-linux.efi\"\n";
            let tree = arch(SYSTEMD, "root=UUID=1 rw", uki);
            loader(&tree, "systemd-boot 258-1-arch");
            tree.write("/etc/cmdline.d/root.conf", "root=UUID=1 rw\n");
            tree
        },
        built_by: &["mkinitcpio -P"],
    },
    Distribution {
        name: "endeavouros",
        origin: "kernel-install-for-dracut with systemd-boot: from knowledge",
        make: || {
            let release = "6.17.1-arch1-1";
            let tree = base(&[release], "initrd=\\x root=UUID=1 rw");
            loader(&tree, "systemd-boot 258-1-arch");
            kernels(&tree, &[release]);
            tree.write("/etc/kernel/cmdline", "nvme_load=YES root=UUID=1 rw\n");
            tree.directory("/efi");
            tree
        },
        built_by: &["kernel-install add 6.17.1-arch1-1 /lib/modules/6.17.1-arch1-1/vmlinuz"],
    },
    Distribution {
        name: "cachyos-limine",
        origin: "limine-mkinitcpio-hook: by hearsay",
        make: || {
            let images = "default_image=\"/boot/initramfs-linux.img\"\n";
            let tree = arch(SYSTEMD, "root=UUID=1 rw quiet", images);
            loader(&tree, "Limine 9.6.5");
            tree.write("/usr/bin/limine-mkinitcpio", "");
            tree.write(
                "/etc/default/limine",
                "ESP_PATH=\"/boot\"\nKERNEL_CMDLINE[default]+=\"root=UUID=1 rw quiet\"\n",
            );
            tree.write(
                "/boot/limine.conf",
                "timeout: 5\n\n/+CachyOS\n  //linux\n  protocol: linux\n  path: boot():/vmlinuz-linux#abc\n  \
                 cmdline: root=UUID=1 rw quiet\n  module_path: boot():/initramfs-linux.img#def\n",
            );
            tree
        },
        built_by: &["mkinitcpio -P"],
    },
    Distribution {
        name: "void",
        origin: "dracut 110, grub 2.12: from knowledge",
        make: || {
            let tree = base(&["6.12.51_1"], grub_line());
            tree.write("/usr/bin/grub-mkconfig", "# sources /etc/default/grub alone\n");
            tree.write(
                "/etc/default/grub",
                "#\n# Configuration file for GRUB.\n#\nGRUB_DEFAULT=0\nGRUB_DISTRIBUTOR=\"Void\"\n\
                 GRUB_CMDLINE_LINUX_DEFAULT=\"loglevel=4\"\n# Uncomment to use basic console\n\
                 #GRUB_TERMINAL_INPUT=\"console\"\n",
            );
            tree
        },
        built_by: &[
            "dracut --force /boot/initramfs-6.12.51_1.img 6.12.51_1",
            "grub-mkconfig -o /boot/grub/grub.cfg",
        ],
    },
    Distribution {
        name: "pop-os",
        origin: "kernelstub 3.1 (its source), initramfs-tools: from knowledge",
        make: || {
            let tree = base(&["6.12.10-76061203-generic"], "root=UUID=1 ro quiet splash");
            loader(&tree, "systemd-boot 255.4-1ubuntu8");
            tree.write("/etc/kernelstub/configuration", "quiet splash\n");
            tree
        },
        built_by: &["update-initramfs -u -k all", "kernelstub"],
    },
    Distribution {
        name: "proxmox-zfs",
        origin: "proxmox-boot-tool with partitions of its own (pve-docs, sysboot): from knowledge",
        make: || {
            let tree = base(&["6.14.8-2-pve"], "initrd=\\x root=ZFS=rpool/ROOT/pve-1 boot=zfs");
            loader(&tree, "systemd-boot 257.7-1");
            tree.write("/etc/kernel/proxmox-boot-uuids", "1234-ABCD\n");
            tree.write("/etc/kernel/cmdline", "root=ZFS=rpool/ROOT/pve-1 boot=zfs\n");
            tree
        },
        built_by: &["update-initramfs -u -k all"],
    },
    Distribution {
        name: "alpine",
        origin: "mkinitfs 3.11 with extlinux: by hearsay",
        make: || {
            let tree = base(&["6.12.51-0-lts"], "BOOT_IMAGE=vmlinuz-lts root=UUID=1 modules=ext4");
            tree.write(
                "/boot/initramfs-lts",
                archive([("sbin/nlplug-findfs", 0o100_755, &b""[..])]),
            );
            tree.write(
                "/boot/extlinux.conf",
                "DEFAULT menu.c32\nLABEL lts\n  LINUX vmlinuz-lts\n  INITRD initramfs-lts\n  \
                 APPEND root=UUID=1 modules=ext4 quiet\n",
            );
            tree
        },
        built_by: &[],
    },
    Distribution {
        name: "arch-booster",
        origin: "booster 0.12: by hearsay",
        make: || {
            let tree = arch(BUSYBOX, "root=UUID=1 rw", "");
            loader(&tree, "systemd-boot 258-1-arch");
            let image = archive([("etc/booster.init.yaml", 0o100_644, &b""[..])]);
            tree.write("/boot/booster-linux.img", image);
            tree
        },
        built_by: &[],
    },
    Distribution {
        name: "bazzite",
        origin: "rpm-ostree with an image of Bazzite: from knowledge",
        make: || {
            let tree = base(&["6.17.7-ba01.fc43.x86_64"], "rhgb quiet root=UUID=1 rw");
            tree.write("/run/ostree-booted", "");
            tree
        },
        built_by: &[],
    },
    Distribution {
        name: "nixos",
        origin: "NixOS 25.11 (nixos/modules/system/boot): from knowledge",
        make: || {
            let tree = base(&["6.12.52"], "init=/nix/store/x/init loglevel=4");
            tree.write("/etc/NIXOS", "");
            tree
        },
        built_by: &[],
    },
];

const BUSYBOX: &str =
    "base udev autodetect microcode modconf kms keyboard keymap consolefont block filesystems fsck";
const SYSTEMD: &str =
    "base systemd autodetect microcode modconf kms keyboard sd-vconsole block filesystems fsck";
const IMAGES: &str = "#default_config=\"/etc/mkinitcpio.conf\"\n\
    default_image=\"/boot/initramfs-linux.img\"\nfallback_image=\"/boot/initramfs-linux-fallback.img\"\n";
const ARCH_GRUB: &str = "# GRUB boot loader configuration\n\nGRUB_DEFAULT=0\nGRUB_TIMEOUT=5\n\
    GRUB_DISTRIBUTOR=\"Arch\"\nGRUB_CMDLINE_LINUX_DEFAULT=\"loglevel=3 quiet\"\n\
    GRUB_CMDLINE_LINUX=''\n\n# Preload both GPT and MBR modules\nGRUB_PRELOAD_MODULES=\"part_gpt\"\n";

fn grub_line() -> &'static str {
    "BOOT_IMAGE=/boot/vmlinuz root=UUID=1 ro quiet"
}

/// A machine with Intel's IOMMU and a card to spare, and these kernels, the last running.
fn base(releases: &[&str], line: &str) -> Tree {
    let mut tree = Tree::new();
    tree.add(Function::port("0000:00:1c.0", Port::Root, 1).slot());
    let card = Function::new(CARD, 0x8086, 0x10d3).class(0x02_0000).below("0000:00:1c.0");
    tree.add(card.subsystem(0x1043, 0x85b0));
    for release in releases {
        let index = "kernel/drivers/vfio/pci/vfio-pci.ko.xz:\n";
        tree.write(&format!("/lib/modules/{release}/modules.dep"), index);
        tree.write(&format!("/boot/vmlinuz-{release}"), "MZ");
    }
    tree.write("/proc/sys/kernel/osrelease", releases.last().copied().unwrap_or_default());
    tree.write("/proc/cmdline", format!("{line}\n"));
    tree.directory("/usr");
    tree
}

/// The kernels themselves where kernel packages put them that know kernel-install.
fn kernels(tree: &Tree, releases: &[&str]) {
    for release in releases {
        tree.remove(&format!("/boot/vmlinuz-{release}"));
        tree.write(&format!("/lib/modules/{release}/vmlinuz"), "MZ");
    }
}

/// What a boot loader wrote down about itself.
fn loader(tree: &Tree, info: &str) {
    let text = format!("{info}\0");
    let bytes: Vec<u8> =
        [6, 0, 0, 0].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    tree.write("/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", bytes);
}

fn debian(releases: &[&str]) -> Tree {
    let tree = base(releases, grub_line());
    tree.write(
        "/usr/sbin/grub-mkconfig",
        "if test -f ${sysconfdir}/default/grub ; then\n  . ${sysconfdir}/default/grub\nfi\n\
         for x in ${sysconfdir}/default/grub.d/*.cfg ; do\n",
    );
    tree.write("/usr/sbin/update-grub", "");
    tree.write(
        "/etc/default/grub",
        "# If you change this file, run 'update-grub' afterwards to update\n\
         # /boot/grub/grub.cfg.\n\nGRUB_DEFAULT=0\nGRUB_TIMEOUT=5\n\
         GRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`\n\
         GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"\"\n",
    );
    tree
}

fn fedora(release: &str, name: &str) -> Tree {
    let rescue = "0-rescue-0123456789abcdef0123456789abcdef";
    let tree = base(&[release], "BOOT_IMAGE=(hd0,gpt2)/vmlinuz root=UUID=1 ro rhgb quiet");
    tree.write("/boot/grub2/grub.cfg", "insmod blscfg\nblscfg\n");
    tree.write("/usr/sbin/grub2-mkconfig", "# sources /etc/default/grub alone\n");
    tree.write(
        "/etc/default/grub",
        "GRUB_TIMEOUT=5\nGRUB_DISTRIBUTOR=\"$(sed 's, release .*$,,g' /etc/system-release)\"\n\
         GRUB_DEFAULT=saved\nGRUB_CMDLINE_LINUX=\"rhgb quiet\"\nGRUB_ENABLE_BLSCFG=true\n",
    );
    tree.link_text("/etc/sysconfig/grub", "../default/grub");
    tree.write("/etc/kernel/cmdline", "root=UUID=1 ro rhgb quiet\n");
    for version in [release, rescue] {
        tree.write(
            &format!("/boot/loader/entries/0123456789abcdef0123456789abcdef-{version}.conf"),
            format!(
                "title {name} ({version})\nversion {version}\nlinux /vmlinuz-{version}\ninitrd \
                 /initramfs-{version}.img\noptions root=UUID=1 ro rhgb quiet\ngrub_users \
                 $grub_users\ngrub_arg --unrestricted\ngrub_class fedora\n"
            ),
        );
    }
    tree
}

fn arch(hooks: &str, line: &str, preset: &str) -> Tree {
    let release = "6.17.1-arch1-1";
    let tree = base(&[release], line);
    tree.remove(&format!("/boot/vmlinuz-{release}"));
    tree.write("/boot/vmlinuz-linux", "MZ");
    tree.write(&format!("/usr/lib/modules/{release}/pkgbase"), "linux\n");
    tree.write("/etc/mkinitcpio.conf", format!("MODULES=()\nHOOKS=({hooks})\n"));
    tree.write(
        "/etc/mkinitcpio.d/linux.preset",
        format!("ALL_kver=\"/boot/vmlinuz-linux\"\n{preset}"),
    );
    tree
}
