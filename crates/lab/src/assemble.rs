//! Builds the initramfs of a rig.

use std::path::{Path, PathBuf};

use guest::initramfs::{Initramfs, InitramfsError};
use host::modules::Modules;
use host::{Program, ReadError, Runner, Sysroot};

use crate::plan::{PLAN_PATH, Plan};
use crate::rig::{Device, Rig};
use crate::tools::{LAUNCHED, MOUNT_POINT, Tools, launcher};
use guest::kernel::Kernel;

/// What every rig loads: VFIO, for its cards to be taken.
const VFIO_MODULES: [&str; 2] = ["vfio-pci", "vfio_iommu_type1"];

/// What a rig with the tools disk loads: NVDIMM and ext4.
const DISK_MODULES: [&str; 3] = ["nfit", "nd_pmem", "ext4"];

/// What a file put into a rig may hold, in bytes.
const FILE_LIMIT: u64 = 512 << 20;

/// What goes into a rig's initramfs, beside what the rig says.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// kireji itself, which becomes the first process.
    pub program: &'a Path,
    /// Files of the host, and where they go in the rig.
    pub put: &'a [(PathBuf, String)],
    /// What the first process is to do.
    pub plan: &'a Plan,
}

/// Returns the initramfs of a rig. A file that is executable on the host is so in the rig, and
/// brings its libraries where it is an ELF program.
///
/// # Errors
/// A file or module cannot be read, or the kernel lacks a module that the rig needs.
pub fn assemble(
    host: &Sysroot,
    runner: &dyn Runner,
    rig: &Rig,
    tools: &Tools,
    kernel: &Kernel,
    contents: Contents<'_>,
) -> Result<Initramfs, InitramfsError> {
    let mut tree = Initramfs::new();
    for directory in ["dev", "proc", "run", "sys", "tmp", "root", "var", "etc"] {
        tree.directory(directory)?;
    }
    tree.program(host, contents.program, "bin/kireji")?;
    tree.symlink("init", "bin/kireji")?;
    let modules = Modules::read(host, &kernel.modules)?;
    tree.modules(host, &modules, module_names(rig))?;
    if let Some(busybox) = &tools.busybox {
        add_busybox(&mut tree, host, runner, busybox)?;
    }
    if rig.qemu {
        add_tools(&mut tree, tools)?;
    }
    for (source, target) in contents.put {
        put(&mut tree, host, source, target)?;
    }
    let plan = serde_json::to_vec(contents.plan).unwrap_or_default();
    tree.file(PLAN_PATH, 0o644, plan)?;
    Ok(tree)
}

fn module_names(rig: &Rig) -> Vec<&str> {
    let mut names = VFIO_MODULES.to_vec();
    let devices = rig.cards.iter().filter_map(|card| Device::named(&card.device));
    names.extend(devices.flat_map(|device| device.modules));
    if rig.qemu {
        names.extend(DISK_MODULES);
    }
    names.extend(rig.modules.iter().map(String::as_str));
    names
}

fn add_busybox(
    tree: &mut Initramfs,
    host: &Sysroot,
    runner: &dyn Runner,
    busybox: &Path,
) -> Result<(), InitramfsError> {
    tree.program(host, busybox, "bin/busybox")?;
    // The applets have their names in /bin alone; a busybox that cannot list them has a shell.
    let listed = runner.run(&Program::new(busybox).arg("--list"));
    let listed = listed.map(|done| String::from_utf8_lossy(&done.stdout).into_owned());
    let listed = listed.unwrap_or_else(|_| "sh\n".to_owned());
    for applet in listed.lines() {
        let path = format!("bin/{}", applet.trim());
        if !applet.contains('/') && !tree.contains(&path) {
            tree.symlink(&path, "busybox")?;
        }
    }
    Ok(())
}

/// Links from where programs look to where the tools disk has things, and launchers for its
/// programs.
fn add_tools(tree: &mut Initramfs, tools: &Tools) -> Result<(), InitramfsError> {
    tree.directory(MOUNT_POINT)?;
    let shell = format!("{MOUNT_POINT}/usr/bin/busybox sh");
    for name in LAUNCHED {
        let script = launcher(MOUNT_POINT, &shell, name);
        tree.file(&format!("usr/bin/{name}"), 0o755, script)?;
    }
    for data in ["qemu", "OVMF", "ovmf", "seabios"] {
        tree.symlink(&format!("usr/share/{data}"), &format!("{MOUNT_POINT}/usr/share/{data}"))?;
    }
    if let Some(release) = &tools.disk_release {
        let modules = format!("lib/modules/{release}");
        tree.symlink(&modules, &format!("{MOUNT_POINT}/usr/{modules}"))?;
        let image = format!("boot/vmlinuz-{release}");
        tree.symlink(&image, &format!("{MOUNT_POINT}/{image}"))?;
    }
    Ok(())
}

fn put(
    tree: &mut Initramfs,
    host: &Sysroot,
    source: &Path,
    target: &str,
) -> Result<(), InitramfsError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = host.locate(source).metadata();
    let metadata =
        metadata.map_err(|error| ReadError { path: source.to_owned(), source: error })?;
    let mode = metadata.permissions().mode();
    if mode & 0o111 != 0 {
        match tree.program(host, source, target) {
            // A script.
            Err(InitramfsError::NotProgram { .. }) => {}
            other => return other,
        }
    }
    tree.file(target, mode, host.read_limited(source, FILE_LIMIT)?)
}
