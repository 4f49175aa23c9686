//! Makes a rig ready for a command.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use guest::inside::{self, FILE_SYSTEMS, InsideError, Mount, note};
use rustix::mount::MountFlags;

use super::InitError;
use crate::tools::MOUNT_POINT;

/// Where the tools disk appears: it is the rig's only NVDIMM.
const TOOLS_DISK: &str = "/dev/pmem0";

const TOOLS_DISK_SECONDS: u64 = 20;

/// Mounts what the kernel provides.
pub fn kernel_file_systems() -> Result<(), InitError> {
    const BESIDE: [Mount; 4] = [
        ("/dev/pts", "devpts", Some(c"mode=600,ptmxmode=666")),
        ("/dev/shm", "tmpfs", Some(c"mode=1777")),
        ("/run", "tmpfs", Some(c"mode=755")),
        ("/tmp", "tmpfs", Some(c"mode=1777")),
    ];
    inside::mount(&FILE_SYSTEMS)?;
    Ok(inside::mount(&BESIDE)?)
}

/// Loads the modules that came in the initramfs. One that the kernel refuses, as it does a driver
/// for another processor's instructions, is noted in the kernel's log.
pub fn modules() -> Result<(), InitError> {
    for (module, errno) in inside::load_modules(|_| c"")? {
        note(&format!("cannot load {module}: {errno}"));
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
        .map_err(|source| InsideError::Mount { target: MOUNT_POINT, source })?;
    Ok(())
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
