//! Programs, started as argument vectors, bounded in time and output.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{PidfdFlags, pidfd_open};

/// What is kept of each output stream, in bytes; the rest is read and dropped, so that the program
/// never blocks on us.
const OUTPUT_LIMIT: u64 = 4 << 20;

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
}

/// Runs a program that has this process's own streams, such as one that a person talks to, however
/// long it takes. What it would read on standard input and how long it may take are left out of
/// account.
///
/// # Errors
/// It cannot be started, or its end not be waited for.
pub fn attach(program: &Program) -> Result<ExitStatus, RunError> {
    let executable = &program.executable;
    let started = Command::new(executable).args(&program.args).spawn();
    let mut child =
        started.map_err(|source| RunError::Start { executable: executable.clone(), source })?;
    child.wait().map_err(|source| RunError::Lost { executable: executable.clone(), source })
}

/// Runs programs on this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRunner;

impl Runner for SystemRunner {
    fn run(&self, program: &Program) -> Result<Finished, RunError> {
        let executable = &program.executable;
        let mut command = Command::new(executable);
        command.args(&program.args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(directory) = &program.directory {
            command.current_dir(directory);
        }
        if program.apart {
            command.process_group(0);
        }
        let mut child = command
            .spawn()
            .map_err(|source| RunError::Start { executable: executable.clone(), source })?;
        let lost = |source| RunError::Lost { executable: executable.clone(), source };

        let stdout = child.stdout.take().map(drain);
        let stderr = child.stderr.take().map(drain);
        if let Some(mut pipe) = child.stdin.take() {
            let bytes = program.stdin.clone();
            // A program that does not read its input gives EPIPE, which is its own affair.
            thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        if !wait_for_exit(&child, program.limit).map_err(lost)? {
            child.kill().map_err(lost)?;
            // A killed process normally ends at once; one in an uninterruptible sleep does not.
            if !wait_for_exit(&child, Duration::from_millis(200)).map_err(lost)? {
                return Err(timed_out(program, &child));
            }
            child.wait().map_err(lost)?;
            return Err(timed_out(program, &child));
        }
        let status = child.wait().map_err(lost)?;
        Ok(Finished { status, stdout: joined(stdout), stderr: joined(stderr) })
    }
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

/// Waits until the child has ended, without reaping it; false if it has not within `limit`.
fn wait_for_exit(child: &Child, limit: Duration) -> io::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
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
    fn output_beyond_the_limit_does_not_block_the_program() {
        let program = Program::new("head").args(["-c", "8388608", "/dev/zero"]);
        let done = SystemRunner.run(&program).unwrap();
        assert_eq!(u64::try_from(done.stdout.len()).unwrap(), OUTPUT_LIMIT);
        assert!(done.status.success());
    }
}
