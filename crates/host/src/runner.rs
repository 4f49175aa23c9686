//! Programs, started as argument vectors, bounded in time and output.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// What is kept of each output stream, in bytes; the rest is read and dropped, so that the program
/// never blocks on us.
const OUTPUT_LIMIT: u64 = 4 << 20;

/// What is shown at once of a program that is followed, in bytes.
const PIECE: usize = 16 << 10;

/// How long a program that is interrupted may take to clean up.
const GRACE: Duration = Duration::from_secs(5);

/// A program to run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable: a path, or a name looked up in `PATH`.
    pub executable: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The directory it runs in; without one, the caller's.
    pub directory: Option<PathBuf>,
    /// What it reads on standard input.
    pub stdin: Vec<u8>,
    /// How long it may take.
    pub limit: Duration,
    /// Whether it gets a process group of its own, where the terminal's Ctrl-C does not reach it.
    pub apart: bool,
    /// A file that is locked as long as it runs, or anything that it started; made if it is not there.
    pub holds: Option<PathBuf>,
}

impl Program {
    /// Returns a program without arguments that may take ten seconds.
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self {
            executable: executable.into(),
            args: Vec::new(),
            directory: None,
            stdin: Vec::new(),
            limit: Duration::from_secs(10),
            apart: false,
            holds: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets the directory that the program runs in.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets what the program reads on standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Keeps the terminal's Ctrl-C from the program: its end is its caller's affair.
    #[must_use]
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// Has the program, and all that it starts, hold this file, which [`is_held`] tells even after
    /// this process has ended.
    #[must_use]
    pub fn holding(mut self, file: impl Into<PathBuf>) -> Self {
        self.holds = Some(file.into());
        self
    }

    /// Sets how long the program may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

/// What a program left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, at most four mebibytes of it.
    pub stdout: Vec<u8>,
    /// Its standard error, likewise.
    pub stderr: Vec<u8>,
}

/// A program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("cannot start {}", executable.display())]
    Start {
        /// The executable.
        executable: PathBuf,
        /// What the operating system said; [`io::ErrorKind::NotFound`] where it is missing.
        #[source]
        source: io::Error,
    },
    /// It took longer than it may and was sent SIGKILL. A process in an uninterruptible sleep
    /// outlives even that, so it was not waited for.
    #[error("{} (pid {pid}) did not end within {} s", executable.display(), limit.as_secs_f32())]
    TimedOut {
        /// The executable.
        executable: PathBuf,
        /// Its process id.
        pid: u32,
        /// How long it might have taken.
        limit: Duration,
    },
    /// It was ended because its caller is to end.
    #[error("{} was interrupted", executable.display())]
    Interrupted {
        /// The executable.
        executable: PathBuf,
    },
    /// Its end or its output could not be waited for.
    #[error("lost track of {}", executable.display())]
    Lost {
        /// The executable.
        executable: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

/// Runs programs to their end.
pub trait Runner: std::fmt::Debug {
    /// Runs `program` and returns its status and output, whatever the status.
    ///
    /// # Errors
    /// The program could not be started, or did not end in time.
    fn run(&self, program: &Program) -> Result<Finished, RunError>;

    /// Runs `program` with nothing on standard input, and shows what it writes to either stream
    /// when it comes. Returns its status. When `stop` becomes readable, the program is ended: with
    /// all of its process group, if it has one of its own.
    ///
    /// # Errors
    /// As of [`run`](Self::run), and [`RunError::Interrupted`].
    fn follow(
        &self,
        program: &Program,
        _stop: Option<BorrowedFd<'_>>,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<ExitStatus, RunError> {
        let finished = self.run(program)?;
        each(&finished.stdout);
        each(&finished.stderr);
        Ok(finished.status)
    }
}

/// Runs a program that has this process's own streams, such as one that a person talks to, however
/// long it takes. What it would read on standard input and how long it may take are left out of
/// account.
///
/// # Errors
/// It cannot be started, or its end not be waited for.
pub fn attach(program: &Program) -> Result<ExitStatus, RunError> {
    let mut child = start(program, &mut command(program))?;
    child.wait().map_err(lost(program))
}

/// Whether a program still runs, or something that it started, that [holds](Program::holding) a file.
///
/// # Errors
/// The file is there, and cannot be opened or locked.
pub fn is_held(file: &Path) -> io::Result<bool> {
    let file = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Runs programs on this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRunner;

impl Runner for SystemRunner {
    fn run(&self, program: &Program) -> Result<Finished, RunError> {
        let mut command = command(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = start(program, &mut command)?;
        let stdout = child.stdout.take().map(drain);
        let stderr = child.stderr.take().map(drain);
        if let Some(mut pipe) = child.stdin.take() {
            let bytes = program.stdin.clone();
            // A program that does not read its input gives EPIPE, which is its own affair.
            thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        let status = end(&mut child, program, program.limit)?;
        Ok(Finished { status, stdout: joined(stdout), stderr: joined(stderr) })
    }

    fn follow(
        &self,
        program: &Program,
        stop: Option<BorrowedFd<'_>>,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<ExitStatus, RunError> {
        let started = Instant::now();
        let (mut reader, writer) = io::pipe().map_err(not_started(program))?;
        let both = writer.try_clone().map_err(not_started(program))?;
        let mut child = {
            // This process's own ends of the pipe go with the command.
            let mut command = command(program);
            command.stdin(Stdio::null()).stdout(writer).stderr(both);
            start(program, &mut command)?
        };
        let left = || program.limit.saturating_sub(started.elapsed());
        let pidfd = pidfd(&child).map_err(lost(program))?;
        let mut piece = vec![0; PIECE];
        loop {
            let timeout = timeout(left()).map_err(lost(program))?;
            let mut waits = vec![
                PollFd::new(&reader, PollFlags::IN),
                PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
            ];
            waits.extend(stop.map(|stop| PollFd::from_borrowed_fd(stop, PollFlags::IN)));
            match rustix::event::poll(&mut waits, Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(lost(program)(errno.into())),
                Ok(0) => break,
                Ok(_) => {}
            }
            if waits.get(2).is_some_and(|stop| !stop.revents().is_empty()) {
                return interrupt(&mut child, program);
            }
            // Something that it left running may keep the pipe open for ever.
            if waits[0].revents().is_empty() {
                break;
            }
            match reader.read(&mut piece).map_err(lost(program))? {
                0 => break,
                length => each(&piece[..length]),
            }
        }
        end(&mut child, program, left())
    }
}

fn command(program: &Program) -> Command {
    let mut command = Command::new(&program.executable);
    command.args(&program.args);
    if let Some(directory) = &program.directory {
        command.current_dir(directory);
    }
    if program.apart {
        command.process_group(0);
    }
    command
}

/// Starts the program. The lock is that of all the processes that have the file open, so it stays when
/// this one closes it.
fn start(program: &Program, command: &mut Command) -> Result<Child, RunError> {
    let held = program.holds.as_deref().map(hold).transpose().map_err(not_started(program))?;
    let child = command.spawn().map_err(not_started(program));
    drop(held);
    child
}

/// Opens and locks a file, for programs to have it too.
fn hold(path: &Path) -> io::Result<OwnedFd> {
    /// Scripts give the numbers below ten other meanings.
    const LEAST: i32 = 100;
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.lock_shared()?;
    let held = fcntl_dupfd_cloexec(&file, LEAST)?;
    fcntl_setfd(&held, FdFlags::empty())?;
    Ok(held)
}

fn not_started(program: &Program) -> impl FnOnce(io::Error) -> RunError {
    |source| RunError::Start { executable: program.executable.clone(), source }
}

fn lost(program: &Program) -> impl FnOnce(io::Error) -> RunError {
    |source| RunError::Lost { executable: program.executable.clone(), source }
}

/// Waits for the end of the child, and ends it where that takes longer than it may.
fn end(child: &mut Child, program: &Program, limit: Duration) -> Result<ExitStatus, RunError> {
    if wait_for_exit(child, limit).map_err(lost(program))? {
        return child.wait().map_err(lost(program));
    }
    child.kill().map_err(lost(program))?;
    // A killed process normally ends at once; one in an uninterruptible sleep does not.
    if wait_for_exit(child, Duration::from_millis(200)).map_err(lost(program))? {
        child.wait().map_err(lost(program))?;
    }
    Err(timed_out(program, child))
}

/// Ends the child, and what it started in its process group: with SIGTERM, and if that does not help
/// with SIGKILL.
fn interrupt(child: &mut Child, program: &Program) -> Result<ExitStatus, RunError> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let group = pid.filter(|_| program.apart);
    let kill = |signal| match (group, pid) {
        (Some(group), _) => kill_process_group(group, signal),
        (None, Some(pid)) => rustix::process::kill_process(pid, signal),
        (None, None) => Ok(()),
    };
    // It is not reaped yet, so its number is still its own; if it has ended, that is what is wanted.
    kill(Signal::TERM).unwrap_or_default();
    if !wait_for_exit(child, GRACE).map_err(lost(program))? {
        kill(Signal::KILL).unwrap_or_default();
    }
    if wait_for_exit(child, Duration::from_millis(200)).map_err(lost(program))? {
        child.wait().map_err(lost(program))?;
    }
    Err(RunError::Interrupted { executable: program.executable.clone() })
}

fn timed_out(program: &Program, child: &Child) -> RunError {
    RunError::TimedOut {
        executable: program.executable.clone(),
        pid: child.id(),
        limit: program.limit,
    }
}

type Drain = thread::JoinHandle<Vec<u8>>;

fn drain(mut stream: impl Read + Send + 'static) -> Drain {
    thread::spawn(move || {
        let mut kept = Vec::new();
        // What was read until an error is still worth returning.
        drop(stream.by_ref().take(OUTPUT_LIMIT).read_to_end(&mut kept));
        drop(io::copy(&mut stream, &mut io::sink()));
        kept
    })
}

fn joined(drain: Option<Drain>) -> Vec<u8> {
    drain.and_then(|thread| thread.join().ok()).unwrap_or_default()
}

fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    Ok(pidfd_open(pid.ok_or(io::ErrorKind::InvalidInput)?, PidfdFlags::empty())?)
}

fn timeout(left: Duration) -> io::Result<Timespec> {
    Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Waits until the child has ended, without reaping it; false if it has not within `limit`.
fn wait_for_exit(child: &Child, limit: Duration) -> io::Result<bool> {
    let pidfd = pidfd(child)?;
    let deadline = Instant::now() + limit;
    loop {
        let timeout = timeout(deadline.saturating_duration_since(Instant::now()))?;
        match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_output_and_status() {
        let done = SystemRunner.run(&Program::new("cat").stdin("hello")).unwrap();
        assert_eq!(done.stdout, b"hello");
        assert!(done.status.success());
        let done = SystemRunner.run(&Program::new("pwd").directory("/usr")).unwrap();
        assert_eq!(done.stdout, b"/usr\n");
        let failed = SystemRunner.run(&Program::new("false")).unwrap();
        assert_eq!(failed.status.code(), Some(1));
    }

    #[test]
    fn a_missing_program_is_told_apart() {
        let error = SystemRunner.run(&Program::new("/nonexistent/program")).unwrap_err();
        assert!(matches!(&error, RunError::Start { source, .. }
            if source.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let program = Program::new("sleep").arg("60").limit(Duration::from_millis(50));
        assert!(matches!(SystemRunner.run(&program), Err(RunError::TimedOut { .. })));
    }

    #[test]
    fn a_program_apart_has_a_group_of_its_own() {
        let group = |program: Program| {
            let done = SystemRunner.run(&program).unwrap();
            // The fifth field of proc_pid_stat(5).
            String::from_utf8(done.stdout).unwrap().split(' ').nth(4).unwrap().to_owned()
        };
        let stat = Program::new("cat").arg("/proc/self/stat");
        let ours = rustix::process::getpgrp().as_raw_nonzero().to_string();
        assert_eq!(group(stat.clone()), ours);
        assert_ne!(group(stat.apart()), ours);
    }

    #[test]
    fn what_a_program_leaves_running_holds_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("running");
        assert!(!is_held(&file).unwrap());
        let program = |script: &str| Program::new("sh").args(["-c", script]).holding(&file);
        let done = SystemRunner.run(&program("true")).unwrap();
        assert!(done.status.success() && !is_held(&file).unwrap());
        let done = SystemRunner.run(&program("sleep 600 > /dev/null 2>&1 & echo $!")).unwrap();
        assert!(is_held(&file).unwrap());
        let left = String::from_utf8(done.stdout).unwrap().trim().parse().unwrap();
        let left = Pid::from_raw(left).unwrap();
        rustix::process::kill_process(left, Signal::KILL).unwrap();
        let started = Instant::now();
        while is_held(&file).unwrap() {
            assert!(started.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn output_beyond_the_limit_does_not_block_the_program() {
        let program = Program::new("head").args(["-c", "8388608", "/dev/zero"]);
        let done = SystemRunner.run(&program).unwrap();
        assert_eq!(u64::try_from(done.stdout.len()).unwrap(), OUTPUT_LIMIT);
        assert!(done.status.success());
    }

    #[test]
    fn what_a_program_writes_is_shown_when_it_comes() {
        let program = Program::new("sh").args(["-c", "echo one; echo two >&2; exit 3"]);
        let mut all = Vec::new();
        let status = SystemRunner.follow(&program, None, &mut |piece| all.extend_from_slice(piece));
        assert_eq!(status.unwrap().code(), Some(3));
        assert_eq!(all, b"one\ntwo\n");
        // What it leaves running holds nobody up, be the pipe open or closed.
        for script in ["sleep 600 & echo $!", "exec >&- 2>&-; exit 0"] {
            let mut said = Vec::new();
            let program = Program::new("sh").args(["-c", script]).limit(Duration::from_secs(60));
            let ended =
                SystemRunner.follow(&program, None, &mut |piece| said.extend_from_slice(piece));
            assert!(ended.unwrap().success(), "{script}");
            let pid = String::from_utf8(said).unwrap().trim().parse().ok();
            let pid = pid.and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            }
        }
        let program = Program::new("sh").args(["-c", "echo slow; exec sleep 600"]);
        let program = program.limit(Duration::from_millis(300));
        let ended = SystemRunner.follow(&program, None, &mut |_| ());
        assert!(matches!(ended, Err(RunError::TimedOut { .. })), "{ended:?}");
        let missing = SystemRunner.follow(&Program::new("/nonexistent/program"), None, &mut |_| ());
        assert!(matches!(missing, Err(RunError::Start { .. })), "{missing:?}");
    }

    #[test]
    fn a_program_that_is_followed_ends_with_all_it_started() {
        let (stop, mut ring) = std::os::unix::net::UnixStream::pair().unwrap();
        // Its child holds the pipe open, and says who it is.
        let program = Program::new("sh").args(["-c", "sleep 600 & echo $!; wait"]).apart();
        let mut said = Vec::new();
        let ended = SystemRunner.follow(&program, Some(stop.as_fd()), &mut |piece| {
            said.extend_from_slice(piece);
            ring.write_all(b"!").unwrap();
        });
        assert!(matches!(ended, Err(RunError::Interrupted { .. })), "{ended:?}");
        let child: i32 = String::from_utf8(said).unwrap().trim().parse().unwrap();
        let started = Instant::now();
        // Whoever reaps it may take a while; a zombie does nothing any more.
        let is_alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        while is_alive() {
            assert!(started.elapsed() < Duration::from_secs(60), "{child} lives");
            thread::sleep(Duration::from_millis(10));
        }
    }
}
