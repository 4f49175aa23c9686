//! A host as a directory tree, with the files that the kernel would show.
//!
//! The builders take addresses as text and nothing from `pci`, so that the unit tests of `pci`
//! itself can use them. They panic where a test is wrong: a tree that cannot be written is no
//! result to handle.

mod devices;
mod function;
mod system;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use host::Sysroot;
use tempfile::TempDir;

pub use function::{Bar, Function, Port};

/// A host that consists of files, and goes away when it is dropped.
#[derive(Debug)]
pub struct Tree {
    dir: TempDir,
    /// Directory in `/sys/devices` of each function.
    functions: BTreeMap<String, String>,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// Makes a host with a PCI bus and nothing on it, nothing mounted and no keyboard.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let tree = Self { dir, functions: BTreeMap::new() };
        for path in ["/sys/bus/pci/devices", "/sys/bus/pci/drivers", "/sys/bus/pci/slots"] {
            tree.directory(path);
        }
        for path in ["/sys/kernel/iommu_groups", "/sys/class/iommu", "/proc", "/etc", "/dev"] {
            tree.directory(path);
        }
        tree.write("/sys/bus/pci/drivers_probe", "");
        tree.write("/sys/bus/pci/drivers_autoprobe", "1\n");
        tree.write("/sys/bus/pci/rescan", "");
        // Tables that every kernel shows, empty ones too.
        tree.write("/proc/self/mountinfo", "");
        tree.write("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        tree.write("/proc/bus/input/devices", "");
        tree
    }

    /// The directory that holds `sys`, `proc` and so on.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Opens the tree as a captured host.
    pub fn sysroot(&self) -> Sysroot {
        Sysroot::at(self.root()).expect("the tree is a directory")
    }

    /// Returns where a path of the host lies in the file system of this machine.
    pub fn locate(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Makes a directory and those above it.
    pub fn directory(&self, path: &str) {
        fs::create_dir_all(self.locate(path)).expect("the directory can be made");
    }

    /// Writes a file, and makes the directories above it.
    pub fn write(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.locate(path);
        fs::create_dir_all(path.parent().expect("a path below the root")).expect("directories");
        fs::write(path, contents).expect("the file can be written");
    }

    /// Makes the symbolic link `path` to `target`, both absolute paths of the host, relative as
    /// sysfs has it. An earlier link is replaced.
    pub fn link(&self, path: &str, target: &str) {
        self.link_text(path, &relative(path, target));
    }

    /// Makes a symbolic link with just this text.
    pub fn link_text(&self, path: &str, text: &str) {
        let path = self.locate(path);
        fs::create_dir_all(path.parent().expect("a path below the root")).expect("directories");
        let _ = fs::remove_file(&path);
        symlink(text, path).expect("the link can be made");
    }

    /// Removes a file, link or directory with all that it holds, where it is there.
    pub fn remove(&self, path: &str) {
        let path = self.locate(path);
        let _ = if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
    }

    /// Reads a file.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.locate(path)).expect("the file can be read")
    }

    /// Adds a function, below a bridge that was added before.
    pub fn add(&mut self, function: Function) -> &mut Self {
        let above = match &function.parent {
            // Behind a controller such as VMD a domain of its own begins.
            Some(parent) if parent.split(':').next() != function.address.split(':').next() => {
                format!("{}/pci{}", self.device(parent), function.bus())
            }
            Some(parent) => self.device(parent).to_owned(),
            None => format!("/sys/devices/pci{}", function.bus()),
        };
        let directory = format!("{above}/{}", function.address);
        function.write(self, &directory);
        self.link(&format!("/sys/bus/pci/devices/{}", function.address), &directory);
        self.functions.insert(function.address.clone(), directory);
        if let Some(group) = function.group {
            self.join_group(&function.address, group);
        }
        if let Some(driver) = &function.driver {
            self.bind(&function.address, driver);
        }
        if let Some(physical) = &function.physical {
            self.link(&format!("{}/physfn", self.device(&function.address)), self.device(physical));
        }
        self
    }

    /// Returns the directory of a function below `/sys/devices`.
    pub fn device(&self, address: &str) -> &str {
        self.functions.get(address).expect("a function that was added")
    }

    /// Makes a driver known, bound to nothing.
    pub fn driver(&self, name: &str) -> String {
        let directory = format!("/sys/bus/pci/drivers/{name}");
        for attribute in ["bind", "unbind", "new_id", "remove_id", "uevent"] {
            if !self.locate(&directory).join(attribute).exists() {
                self.write(&format!("{directory}/{attribute}"), "");
            }
        }
        directory
    }

    /// Makes a function bound to a driver.
    pub fn bind(&self, address: &str, driver: &str) {
        self.unbind(address);
        let directory = self.driver(driver);
        let device = self.device(address);
        self.link(&format!("{directory}/{address}"), device);
        self.link(&format!("{device}/driver"), &directory);
        let uevent = format!("{device}/uevent");
        self.write(&uevent, format!("DRIVER={driver}\n{}", self.read(&uevent)));
    }

    /// Makes a function bound to no driver.
    pub fn unbind(&self, address: &str) {
        let device = self.device(address);
        let Ok(target) = fs::read_link(self.locate(device).join("driver")) else { return };
        let driver = target.file_name().expect("a driver's name").to_string_lossy().into_owned();
        self.remove(&format!("/sys/bus/pci/drivers/{driver}/{address}"));
        self.remove(&format!("{device}/driver"));
        let uevent = format!("{device}/uevent");
        let text = self.read(&uevent);
        let rest = text.strip_prefix(&format!("DRIVER={driver}\n")).unwrap_or(&text);
        self.write(&uevent, rest);
    }

    fn join_group(&self, address: &str, number: u32) {
        let group = format!("/sys/kernel/iommu_groups/{number}");
        let device = self.device(address);
        if !self.locate(&group).exists() {
            self.write(&format!("{group}/type"), "DMA-FQ\n");
            // The interrupt window of x86, as every group there shows it.
            let reserved = "0x00000000fee00000 0x00000000feefffff msi\n";
            self.write(&format!("{group}/reserved_regions"), reserved);
        }
        self.link(&format!("{group}/devices/{address}"), device);
        self.link(&format!("{device}/iommu_group"), &group);
    }

    /// Makes an IOMMU known (`dmar0`, `ivhd0`).
    pub fn iommu(&self, name: &str) {
        self.directory(&format!("/sys/devices/virtual/iommu/{name}"));
        self.link(
            &format!("/sys/class/iommu/{name}"),
            &format!("/sys/devices/virtual/iommu/{name}"),
        );
    }

    /// Names the physical slot of a device, as `pciehp` and ACPI do: `device` without a function.
    pub fn slot(&self, name: &str, device: &str) {
        self.write(&format!("/sys/bus/pci/slots/{name}/address"), format!("{device}\n"));
    }
}

/// Returns `target` as seen from the directory of the link `path`.
fn relative(path: &str, target: &str) -> String {
    let from: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let to: Vec<_> = target.split('/').filter(|part| !part.is_empty()).collect();
    let from = &from[..from.len().saturating_sub(1)];
    let common = from.iter().zip(&to).take_while(|(left, right)| left == right).count();
    let up = std::iter::repeat_n("..", from.len() - common);
    let text: Vec<_> = up.chain(to[common..].iter().copied()).collect();
    text.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_look_like_those_of_sysfs() {
        let mut tree = Tree::new();
        tree.add(Function::port("0000:00:1c.0", Port::Root, 3).slot().driver("pcieport"));
        tree.add(
            Function::new("0000:03:00.0", 0x8086, 0x10d3)
                .class(0x02_0000)
                .below("0000:00:1c.0")
                .group(12)
                .driver("e1000e"),
        );
        let link = |path: &str| fs::read_link(tree.locate(path)).unwrap().display().to_string();
        for (path, text) in [
            (
                "/sys/bus/pci/devices/0000:03:00.0",
                "../../../devices/pci0000:00/0000:00:1c.0/0000:03:00.0",
            ),
            (
                "/sys/bus/pci/drivers/e1000e/0000:03:00.0",
                "../../../../devices/pci0000:00/0000:00:1c.0/0000:03:00.0",
            ),
            (
                "/sys/devices/pci0000:00/0000:00:1c.0/0000:03:00.0/driver",
                "../../../../bus/pci/drivers/e1000e",
            ),
            (
                "/sys/devices/pci0000:00/0000:00:1c.0/0000:03:00.0/iommu_group",
                "../../../../kernel/iommu_groups/12",
            ),
        ] {
            assert_eq!(link(path), text);
        }
    }

    #[test]
    fn binding_moves_the_links_and_the_uevent() {
        let mut tree = Tree::new();
        tree.add(Function::new("0000:00:03.0", 0x8086, 0x10d3).driver("e1000e"));
        let uevent = format!("{}/uevent", tree.device("0000:00:03.0"));
        tree.bind("0000:00:03.0", "vfio-pci");
        assert!(tree.read(&uevent).starts_with("DRIVER=vfio-pci\nPCI_CLASS=FF0000\n"));
        assert!(!tree.locate("/sys/bus/pci/drivers/e1000e/0000:00:03.0").is_symlink());
        tree.unbind("0000:00:03.0");
        assert!(tree.read(&uevent).starts_with("PCI_CLASS=FF0000\nPCI_ID=8086:10D3\n"));
    }
}
