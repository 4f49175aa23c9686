//! A QEMU without a processor, with the command line that a run would have.

use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest::machine::{
    self, Accelerator, Boot, Card, Disk, DiskBus, Display, Network, NewFile, Request, Rom, RomFile,
};
use guest::qemu::{self, Cache, DiskFormat, Firmware};
use host::{Sysroot, SystemRunner};
use pci::config::Capability;
use tempfile::TempDir;

use super::super::said;
use super::Subject;
use super::client::Qtest;

/// How long QEMU may take to start, and to answer a command.
const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(10);
const MEMORY_MIB: u64 = 64;
/// The machine never boots, but it has a disk as every run has.
const BOOT_DISK_SIZE: u64 = 1 << 20;

/// A running QEMU. Dropped, it is killed.
pub(super) struct Machine {
    pub(super) qtest: Qtest,
    process: Process,
    /// The other ends of its control channel and its serial line.
    _channels: [UnixStream; 2],
}

impl Machine {
    /// Starts a machine with these cards of the host.
    pub(super) fn start(host: &Sysroot, cards: &[Subject]) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(said)?;
        let socket = directory.path().join("qtest");
        let listener = UnixListener::bind(&socket).map_err(said)?;
        listener.set_nonblocking(true).map_err(said)?;
        let planned = plan(host, cards, directory.path(), &socket)?;
        for file in &planned.files {
            match file {
                NewFile::Zeros { path, size } => zeros(path, *size)?,
                NewFile::Copy { from, to } => std::fs::copy(from, to).map(drop).map_err(said)?,
            }
        }
        let (control, its_control) = UnixStream::pair().map_err(said)?;
        let (serial, its_serial) = UnixStream::pair().map_err(said)?;
        let log = File::create(directory.path().join("log")).map_err(said)?;
        let child = Command::new(&planned.executable)
            .args(&planned.arguments)
            .stdin(OwnedFd::from(its_control))
            .stdout(OwnedFd::from(its_serial))
            .stderr(Stdio::from(log))
            .spawn()
            .map_err(|error| format!("{}: {error}", planned.executable.display()))?;
        let mut process = Process { child, directory };
        let mut qtest = Qtest::new(process.connected(&listener)?, PATIENCE);
        // The first answer comes when all devices are there.
        qtest.command("endianness").map_err(|error| process.explain(&error))?;
        Ok(Self { qtest, process, _channels: [control, serial] })
    }

    /// An error, with what QEMU has complained of so far.
    pub(super) fn explain(&self, error: &str) -> String {
        self.process.explain(error)
    }
}

struct Process {
    child: Child,
    directory: TempDir,
}

impl Process {
    /// Waits until QEMU has connected to its qtest channel.
    fn connected(&mut self, listener: &UnixListener) -> Result<UnixStream, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).map_err(said)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(said(error)),
            }
            if let Some(status) = self.child.try_wait().map_err(said)? {
                return Err(self.explain(&format!("QEMU ended with {status}")));
            }
            if Instant::now() > deadline {
                return Err(self.explain("QEMU does not connect"));
            }
            sleep(TICK);
        }
    }

    fn explain(&self, error: &str) -> String {
        let log = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        match String::from_utf8_lossy(&log).trim() {
            "" => error.to_owned(),
            complaints => format!("{error}; QEMU says: {complaints}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn zeros(path: &Path, size: u64) -> Result<(), String> {
    File::create(path).and_then(|file| file.set_len(size)).map_err(said)
}

/// Plans the machine as a run with these cards would be planned.
fn plan(
    host: &Sysroot,
    cards: &[Subject],
    directory: &Path,
    socket: &Path,
) -> Result<machine::Machine, String> {
    let disk = directory.join("boot-disk");
    zeros(&disk, BOOT_DISK_SIZE)?;
    let mut connect = OsString::from("unix:");
    connect.push(socket);
    let extra = ["-qtest-log", "none", "-qtest"].map(OsString::from).into_iter();
    let request = Request {
        name: "kireji-test".to_owned(),
        boot: Boot::Disk(Disk {
            file: disk.clone(),
            format: DiskFormat::Raw,
            offset: 0,
            image: disk,
            boots: None,
            bus: DiskBus::Ahci,
        }),
        memory_mib: MEMORY_MIB,
        cpus: 1,
        accelerator: Accelerator::Qtest,
        firmware: None,
        cards: cards.iter().map(passed).collect(),
        emulated: Vec::new(),
        display: Display::None,
        primary_display: false,
        network: Network::Default { forwards: vec![] },
        sound: false,
        inputs: Vec::new(),
        usb: Vec::new(),
        may_reboot: false,
        extra: extra.chain([connect]).collect(),
        directory: directory.to_owned(),
    };
    let executable = qemu::locate(None, std::env::var_os("PATH").as_deref()).map_err(said)?;
    let cache = Cache { directory: cache(), writable: true, owner: None };
    let capabilities = cache.capabilities(&SystemRunner, &executable).map_err(said)?;
    let firmware = Firmware::find(host).map_err(said)?;
    machine::plan(&request, &capabilities, &firmware).map_err(said)
}

/// What QEMU can do is asked once, not for each machine.
fn cache() -> PathBuf {
    std::env::temp_dir().join("kireji-test-qemu")
}

fn passed(card: &Subject) -> Card {
    let functions = vec![machine::Function {
        address: card.function.address,
        class: card.function.class,
        rom: Rom::Unmeasured,
        rom_file: Some(RomFile::Hidden),
        character_device: None,
    }];
    let express = card.config.capabilities().find(Capability::EXPRESS).is_some();
    Card { functions, express }
}
