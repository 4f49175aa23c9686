//! A kernel over a [`Tree`]: what writes to sysfs do to who drives a function.
//!
//! Each of its behaviours has a test in the lab that runs the same scenario on a real kernel
//! (`crates/kireji/tests/lab.rs`), so that it cannot drift into fiction.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::path::Path;

use pci::config::{Capability, ConfigSpace};
use vfio::take::{Order, SysfsWriter, Turn, Work, WriteFailure};

use crate::tree::Tree;

const VFIO_PCI: &str = "vfio-pci";
/// Number of the process that a hanging write leaves behind.
pub const HUNG_PID: u32 = 4242;
/// Number of the helper that outlives its process.
pub const HELPER_PID: u32 = 4343;
const OVERRIDE: &str = "/driver_override";
const UNBIND: &str = "/driver/unbind";

/// What a simulated `kill -9` unwinds with.
#[derive(Debug)]
pub struct Killed;

/// When the process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// Before the write with this number, from 0.
    Before(usize),
    /// While its helper is in the kernel, which ends it later: see [`FakeKernel::finish`].
    Within(usize),
    /// After it.
    After(usize),
    /// At the point with this number, from 0, that is no write: before and after each change of a
    /// journal, and before and after each change of a node's owner.
    At(usize),
}

/// A kernel that changes a tree.
#[derive(Debug, Default)]
pub struct FakeKernel {
    /// The host.
    pub tree: Tree,
    /// The drivers that match a function by its ids, the first to win.
    natural: BTreeMap<String, Vec<String>>,
    hanging: BTreeSet<String>,
    stuck: BTreeSet<String>,
    refused: BTreeMap<String, i32>,
    kill: Cell<Option<Kill>>,
    /// How many points that are no writes were passed.
    passed: Cell<usize>,
    writes: RefCell<Vec<(String, String)>>,
    /// The write of a helper that outlives its process, and its turn.
    late: RefCell<Option<(Turn, String, String)>>,
    owners: RefCell<Vec<(String, u32, u32)>>,
}

impl FakeKernel {
    /// Returns a kernel over `tree`, with vfio-pci loaded. This process appears in its `/proc`.
    pub fn new(tree: Tree) -> Self {
        tree.driver(VFIO_PCI);
        let kernel = Self { tree, ..Self::default() };
        kernel.tree.write("/proc/sys/kernel/random/boot_id", "first boot\n");
        kernel.be_alive(1000);
        kernel
    }

    /// Makes this process one that started at `time`, in clock ticks since boot. A process that
    /// was killed is followed by one that started later.
    pub fn be_alive(&self, time: u64) {
        let zeros = "0 ".repeat(18);
        let pid = std::process::id();
        self.tree
            .write(&format!("/proc/{pid}/stat"), format!("{pid} (kireji) S {zeros}{time} 0\n"));
    }

    /// Lets `driver` match a function by its ids, and binds it if it has none.
    pub fn natural(&mut self, address: &str, driver: &str) {
        self.tree.driver(driver);
        self.natural.entry(address.to_owned()).or_default().push(driver.to_owned());
    }

    /// Lets every unbind of `address` from its driver hang, until [`FakeKernel::finish`].
    pub fn hang_on_unbind(&mut self, address: &str) {
        self.hanging.insert(address.to_owned());
    }

    /// Lets `address` stay in D3 when the kernel wakes it.
    pub fn stick_in_d3(&mut self, address: &str) {
        self.stuck.insert(address.to_owned());
    }

    /// Lets the kernel refuse every write to `path` with an error number.
    pub fn refuse(&mut self, path: &str, errno: i32) {
        self.refused.insert(path.to_owned(), errno);
    }

    /// Kills the writing process once, by unwinding with [`Killed`].
    pub fn kill(&self, kill: Option<Kill>) {
        self.kill.set(kill);
        self.writes.borrow_mut().clear();
        self.passed.set(0);
    }

    /// Ends the write of a helper that hung or outlived its process; false if there is none.
    pub fn finish(&self) -> bool {
        let Some((turn, path, value)) = self.late.take() else { return false };
        // Nobody is left to hear what the kernel says.
        let _ = self.act(&path, &value);
        drop(turn);
        true
    }

    /// Whether the helper of a process that was killed still writes.
    pub fn is_late(&self) -> bool {
        self.late.borrow().is_some()
    }

    /// Returns what was written since the last call of [`FakeKernel::kill`], in order.
    pub fn writes(&self) -> Vec<(String, String)> {
        self.writes.borrow().clone()
    }

    /// Returns who was made the owner of which device node, in order: node, user and group.
    pub fn owners(&self) -> Vec<(String, u32, u32)> {
        self.owners.borrow().clone()
    }

    /// Returns the driver and the driver override of a function.
    pub fn binding(&self, address: &str) -> (Option<String>, String) {
        let path = self.tree.device(address);
        let text = self.tree.read(&format!("{path}{OVERRIDE}"));
        (self.driver_of(address), text.trim_end().to_owned())
    }

    fn driver_of(&self, address: &str) -> Option<String> {
        let link = self.tree.locate(self.tree.device(address)).join("driver");
        let target = fs::read_link(link).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    fn act(&self, path: &str, value: &str) -> Result<(), i32> {
        let address = path.split('/').nth(5).unwrap_or_default();
        if let Some(errno) = self.refused.get(path) {
            return Err(*errno);
        }
        if path == "/sys/bus/pci/drivers_probe" {
            self.probe(value);
        } else if path.ends_with(OVERRIDE) {
            let set = value.trim_end_matches('\n');
            let shown = if set.is_empty() { "(null)" } else { set };
            self.tree
                .write(&format!("{}{OVERRIDE}", self.tree.device(address)), format!("{shown}\n"));
        } else if path.ends_with("/reset_method") {
            self.tree.write(&format!("{}/reset_method", self.tree.device(address)), value);
        } else if path.ends_with(UNBIND) {
            if self.driver_of(address).is_none() {
                return Err(rustix::io::Errno::NOENT.raw_os_error());
            }
            let was = self.driver_of(address);
            self.tree.unbind(address);
            self.power(address, false);
            if was.as_deref() == Some(VFIO_PCI) {
                self.show_node(address);
            }
        } else {
            return Err(rustix::io::Errno::NOENT.raw_os_error());
        }
        Ok(())
    }

    /// Lets a driver bind a function that has none; silent, whatever comes of it.
    fn probe(&self, address: &str) {
        if self.driver_of(address).is_some() {
            return;
        }
        let (_, set) = self.binding(address);
        let driver = match set.as_str() {
            "(null)" => self.natural.get(address).and_then(|drivers| drivers.first()).cloned(),
            set => Some(set.to_owned()),
        };
        let Some(driver) = driver else { return };
        let known = self.tree.locate(&format!("/sys/bus/pci/drivers/{driver}")).exists();
        // vfio-pci's probe fails with -EINVAL where no IOMMU group isolates the function
        // (drivers/vfio/group.c, vfio_group_find_or_alloc).
        let isolated = self.tree.locate(self.tree.device(address)).join("iommu_group").exists();
        let accepted = driver != VFIO_PCI || isolated;
        let matches = driver == VFIO_PCI
            || self.natural.get(address).is_some_and(|drivers| drivers.contains(&driver));
        if known && accepted && matches {
            self.tree.bind(address, &driver);
            self.power(address, driver == VFIO_PCI);
            self.show_node(address);
        }
    }

    /// vfio-pci suspends what nobody uses (drivers/vfio/pci/vfio_pci_core.c,
    /// vfio_pci_core_register_device), and a driver is unbound from a function that is awake
    /// (drivers/pci/pci-driver.c, pci_device_remove).
    fn power(&self, address: &str, asleep: bool) {
        let device = self.tree.device(address);
        // What is stuck counts as awake all the same: the kernel reads back the power state alone.
        let in_d3 = asleep || self.stuck.contains(address) && self.is_in_d3(address);
        let status = if asleep { "suspended" } else { "active" };
        let state = if in_d3 { "D3hot" } else { "D0" };
        self.tree.write(&format!("{device}/power/runtime_status"), format!("{status}\n"));
        self.tree.write(&format!("{device}/power_state"), format!("{state}\n"));
        let Some((offset, mut config)) = self.pmcsr(address) else { return };
        config[offset] = config[offset] & !3 | if in_d3 { 3 } else { 0 };
        self.tree.write(&format!("{device}/config"), config);
    }

    fn is_in_d3(&self, address: &str) -> bool {
        self.pmcsr(address).is_some_and(|(offset, config)| config[offset] & 3 == 3)
    }

    /// The configuration space of a function and where its power state is in that.
    fn pmcsr(&self, address: &str) -> Option<(usize, Vec<u8>)> {
        let path = self.tree.locate(&format!("{}/config", self.tree.device(address)));
        let config = ConfigSpace::new(fs::read(path).ok()?);
        let offset = config.capabilities().find(Capability::POWER)? + 4;
        Some((usize::from(offset), config.bytes().to_vec()))
    }

    /// A group has a node while one of its functions is on vfio-pci (drivers/vfio/group.c,
    /// vfio_create_group and vfio_device_remove_group).
    fn show_node(&self, address: &str) {
        let group = self.tree.locate(self.tree.device(address)).join("iommu_group");
        let Ok(group) = fs::read_link(group) else { return };
        let group = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let node = format!("/dev/vfio/{group}");
        let members = format!("/sys/kernel/iommu_groups/{group}/devices");
        let has_one = fs::read_dir(self.tree.locate(&members)).is_ok_and(|members| {
            members.flatten().any(|member| {
                self.driver_of(&member.file_name().to_string_lossy()).as_deref() == Some(VFIO_PCI)
            })
        });
        if !has_one {
            self.tree.remove(&node);
        } else if !self.tree.locate(&node).exists() {
            self.tree.write(&node, "");
        }
    }
}

impl SysfsWriter for FakeKernel {
    fn write(&self, order: &Order<'_>) -> Result<(), WriteFailure> {
        let Order { path, value, lock } = *order;
        let number = self.writes.borrow().len();
        if self.kill.get() == Some(Kill::Before(number)) {
            resume_unwind(Box::new(Killed));
        }
        self.writes.borrow_mut().push((path.to_owned(), value.trim_end().to_owned()));
        let (path, value) = (path.to_owned(), value.to_owned());
        let begin = |pid| {
            let work = Work { pid, path: path.clone(), value: value.clone() };
            let turn = Turn::take(lock.expect("a write of a lease"), &work);
            let turn = turn.expect("nobody else has the turn");
            self.late.replace(Some((turn, path.clone(), value.clone())));
        };
        if self.kill.get() == Some(Kill::Within(number)) {
            begin(HELPER_PID);
            resume_unwind(Box::new(Killed));
        }
        if path.ends_with(UNBIND) && self.hanging.contains(&value) {
            begin(HUNG_PID);
            return Err(WriteFailure::Hung { path, value, pid: HUNG_PID });
        }
        self.act(&path, &value).map_err(|errno| WriteFailure::Refused {
            path,
            value,
            source: io::Error::from_raw_os_error(errno),
        })?;
        if self.kill.get() == Some(Kill::After(number)) {
            resume_unwind(Box::new(Killed));
        }
        Ok(())
    }

    fn passes(&self) {
        let number = self.passed.replace(self.passed.get() + 1);
        if self.kill.get() == Some(Kill::At(number)) {
            resume_unwind(Box::new(Killed));
        }
    }

    fn chown(&self, node: &Path, uid: u32, gid: u32) -> io::Result<()> {
        // Only root may give files away, and a test need not be root.
        if !node.exists() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let node = node.strip_prefix(self.tree.root()).expect("a node of the tree");
        let node = format!("/{}", node.display());
        self.passes();
        self.owners.borrow_mut().push((node, uid, gid));
        self.passes();
        Ok(())
    }
}
