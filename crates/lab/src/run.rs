//! Runs a command in a rig.

pub(crate) mod failure;
mod input;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use guest::process::Launcher;
use host::{Program, Runner, Sysroot};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use tempfile::TempDir;

pub use failure::LabError;
pub(crate) use input::Input;

use crate::arguments::{Abilities, Parts, Start, arguments};
use crate::assemble::{Contents, assemble};
use crate::channel::{Decoder, Message};
use crate::disk;
use crate::plan::{Plan, Terminal};
use crate::rig::{Device, Iommu, Rig};
use crate::spawn::Qemu;
use crate::tools::Tools;
use guest::kernel::Kernel;

/// How long QEMU may take to end once the command has.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Where programs are in a rig.
const RIG_PATH: &str = "/bin:/usr/bin:/sbin:/usr/sbin";

/// A command to run in a rig.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The rig.
    pub rig: &'a Rig,
    /// The lab's equipment.
    pub tools: &'a Tools,
    /// kireji itself, which becomes the rig's first process and is `/bin/kireji` there.
    pub program: &'a Path,
    /// How kireji is started as the launcher of QEMU.
    pub launcher: &'a Launcher,
    /// The command with its arguments.
    pub command: &'a [String],
    /// What is added to the command's environment.
    pub environment: &'a [(String, String)],
    /// Files of the host, and where they go in the rig.
    pub put: &'a [(PathBuf, String)],
    /// The kernel to boot rather than the rig's or the lab's.
    pub kernel: Option<&'a Path>,
    /// How long the command may take, rather than what the rig says.
    pub time_limit: Option<Duration>,
    /// Whether to use KVM rather than emulate the processor.
    pub kvm: bool,
    /// Where to keep the kernel's console; without it, it is kept only for an error.
    pub console: Option<&'a Path>,
    /// What the command reads on standard input; without it, nothing.
    pub input: Option<BorrowedFd<'a>>,
    /// The run is given up when this becomes readable.
    pub cancel: Option<BorrowedFd<'a>>,
}

/// How a command in a rig ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The command's exit code; 128 + n where signal n ended it.
    pub code: i32,
    /// How long each part took.
    pub times: Times,
}

/// How long the parts of a run took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// To make the initramfs and disks.
    pub prepare: Duration,
    /// From QEMU's start to kireji's greeting inside.
    pub boot: Duration,
    /// From there to the command's start: kernel modules, the tools disk.
    pub ready: Duration,
    /// The command.
    pub command: Duration,
}

/// Boots the rig, runs the command in it, and copies what it writes, byte by byte, to `stdout` and
/// `stderr`. When this returns, QEMU has ended and the run's files are gone. To be called on a thread
/// that lives as long as the run may: the kernel ends QEMU with the thread that started it.
///
/// # Errors
/// The rig could not be built, booted or followed to the command's end; or `stdout` or `stderr`
/// could not be written.
pub fn run(
    host: &Sysroot,
    runner: &dyn Runner,
    request: Request<'_>,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Result<Ended, LabError> {
    let started = Instant::now();
    let mut session = Session::start(host, runner, request, None)?;
    let prepare = started.elapsed();
    let ended = session.follow(request, stdout, stderr);
    let (code, times) = ended.map_err(|error| session.explain(error))?;
    // The command has ended, so what QEMU does now can no longer matter.
    drop(session.qemu.wait(END_LIMIT));
    Ok(Ended { code, times: Times { prepare, ..times } })
}

/// A booting or running rig, with its files.
pub(crate) struct Session {
    pub(crate) qemu: Qemu,
    pub(crate) dir: TempDir,
    console: PathBuf,
    started: Instant,
    greeted: Option<Instant>,
    boot_limit: Duration,
    time_limit: Duration,
}

impl Session {
    pub(crate) fn start(
        host: &Sysroot,
        runner: &dyn Runner,
        request: Request<'_>,
        terminal: Option<Terminal>,
    ) -> Result<Self, LabError> {
        let Request { rig, tools, .. } = request;
        if request.command.is_empty() {
            return Err(LabError::NoCommand);
        }
        if rig.qemu && tools.disk.is_none() {
            return Err(LabError::NoToolsDisk { rig: rig.name.clone() });
        }
        let kernel = match request.kernel.or(rig.kernel.as_deref()) {
            Some(image) => Kernel::at(host, image)?,
            None => match &tools.kernel {
                Some(kernel) => kernel.clone(),
                None => Kernel::running(host)?,
            },
        };
        let dir = tempfile::Builder::new().prefix("kireji-rig-").tempdir();
        let dir = dir.map_err(|source| LabError::write(&std::env::temp_dir(), source))?;
        let path = |name: &str| dir.path().join(name);

        let plan = plan(request, terminal);
        let contents = Contents { program: request.program, put: request.put, plan: &plan };
        let tree = assemble(host, runner, rig, tools, &kernel, contents)?;
        let initramfs = path("initramfs");
        let write = |source| LabError::write(&initramfs, source);
        tree.write(BufWriter::new(File::create(&initramfs).map_err(write)?)).map_err(write)?;
        let start = Start::Kernel { image: host.locate(&kernel.image), initramfs };
        let parts = Parts {
            start,
            console: request.console.map_or_else(|| path("console.log"), Path::to_owned),
            memory_disks: tools.disk.clone().filter(|_| rig.qemu).into_iter().collect(),
            disks: disks(runner, rig, dir.path())?,
            abilities: abilities(runner, rig, tools)?,
            kvm: request.kvm,
        };
        let log = path("qemu.log");
        let log = File::create(&log).map_err(|source| LabError::write(&log, source))?;
        let arguments = arguments(rig, &parts);
        let qemu = Qemu::start(request.launcher, &tools.qemu, &arguments, log);
        let qemu = qemu.map_err(|source| LabError::Start {
            program: request.launcher.program.clone(),
            source,
        })?;
        let time_limit = Duration::from_secs(rig.time_limit_s.into());
        Ok(Self {
            qemu,
            dir,
            console: parts.console,
            started: Instant::now(),
            greeted: None,
            boot_limit: Duration::from_secs(rig.boot_limit_s.into()),
            time_limit: request.time_limit.unwrap_or(time_limit),
        })
    }

    /// Follows the rig to the command's exit code.
    fn follow(
        &mut self,
        request: Request<'_>,
        stdout: &mut dyn Write,
        stderr: &mut dyn Write,
    ) -> Result<(i32, Times), LabError> {
        let Some(mut channel) = self.qemu.output() else {
            return Err(LabError::Channel(io::ErrorKind::NotConnected.into()));
        };
        let mut decoder = Decoder::default();
        let mut times = Times::default();
        let mut input = Input::new(request.input);
        loop {
            self.receive(&mut channel, &mut decoder, request.cancel, &mut input)?;
            times.boot = self.greeted.map_or(times.boot, |greeted| greeted - self.started);
            while let Some(message) = decoder.next_message()? {
                match message {
                    Message::Started => times.ready = self.since(times),
                    Message::Stdout(bytes) => pass(&bytes, stdout)?,
                    Message::Stderr(bytes) => pass(&bytes, stderr)?,
                    Message::Exit(code) => {
                        times.command = self.since(times);
                        return Ok((code, times));
                    }
                    Message::Room(bytes) => input.allow(bytes)?,
                    Message::Failed(reason) => return Err(LabError::Inside { reason }),
                }
            }
        }
    }

    /// What has passed since QEMU's start beyond the parts already measured.
    fn since(&self, times: Times) -> Duration {
        self.started.elapsed().saturating_sub(times.boot + times.ready)
    }

    /// Waits for bytes from the rig and gives them to the decoder, and passes the command's input on
    /// meanwhile.
    pub(crate) fn receive(
        &mut self,
        channel: &mut (impl Read + AsFd),
        decoder: &mut Decoder,
        cancel: Option<BorrowedFd<'_>>,
        input: &mut Input<'_>,
    ) -> Result<(), LabError> {
        let (since, limit) = match self.greeted {
            Some(greeted) => (greeted, self.time_limit),
            None => (self.started, self.boot_limit),
        };
        let left = limit.saturating_sub(since.elapsed());
        let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        // What is not waited for is polled for nothing, which the channel's end would show too.
        let never = PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::empty());
        let to_rig = self.qemu.input();
        let writable = PollFd::new(to_rig, PollFlags::OUT);
        let mut polled = [
            readable(channel.as_fd()),
            cancel.map_or(never.clone(), readable),
            input.source().map_or(never.clone(), readable),
            if input.is_waiting() { writable } else { never },
        ];
        // What the clock cannot count never comes.
        let timeout = Timespec::try_from(left).ok();
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(0) => return Err(self.too_slow()),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(errno) => return Err(LabError::Channel(errno.into())),
        }
        let [from_rig, cancelled, source, to_rig] = polled.map(|fd| !fd.revents().is_empty());
        if cancelled && cancel.is_some() {
            return Err(LabError::Cancelled);
        }
        if source && input.source().is_some() {
            input.fill()?;
        }
        if to_rig && input.is_waiting() {
            input.send(self.qemu.input())?;
        }
        if !from_rig {
            return Ok(());
        }
        let mut bytes = vec![0; 64 << 10];
        let length = match channel.read(&mut bytes) {
            Ok(0) => {
                let greeted = self.greeted.is_some();
                return Err(LabError::Ended { greeted, tail: String::new() });
            }
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(LabError::Channel(error)),
        };
        decoder.feed(&bytes[..length])?;
        if self.greeted.is_none() && decoder.greeted() {
            self.greeted = Some(Instant::now());
        }
        Ok(())
    }

    fn too_slow(&self) -> LabError {
        match self.greeted {
            Some(_) => LabError::TimeLimit { seconds: self.time_limit.as_secs() },
            None => {
                let seconds = self.boot_limit.as_secs();
                LabError::BootTimeout { seconds, tail: String::new() }
            }
        }
    }

    /// Adds to an error of the rig what QEMU and the kernel said last.
    pub(crate) fn explain(&mut self, error: LabError) -> LabError {
        // QEMU writes its message before it closes the channel, and ends right after.
        drop(self.qemu.wait(Duration::from_millis(500)));
        if let (LabError::Ended { .. }, Some(failure)) = (&error, self.qemu.failure()) {
            return LabError::Launch(failure);
        }
        failure::explain(error, &self.dir.path().join("qemu.log"), &self.console)
    }
}

fn plan(request: Request<'_>, terminal: Option<Terminal>) -> Plan {
    let fixed = [("HOME", "/root"), ("PATH", RIG_PATH), ("KIREJI_RIG", request.rig.name.as_str())];
    let fixed = fixed.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Plan {
        command: request.command.to_vec(),
        environment: fixed.into_iter().chain(request.environment.iter().cloned()).collect(),
        tools: request.rig.qemu,
        terminal,
    }
}

pub(crate) fn disks(runner: &dyn Runner, rig: &Rig, dir: &Path) -> Result<Vec<PathBuf>, LabError> {
    let mut made = Vec::new();
    for card in &rig.cards {
        if Device::named(&card.device).is_some_and(Device::has_disk) {
            let path = dir.join(format!("disk{}", made.len()));
            disk::make(runner, card.disk, &path)?;
            made.push(path);
        }
    }
    Ok(made)
}

pub(crate) fn abilities(
    runner: &dyn Runner,
    rig: &Rig,
    tools: &Tools,
) -> Result<Abilities, LabError> {
    if rig.iommu != Iommu::Amd {
        return Ok(Abilities::default());
    }
    let done = runner.run(&Program::new(&tools.qemu).args(["-device", "amd-iommu,help"]))?;
    let help = String::from_utf8_lossy(&done.stdout).into_owned();
    Ok(Abilities { amd_dma_remap: help.contains("dma-remap=") })
}

fn pass(bytes: &[u8], to: &mut dyn Write) -> Result<(), LabError> {
    to.write_all(bytes).and_then(|()| to.flush()).map_err(LabError::Output)
}
