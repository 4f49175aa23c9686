//! The programs.

use std::cell::RefCell;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use host::{Finished, Program, RunError, Runner};

use super::archive;
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
                    let image = self.initramfs_tools(&release);
                    self.tree.write(&format!("/boot/initrd.img-{release}"), image);
                }
            }
            ["dracut", "--force", image, release] => {
                self.tree.write(image, self.dracut(release));
            }
            _ => return false,
        }
        true
    }

    /// mkinitramfs: its hooks run, and its scripts are copied and put in order.
    fn initramfs_tools(&self, release: &str) -> Vec<u8> {
        let script = "etc/initramfs-tools/scripts/init-top/00-kireji";
        let ours = self.bytes(script);
        let list = self.bytes(LIST);
        let module = format!("usr/lib/modules/{release}/{MODULE}");
        let mut order = "/scripts/init-top/udev \"$@\"\n".to_owned();
        let mut files: Vec<(&str, u32, &[u8])> = vec![("init", 0o100_755, b"#!/bin/sh\n")];
        if self.has(script) {
            order.insert_str(0, "/scripts/init-top/00-kireji \"$@\"\n");
            files.push(("scripts/init-top/00-kireji", 0o100_755, &ours));
        }
        files.push(("scripts/init-top/ORDER", 0o100_644, order.as_bytes()));
        if self.has("etc/initramfs-tools/hooks/kireji") && self.has(LIST) {
            files.push((LIST, 0o100_644, &list));
            files.push((&module, 0o100_644, b""));
        }
        archive(files)
    }

    /// dracut: the modules of its directory whose `check` agrees.
    fn dracut(&self, release: &str) -> Vec<u8> {
        let directory = "usr/lib/dracut/modules.d/50kireji";
        let hook = self.bytes(&format!("{directory}/kireji.sh"));
        let list = self.bytes(LIST);
        let module = format!("usr/lib/modules/{release}/{MODULE}");
        let mut files: Vec<(&str, u32, &[u8])> = vec![
            ("init", 0o100_755, b"#!/bin/sh\n"),
            ("usr/lib/dracut/build-parameter.txt", 0o100_644, b""),
        ];
        if self.has(&format!("{directory}/module-setup.sh")) && self.has(LIST) {
            files.push(("var/lib/dracut/hooks/pre-udev/00-kireji.sh", 0o100_755, &hook));
            files.push((LIST, 0o100_644, &list));
            files.push((&module, 0o100_644, b""));
        }
        archive(files)
    }
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
