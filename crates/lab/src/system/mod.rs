//! A rig that starts from a disk of its own, by its firmware and its boot loader, as the machines of
//! people do. It can be rebooted and lose its power, and commands can be run in it between.
//!
//! The system on the disk mounts the file system with the label [`PAYLOAD`], which is made anew for
//! each machine, on a directory and starts `agent` there; and the lab's tools disk on [`MOUNT_POINT`],
//! where the launchers of QEMU in the payload expect it.

mod channel;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use guest::process::Launcher;
use host::{Program, Runner};
use tempfile::TempDir;

use crate::arguments::{Firmware, MemoryDisk, Parts, Start, arguments};
use crate::disk;
use crate::rig::Rig;
use crate::run::{LabError, abilities, disks, failure};
use crate::spawn::Qemu;
use crate::tools::{LAUNCHED, MOUNT_POINT, Tools, launcher};

use channel::Channel;
pub use channel::Done;

/// The label of the file system with what is put into a machine.
pub const PAYLOAD: &str = "kireji-payload";

/// The program of the payload that the system starts.
const AGENT: &str = include_str!("agent.sh");

/// What a machine is made of.
#[derive(Clone, Copy, Debug)]
pub struct System<'a> {
    /// The lab's equipment.
    pub tools: &'a Tools,
    /// How kireji is started as the launcher of QEMU.
    pub launcher: &'a Launcher,
    /// The disk, a raw image, which is not written to.
    pub disk: &'a Path,
    /// The firmware; a file of variables is copied, and not written to.
    pub firmware: &'a Firmware,
    /// Files of the host, and what each is called in the payload.
    pub payload: &'a [(PathBuf, String)],
    /// Whether to use KVM rather than emulate the processor.
    pub kvm: bool,
}

/// A machine with a disk of its own. What is written to the disk stays as long as this value.
#[derive(Debug)]
pub struct Machine<'a> {
    system: System<'a>,
    firmware: Firmware,
    dir: TempDir,
    starts: usize,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    qemu: Qemu,
    channel: Channel,
    console: PathBuf,
    boot: String,
    boot_limit: Duration,
}

impl<'a> Machine<'a> {
    /// Makes the machine's disk and its payload. It does not run yet.
    ///
    /// # Errors
    /// A file cannot be written, or qemu-img(1) or mke2fs(8) refuses.
    pub fn new(runner: &dyn Runner, system: System<'a>) -> Result<Self, LabError> {
        let dir = tempfile::Builder::new().prefix("kireji-system-").tempdir();
        let dir = dir.map_err(|source| LabError::write(&std::env::temp_dir(), source))?;
        overlay(runner, &system, &dir.path().join("system.qcow2"))?;
        payload(runner, &system, dir.path())?;
        let firmware = match system.firmware {
            Firmware::Bios => Firmware::Bios,
            Firmware::Uefi { code, variables } => {
                let own = dir.path().join("variables");
                std::fs::copy(variables, &own).map_err(|source| LabError::write(&own, source))?;
                Firmware::Uefi { code: code.clone(), variables: own }
            }
        };
        Ok(Self { system, firmware, dir, starts: 0, running: None })
    }

    /// Switches the machine on with the cards of `rig`, and returns how long the system took to come
    /// up. Where it runs, its power fails first.
    ///
    /// # Errors
    /// QEMU does not start, or the system does not come up within the rig's time.
    pub fn power_on(&mut self, runner: &dyn Runner, rig: &Rig) -> Result<Duration, LabError> {
        self.power_fails();
        let System { tools, .. } = self.system;
        let path = |name: &str| self.dir.path().join(name);
        self.starts += 1;
        let console = path(&format!("console-{}.log", self.starts));
        let payload = path("payload.img");
        let size = payload.metadata().map_err(|source| LabError::write(&payload, source))?.len();
        let tools_disk = tools.disk.clone().into_iter();
        let start = Start::Disk { image: path("system.qcow2"), firmware: self.firmware.clone() };
        let parts = Parts {
            start,
            console: console.clone(),
            memory_disks: tools_disk.chain([MemoryDisk { image: payload, size }]).collect(),
            disks: disks(runner, rig, self.dir.path())?,
            abilities: abilities(runner, rig, tools)?,
            kvm: self.system.kvm,
        };
        let log = path("qemu.log");
        let log = File::create(&log).map_err(|source| LabError::write(&log, source))?;
        let launcher = self.system.launcher;
        let qemu = Qemu::start(launcher, &tools.qemu, &arguments(rig, &parts), log);
        let mut qemu =
            qemu.map_err(|source| LabError::Start { program: launcher.program.clone(), source })?;
        let output = qemu.output().ok_or_else(|| LabError::Channel(no_channel()))?;
        let boot_limit = Duration::from_secs(rig.boot_limit_s.into());
        let channel = Channel::new(output);
        self.running = Some(Running { qemu, channel, console, boot: String::new(), boot_limit });
        self.comes_up()
    }

    /// Reboots the system by its own means: the machine stays on. Returns how long it took until the
    /// system was up again.
    ///
    /// # Errors
    /// The system does not go down, or does not come up again within the rig's time.
    pub fn reboot(&mut self) -> Result<Duration, LabError> {
        let Some(running) = &mut self.running else { return Err(LabError::Channel(no_channel())) };
        // The agent may be gone before it can answer.
        running.channel.send(running.qemu.input(), "systemctl --no-block reboot")?;
        self.comes_up()
    }

    /// The power fails: what the system has not written to its disk by now is lost.
    pub fn power_fails(&mut self) {
        self.running = None;
    }

    /// Runs a script of the system's shell, and returns what it wrote and its exit code.
    ///
    /// # Errors
    /// The machine is off or ends, or the script takes longer than `limit`. A script that fails is no
    /// error.
    pub fn run(&mut self, script: &str, limit: Duration) -> Result<Done, LabError> {
        let Some(running) = &mut self.running else { return Err(LabError::Channel(no_channel())) };
        let done = running.channel.run(running.qemu.input(), script, limit);
        done.map_err(|error| self.explain(error))
    }

    /// What the kernel and the boot loader have said since the machine was switched on.
    pub fn console(&self) -> String {
        let console = self.running.as_ref().map(|running| &running.console);
        let bytes = console.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn comes_up(&mut self) -> Result<Duration, LabError> {
        let started = Instant::now();
        let Some(running) = &mut self.running else { return Err(LabError::Channel(no_channel())) };
        match running.channel.greeting(&running.boot, running.boot_limit) {
            Ok(boot) => running.boot = boot,
            Err(error) => return Err(self.explain(error)),
        }
        Ok(started.elapsed())
    }

    /// Adds to an error what QEMU and the system said last.
    fn explain(&mut self, error: LabError) -> LabError {
        let Some(running) = &mut self.running else { return error };
        drop(running.qemu.wait(Duration::from_millis(500)));
        if let (LabError::Ended { .. }, Some(failure)) = (&error, running.qemu.failure()) {
            return LabError::Launch(failure);
        }
        failure::explain(error, &self.dir.path().join("qemu.log"), &running.console)
    }
}

fn no_channel() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// Makes the disk that is written to: what it has not itself, it has of the system's.
fn overlay(runner: &dyn Runner, system: &System<'_>, overlay: &Path) -> Result<(), LabError> {
    let program = Program::new(system.tools.qemu.with_file_name("qemu-img"))
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(system.disk)
        .arg(overlay);
    let done = runner.run(&program)?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(LabError::write(overlay, io::Error::other(said)))
}

/// Makes the file system with what is put into the machine.
fn payload(runner: &dyn Runner, system: &System<'_>, dir: &Path) -> Result<(), LabError> {
    use std::os::unix::fs::PermissionsExt;
    let tree = dir.join("payload");
    std::fs::create_dir(&tree).map_err(|source| LabError::write(&tree, source))?;
    let shell = format!("{MOUNT_POINT}/usr/bin/busybox sh");
    let launchers = LAUNCHED.map(|name| (name, launcher(MOUNT_POINT, &shell, name)));
    for (name, text) in [("agent", AGENT.to_owned())].into_iter().chain(launchers) {
        let path = tree.join(name);
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::write(&path, text)
            .and_then(|()| std::fs::set_permissions(&path, executable))
            .map_err(|source| LabError::write(&path, source))?;
    }
    let mut size = 0;
    for (source, name) in system.payload {
        let target = tree.join(name);
        let copied = std::fs::copy(source, &target);
        size += copied.map_err(|source| LabError::write(&target, source))?;
    }
    let image = dir.join("payload.img");
    let write = |source| LabError::write(&image, source);
    // Room for what ext4 itself needs; a multiple of 2 MiB, as an NVDIMM must be.
    let size = (size + size / 10 + (8 << 20)).next_multiple_of(2 << 20);
    File::create(&image).and_then(|file| file.set_len(size)).map_err(write)?;
    let tree = tree.to_str().ok_or_else(|| write(io::ErrorKind::InvalidFilename.into()))?;
    disk::mke2fs(runner, &["-L", PAYLOAD, "-E", "root_owner=0:0", "-d", tree], &image)?;
    Ok(())
}
