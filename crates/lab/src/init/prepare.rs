//! Makes a rig ready for a command.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use guest::initramfs::{MODULES_DIR, MODULES_LIST};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::{InitError, file_error};
use crate::tools::MOUNT_POINT;

/// Where the tools disk appears: it is the rig's only NVDIMM.
const TOOLS_DISK: &str = "/dev/pmem0";

const TOOLS_DISK_SECONDS: u64 = 20;

/// Mounts what the kernel provides. Where, what, and with which options.
pub fn kernel_file_systems() -> Result<(), InitError> {
    const MOUNTS: [(&str, &str, Option<&CStr>); 7] = [
        ("/proc", "proc", None),
        ("/sys", "sysfs", None),
        ("/dev", "devtmpfs", None),
        ("/dev/pts", "devpts", Some(c"mode=600,ptmxmode=666")),
        ("/dev/shm", "tmpfs", Some(c"mode=1777")),
        ("/run", "tmpfs", Some(c"mode=755")),
        ("/tmp", "tmpfs", Some(c"mode=1777")),
    ];
    for (target, kind, options) in MOUNTS {
        match rustix::fs::mkdir(target, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(source) => return Err(InitError::Mount { target, source }),
        }
        rustix::mount::mount(kind, target, kind, MountFlags::empty(), options)
            .map_err(|source| InitError::Mount { target, source })?;
    }
    Ok(())
}

/// Loads the modules that came in the initramfs. One that the kernel refuses, as it does a driver
/// for another processor's instructions, is noted in the kernel's log.
pub fn modules() -> Result<(), InitError> {
    let list = Path::new("/").join(MODULES_LIST);
    let list = std::fs::read_to_string(&list).map_err(file_error(list.to_string_lossy()))?;
    for module in list.lines() {
        let path = Path::new("/").join(MODULES_DIR).join(module);
        let loaded = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::system::finit_module(file, c"", 0));
        match loaded {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => note(&format!("cannot load {module}: {errno}")),
        }
    }
    Ok(())
}

/// Mounts the disk with QEMU, firmware and a kernel, read-only.
pub fn tools_disk() -> Result<(), InitError> {
    let deadline = Instant::now() + Duration::from_secs(TOOLS_DISK_SECONDS);
    while !Path::new(TOOLS_DISK).exists() {
        if Instant::now() > deadline {
            return Err(InitError::NoDisk { device: TOOLS_DISK, seconds: TOOLS_DISK_SECONDS });
        }
        thread::sleep(Duration::from_millis(5));
    }
    rustix::mount::mount(TOOLS_DISK, MOUNT_POINT, "ext4", MountFlags::RDONLY, None)
        .map_err(|source| InitError::Mount { target: MOUNT_POINT, source })
}

/// Brings the loopback interface up, where there is a busybox to do it with.
pub fn loopback() {
    let mut ip = Command::new("/bin/busybox");
    ip.args(["ip", "link", "set", "lo", "up"]);
    ip.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match ip.status() {
        Ok(status) if status.success() => {}
        Ok(status) => note(&format!("cannot bring the loopback interface up: {status}")),
        Err(error) => note(&format!("cannot bring the loopback interface up: {error}")),
    }
}

/// Writes a line to the kernel's log, which is kept outside the rig. Where even that fails there
/// is nobody left to tell.
fn note(line: &str) {
    if let Ok(mut log) = File::options().write(true).open("/dev/kmsg") {
        drop(writeln!(log, "kireji: {line}"));
    }
}
