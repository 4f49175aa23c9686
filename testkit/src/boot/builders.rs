//! The programs.

use std::cell::RefCell;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use host::{Finished, Program, RunError, Runner};

use super::formats::{archive, pe};
use crate::tree::Tree;

/// The module as every distribution packs it, below a kernel's directory.
const MODULE: &str = "kernel/drivers/vfio/pci/vfio-pci.ko";
/// What is reserved, on the host and in images.
const LIST: &str = "etc/kireji/reservations";

/// The programs of distributions over a tree.
#[derive(Debug)]
pub struct Builders<'a> {
    tree: &'a Tree,
    ran: RefCell<Vec<String>>,
}

/// What an image holds: paths, modes, contents.
type Files = Vec<(String, u32, Vec<u8>)>;

impl<'a> Builders<'a> {
    /// Returns the programs over a tree.
    pub fn new(tree: &'a Tree) -> Self {
        Self { tree, ran: RefCell::default() }
    }

    /// The commands that ran since this was asked last.
    pub fn ran(&self) -> Vec<String> {
        self.ran.take()
    }

    fn has(&self, path: &str) -> bool {
        self.tree.locate(path).exists()
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.tree.locate(path)).unwrap_or_default()
    }

    fn text(&self, path: &str) -> String {
        String::from_utf8(self.bytes(path)).unwrap_or_default()
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.tree.locate(path)).into_iter().flatten();
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names
    }

    /// The kernels that have modules.
    fn releases(&self) -> Vec<String> {
        let mut names = self.names("/lib/modules");
        names.retain(|name| self.has(&format!("/lib/modules/{name}/modules.dep")));
        names
    }

    fn run(&self, words: &[&str]) -> bool {
        match words {
            ["update-initramfs", "-u", "-k", "all"] => {
                for release in self.releases() {
                    let image = packed(&self.initramfs_tools(&release));
                    self.tree.write(&format!("/boot/initrd.img-{release}"), image);
                }
            }
            ["dracut", "--force", image, release] => {
                self.tree.write(image, packed(&self.dracut(release)));
            }
            ["dracut", "--force", "--uefi", image, release] => {
                // dracut.conf(5), kernel_cmdline.
                let ours = self.text("/etc/dracut.conf.d/50-kireji.conf");
                let ours = ours.lines().find_map(|line| line.strip_prefix("kernel_cmdline+=\""));
                let line =
                    format!("root=/dev/vda2{}", ours.unwrap_or_default().trim_end_matches('"'));
                self.uki(image, release, line.trim_end(), &packed(&self.dracut(release)));
            }
            ["mkinitcpio", "-P"] | ["limine-mkinitcpio"] => self.presets(),
            ["kernel-install", "add", release, _, own @ ..] => self.kernel_install(release, own),
            ["sdbootutil", "--no-reuse-initrd", "add-all-kernels"] => self.sdbootutil(true),
            ["sdbootutil", "update-all-entries"] => self.sdbootutil(false),
            ["update-grub"] | ["grub-mkconfig", "-o", "/boot/grub/grub.cfg"] => self.menu("grub"),
            ["grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"] => self.menu("grub2"),
            // Partitions that are not mounted, a variable of the firmware, and GRUB's environment.
            ["proxmox-boot-tool", "refresh"]
            | ["bootctl", "set-oneshot", _]
            | ["grub-reboot" | "grub2-reboot", _]
            | ["grub-editenv" | "grub2-editenv", "-", "unset", "next_entry"] => {}
            ["u-boot-update"] => self.extlinux(),
            ["kernelstub"] => self.kernelstub(|_| {}),
            ["kernelstub", "-a", word] => {
                self.kernelstub(|options| options.push((*word).to_owned()));
            }
            ["kernelstub", "-d", word] => {
                self.kernelstub(|options| options.retain(|one| one != word))
            }
            _ => return false,
        }
        true
    }

    fn ours(&self, release: &str, files: &mut Files) {
        files.push((LIST.to_owned(), 0o100_644, self.bytes(LIST)));
        files.push((format!("usr/lib/modules/{release}/{MODULE}"), 0o100_644, Vec::new()));
    }

    /// mkinitramfs: its hooks run, and its scripts are copied and put in order.
    fn initramfs_tools(&self, release: &str) -> Files {
        let script = "etc/initramfs-tools/scripts/init-top/00-kireji";
        let mut order = "/scripts/init-top/udev \"$@\"\n".to_owned();
        let mut files = vec![file("init", 0o100_755, "#!/bin/sh\n")];
        if self.has(script) {
            order.insert_str(0, "/scripts/init-top/00-kireji \"$@\"\n");
            files.push(("scripts/init-top/00-kireji".to_owned(), 0o100_755, self.bytes(script)));
        }
        files.push(file("scripts/init-top/ORDER", 0o100_644, &order));
        if self.has("etc/initramfs-tools/hooks/kireji") && self.has(LIST) {
            self.ours(release, &mut files);
        }
        files
    }

    /// dracut: the modules of its directory whose `check` agrees.
    fn dracut(&self, release: &str) -> Files {
        let directory = "usr/lib/dracut/modules.d/50kireji";
        let mut files = vec![
            file("init", 0o100_755, "#!/bin/sh\n"),
            file("usr/lib/dracut/build-parameter.txt", 0o100_644, ""),
        ];
        if self.has(&format!("{directory}/module-setup.sh")) && self.has(LIST) {
            let hook = self.bytes(&format!("{directory}/kireji.sh"));
            files.push(("var/lib/dracut/hooks/pre-udev/00-kireji.sh".to_owned(), 0o100_755, hook));
            self.ours(release, &mut files);
        }
        files
    }

    /// mkinitcpio: the configuration and its drop-ins are sourced by bash, and what the hook's
    /// install script adds is recorded by functions of the same names.
    fn mkinitcpio(&self, release: &str) -> Files {
        let hooks = self.shell(
            "bash",
            ". etc/mkinitcpio.conf; for f in etc/mkinitcpio.conf.d/*.conf; do [ ! -e $f ] || . $f; \
             done; echo ${HOOKS[@]}",
        );
        let hooks: Vec<_> = hooks.split_whitespace().collect();
        let mut files =
            vec![file("init", 0o100_755, "#!/bin/sh\n"), file("buildconfig", 0o100_644, "")];
        let mut early: Vec<_> = hooks.iter().filter(|hook| **hook == "udev").copied().collect();
        if hooks.contains(&"systemd") {
            files.push(file("usr/lib/systemd/systemd", 0o100_755, ""));
        }
        if hooks.contains(&"kireji") && self.has(LIST) {
            let build = self.shell(
                "bash",
                "BUILDROOT=$PWD/buildroot; mkdir -p $BUILDROOT; add_module() { :; }; add_file() { \
                 echo file $1; }; add_runscript() { echo runscript; }; add_binary() { :; }; . \
                 <(sed 's:/etc/kireji:etc/kireji:' etc/initcpio/install/kireji); build",
            );
            assert_eq!(build, "file etc/kireji/reservations\nrunscript\n");
            early.insert(0, "kireji");
            let script = self.bytes("etc/initcpio/hooks/kireji");
            files.push(("hooks/kireji".to_owned(), 0o100_755, script));
            let units = "usr/lib/systemd/system";
            let unit = self.bytes(&format!("buildroot/{units}/kireji.service"));
            files.push((format!("{units}/kireji.service"), 0o100_644, unit));
            let link = std::fs::read_link(
                self.tree.locate(&format!("buildroot/{units}/sysinit.target.wants/kireji.service")),
            );
            let link = link.expect("a link").display().to_string();
            let wanted = format!("{units}/sysinit.target.wants/kireji.service");
            files.push((wanted, 0o120_777, link.into_bytes()));
            self.tree.remove("/buildroot");
            self.ours(release, &mut files);
        }
        let config = format!("EARLYHOOKS=\"{}\"\n", early.join(" "));
        files.push(("config".to_owned(), 0o100_644, config.into_bytes()));
        files
    }

    /// Runs a script in the root of the tree.
    fn shell(&self, shell: &str, script: &str) -> String {
        let done = Command::new(shell).args(["-c", script]).current_dir(self.tree.root()).output();
        let done = done.expect("a shell");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Each preset of mkinitcpio names what is made of which kernel.
    fn presets(&self) {
        for preset in self.names("/etc/mkinitcpio.d") {
            let package = preset.trim_end_matches(".preset");
            let release = self.releases().into_iter().find(|release| {
                self.text(&format!("/usr/lib/modules/{release}/pkgbase")).trim() == package
            });
            let release = release.expect("the kernel of the preset");
            let image = packed(&self.mkinitcpio(&release));
            for line in self.text(&format!("/etc/mkinitcpio.d/{preset}")).lines() {
                let (name, value) = line.split_once('=').unwrap_or_default();
                let path = value.trim_matches('"');
                match name {
                    "default_image" | "fallback_image" => self.tree.write(path, &image),
                    "default_uki" | "fallback_uki" => {
                        self.uki(path, &release, &self.parts(), &image);
                    }
                    _ => {}
                }
            }
        }
    }

    /// What mkinitcpio takes for the command line of a unified image.
    fn parts(&self) -> String {
        let parts = self.names("/etc/cmdline.d").into_iter();
        let parts = parts.map(|name| self.text(&format!("/etc/cmdline.d/{name}")));
        let all: Vec<_> = [self.text("/etc/kernel/cmdline")].into_iter().chain(parts).collect();
        all.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn uki(&self, path: &str, release: &str, line: &str, image: &[u8]) {
        let sections: [(&str, &[u8]); 4] = [
            (".cmdline", line.as_bytes()),
            (".uname", release.as_bytes()),
            (".initrd", image),
            (".linux", b"MZ"),
        ];
        self.tree.write(path, pe(&sections));
    }

    /// 90-loaderentry.install, or ukify and 90-uki-copy.install, with dracut where no image is
    /// handed over.
    fn kernel_install(&self, release: &str, own: &[&str]) {
        let partition = if self.has("/efi") { "/efi" } else { "/boot" };
        let token = "0123456789abcdef0123456789abcdef";
        let line = self.text("/etc/kernel/cmdline");
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let (name, image) = match own {
            [own] => (own.rsplit('/').next().unwrap_or_default(), self.bytes(own)),
            _ => ("initrd", packed(&self.dracut(release))),
        };
        if self.text("/etc/kernel/install.conf").contains("layout=uki") {
            let path = format!("{partition}/EFI/Linux/{token}-{release}.efi");
            self.uki(&path, release, &line, &image);
            return;
        }
        let directory = format!("/{token}/{release}");
        self.tree.write(&format!("{partition}{directory}/linux"), "MZ");
        self.tree.write(&format!("{partition}{directory}/{name}"), image);
        self.tree.write(
            &format!("{partition}/loader/entries/{token}-{release}.conf"),
            format!(
                "title      Linux\nversion    {release}\noptions    {line}\n\
                 linux      {directory}/linux\ninitrd     {directory}/{name}\n"
            ),
        );
    }

    /// sdbootutil: an entry of the current snapshot for each kernel.
    fn sdbootutil(&self, builds: bool) {
        let digest = "0123456789abcdef0123456789abcdef01234567";
        for release in self.releases() {
            let directory = format!("/opensuse-tumbleweed/{release}");
            let initrd = format!("{directory}/initrd-{digest}");
            if builds {
                self.tree.write(&format!("/boot/efi{directory}/linux-{digest}"), "MZ");
                self.tree.write(&format!("/boot/efi{initrd}"), packed(&self.dracut(&release)));
            }
            let line = self.text("/etc/kernel/cmdline");
            self.tree.write(
                &format!("/boot/efi/loader/entries/opensuse-tumbleweed-{release}-1.conf"),
                format!(
                    "# Boot Loader Specification type#1 entry\ntitle      openSUSE Tumbleweed\n\
                     version    1@{release}\noptions    {}\nlinux      \
                     {directory}/linux-{digest}\ninitrd     {initrd}\n",
                    line.trim()
                ),
            );
        }
    }

    /// grub-mkconfig: what a shell makes of the defaults, in an entry for each kernel.
    fn menu(&self, name: &str) {
        let words = self.shell(
            "sh",
            ". ./etc/default/grub; for f in etc/default/grub.d/*.cfg; do [ ! -e $f ] || . ./$f; \
             done; echo $GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT",
        );
        let mut menu = String::new();
        for release in self.releases() {
            let package = self.text(&format!("/usr/lib/modules/{release}/pkgbase"));
            let suffix = if package.is_empty() { release.as_str() } else { package.trim() };
            let names = [
                format!("initrd.img-{suffix}"),
                format!("initramfs-{suffix}.img"),
                format!("initrd-{suffix}"),
            ];
            let initrd = names.iter().find(|name| self.has(&format!("/boot/{name}")));
            menu += &format!(
                "menuentry 'Linux {suffix}' {{\n\tlinux\t/boot/vmlinuz-{suffix} root=UUID=1 ro \
                 {}\n\tinitrd\t/boot/{}\n}}\n",
                words.trim(),
                initrd.expect("an initramfs")
            );
        }
        self.tree.write(&format!("/boot/{name}/grub.cfg"), menu);
    }

    /// u-boot-update: what a shell makes of its files, in a label for each kernel.
    fn extlinux(&self) {
        let words = self.shell(
            "sh",
            "for f in etc/default/u-boot etc/u-boot-menu/conf.d/*.conf; do [ ! -e $f ] || . ./$f; \
             done; echo ${U_BOOT_PARAMETERS:-ro quiet}",
        );
        let mut menu =
            "## Do not edit this file manually, use: u-boot-update\n\ndefault l0\n".to_owned();
        for (number, release) in self.releases().iter().enumerate() {
            menu += &format!(
                "\nlabel l{number}\n\tlinux /boot/vmlinuz-{release}\n\tinitrd \
                 /boot/initrd.img-{release}\n\tappend root=UUID=1 {}\n",
                words.trim()
            );
        }
        self.tree.write("/boot/extlinux/extlinux.conf", menu);
    }

    /// kernelstub: kernel and image are copied, and the entry says the options that it remembers.
    fn kernelstub(&self, change: impl FnOnce(&mut Vec<String>)) {
        let path = "/etc/kernelstub/configuration";
        let mut options: Vec<_> = self.text(path).split_whitespace().map(str::to_owned).collect();
        change(&mut options);
        let line = options.join(" ");
        self.tree.write(path, format!("{line}\n"));
        let release = self.releases().pop().expect("a kernel");
        let initrd = self.bytes(&format!("/boot/initrd.img-{release}"));
        self.tree.write("/boot/efi/EFI/Pop_OS-1/initrd.img", initrd);
        self.tree.write("/boot/efi/EFI/Pop_OS-1/vmlinuz.efi", "MZ");
        self.tree.write(
            "/boot/efi/loader/entries/Pop_OS-current.conf",
            format!(
                "title Pop!_OS\nlinux /EFI/Pop_OS-1/vmlinuz.efi\ninitrd /EFI/Pop_OS-1/initrd.img\n\
                 options root=UUID=1 ro {line}\n"
            ),
        );
    }
}

fn file(name: &str, mode: u32, contents: &str) -> (String, u32, Vec<u8>) {
    (name.to_owned(), mode, contents.as_bytes().to_vec())
}

fn packed(files: &Files) -> Vec<u8> {
    archive(files.iter().map(|(name, mode, contents)| (name.as_str(), *mode, &contents[..])))
}

impl Runner for Builders<'_> {
    fn run(&self, program: &Program) -> Result<Finished, RunError> {
        let name = Path::new(&program.executable).display().to_string();
        let words = std::iter::once(name)
            .chain(program.args.iter().map(|word| word.to_string_lossy().into_owned()));
        let words: Vec<_> = words.collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        self.ran.borrow_mut().push(words.join(" "));
        let code = if self.run(&words) { 0 } else { 127 << 8 };
        let status = ExitStatus::from_raw(code);
        let stderr = format!("{}: there is no such program here", words.join(" ")).into_bytes();
        Ok(Finished { status, stdout: Vec::new(), stderr })
    }
}
