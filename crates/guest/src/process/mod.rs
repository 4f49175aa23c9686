//! QEMU as a process: started through the launcher, looked after until its end.
//!
//! One thread looks after it: it polls QEMU's end (a pidfd), the control channel, the wishes of
//! other threads, the serial line's bell and what asks it to stop. [`Qemu::start`] must be called
//! on a thread that lives as long as QEMU may, for the kernel ends QEMU with the *thread* that
//! started it (prctl(2), PR_SET_PDEATHSIG).

mod event;
mod follow;
mod outcome;
mod supervise;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

pub use event::{Event, Stage, Stages};
pub use outcome::{Ending, GuestEnd, Outcome, Supervision};

use crate::launch::Launch;
use crate::machine::Machine;
use crate::qmp::{Connection, Control, Wishes};
use crate::rundir::RunDirectory;
use crate::serial::{Serial, Show};

/// How the launcher is started: a program and its first arguments, after which come the launch,
/// `--`, QEMU and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// The program; kireji itself.
    pub program: PathBuf,
    /// Arguments by which it knows that it is to be the launcher.
    pub arguments: Vec<OsString>,
}

/// How QEMU is stopped, politely first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long the guest may take to shut down after its power button was pressed; `None` does
    /// not press it, for what the guest holds is thrown away anyhow.
    pub power_down: Option<Duration>,
    /// How long QEMU may take to end after being told to quit, then after SIGTERM, each.
    pub quit: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { power_down: None, quit: Duration::from_secs(5) }
    }
}

/// QEMU could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A channel to it could not be made.
    #[error("cannot make QEMU's channels")]
    Channels(#[source] io::Error),
    /// Its log cannot be written.
    #[error("cannot open QEMU's log {}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The launcher could not be started.
    #[error("cannot start the launcher {}", program.display())]
    Launcher {
        /// The program.
        program: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A path that the launcher needs is not UTF-8.
    #[error("cannot tell the launcher what to do")]
    Argument(#[source] serde_json::Error),
}

/// A started QEMU. Dropped before its end was waited for, it is killed.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    pidfd: OwnedFd,
    connection: Connection,
    control: Control,
    wishes: Wishes,
    serial: Option<Serial>,
    bell: UnixStream,
    serial_in: UnixStream,
    stages: Stages,
    log: PathBuf,
    serial_log: PathBuf,
}

impl Qemu {
    /// Starts the machine. Times are counted from `requested`.
    ///
    /// # Errors
    /// The launcher cannot be started. Whether it and QEMU succeed is seen by
    /// [`Qemu::supervise`].
    pub fn start(
        machine: &Machine,
        launcher: &Launcher,
        launch: &Launch,
        run: &RunDirectory,
        show: Option<Show>,
        requested: Instant,
    ) -> Result<Self, StartError> {
        let (control_end, qemu_control) = UnixStream::pair().map_err(StartError::Channels)?;
        let (line, qemu_line) = UnixStream::pair().map_err(StartError::Channels)?;
        let (bell, rope) = UnixStream::pair().map_err(StartError::Channels)?;
        bell.set_nonblocking(true).map_err(StartError::Channels)?;
        let (control, wishes) = Control::pair().map_err(StartError::Channels)?;
        let serial_in = line.try_clone().map_err(StartError::Channels)?;
        let connection = Connection::new(control_end).map_err(StartError::Channels)?;
        let log = run.qemu_log();
        let errors = OpenOptions::new().append(true).create(true).open(&log);
        let errors = errors.map_err(|source| StartError::Log { path: log.clone(), source })?;
        let serial = Serial::start(line, &run.serial_log(), show, rope);
        let serial = serial.map_err(StartError::Channels)?;

        let mut stages = Stages::new(requested);
        let child = Command::new(&launcher.program)
            .args(&launcher.arguments)
            .arg(launch.to_argument().map_err(StartError::Argument)?)
            .arg("--")
            .arg(&machine.executable)
            .args(&machine.arguments)
            .stdin(Stdio::from(OwnedFd::from(qemu_control)))
            .stdout(Stdio::from(OwnedFd::from(qemu_line)))
            .stderr(errors)
            // Keys of the terminal that stop kireji reach QEMU through kireji alone.
            .process_group(0)
            .spawn()
            .map_err(|source| StartError::Launcher { program: launcher.program.clone(), source })?;
        stages.reach(Stage::Spawned, Instant::now());
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| StartError::Channels(io::ErrorKind::InvalidData.into()))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|errno| StartError::Channels(errno.into()))?;
        Ok(Self {
            child,
            pidfd,
            connection,
            control,
            wishes,
            serial: Some(serial),
            bell,
            serial_in,
            stages,
            log,
            serial_log: run.serial_log(),
        })
    }

    /// A handle by which other threads can speak to QEMU while it is looked after.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The guest's side of the serial line: what is written here, the guest reads.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated.
    pub fn serial_input(&self) -> io::Result<UnixStream> {
        self.serial_in.try_clone()
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where QEMU's standard error is kept.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // After an orderly end this does nothing; the process is never left behind.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
