//! Starts QEMU for a rig, and makes sure that it ends.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use guest::launch::{Failure, Launch, Report};
use guest::process::Launcher;
use serde::Deserialize;

/// What a launcher's report may hold, in bytes.
const REPORT_LIMIT: u64 = 4096;

/// A running QEMU. It is killed and reaped when this value goes away, and the kernel kills it when
/// the thread that started it ends before that.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    input: UnixStream,
}

/// A line of the launcher.
#[derive(Deserialize)]
struct Line {
    launch: Report,
}

impl Qemu {
    /// Starts `program` through the launcher; its standard error goes to `log`. It gets a process
    /// group of its own, so that the terminal's Ctrl-C reaches kireji alone, which then ends it in
    /// order.
    ///
    /// # Errors
    /// The launcher cannot be started; whether it became QEMU is seen by [`Qemu::failure`].
    pub fn start(
        launcher: &Launcher,
        program: &Path,
        arguments: &[OsString],
        log: File,
    ) -> io::Result<Self> {
        let launch = Launch {
            parent: std::process::id(),
            locked_memory: None,
            open: Vec::new(),
            user: None,
            environment: [].into(),
        };
        let (input, qemu_input) = UnixStream::pair()?;
        let child = Command::new(&launcher.program)
            .args(&launcher.arguments)
            .arg(launch.to_argument()?)
            .arg("--")
            .arg(program)
            .args(arguments)
            .stdin(OwnedFd::from(qemu_input))
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()?;
        Ok(Self { child, input })
    }

    /// Returns QEMU's standard output, on which the rig speaks. Only the first call does.
    pub fn output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Returns QEMU's standard input, by which the rig is spoken to.
    pub fn input(&mut self) -> &mut UnixStream {
        &mut self.input
    }

    /// Returns why the launcher did not become QEMU, if that is what happened. To be asked once
    /// the process has ended.
    pub fn failure(&mut self) -> Option<Failure> {
        let mut said = String::new();
        self.input.set_nonblocking(true).ok()?;
        // Whatever the reading ends with, what came before it counts.
        drop((&self.input).take(REPORT_LIMIT).read_to_string(&mut said));
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        lines.map(|line| line.launch).find_map(|report| match report {
            Report::Failed(failure) => Some(failure),
            Report::Started => None,
        })
    }

    /// Waits for its end as long as `limit`; returns `None` where it has not ended by then.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait()? {
                Some(status) => return Ok(Some(status)),
                None if Instant::now() >= deadline => return Ok(None),
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Both fail only where it has already been reaped.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
