//! Writes to sysfs, which may fail, and may hang in the kernel.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::{Program, RunError, Runner, Sysroot};

use super::{Turn, Work};

/// A write to sysfs that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum WriteFailure {
    /// The kernel refused it.
    #[error("the kernel refused `{value}` for {path}")]
    Refused {
        /// The attribute.
        path: String,
        /// What was written.
        value: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// It did not come back in time. The writer is stuck in the kernel, where no signal reaches
    /// it, and holds the device's lock: a second try would hang as well.
    #[error("the write of `{value}` to {path} hangs in the kernel (pid {pid})")]
    Hung {
        /// The attribute.
        path: String,
        /// What was written.
        value: String,
        /// The helper process that is stuck.
        pid: u32,
    },
    /// The helper process could not do its work.
    #[error("the helper that writes {path} failed")]
    Helper {
        /// The attribute.
        path: String,
        /// What happened to it.
        #[source]
        source: io::Error,
    },
}

/// One write to an attribute of sysfs.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The attribute, as the host names it.
    pub path: &'a str,
    /// What is written, in one write.
    pub value: &'a str,
    /// Of a write for a lease, the file whose lock a helper holds while it is at it; see [`Turn`].
    pub lock: Option<&'a Path>,
}

impl Order<'_> {
    fn refused(&self, source: io::Error) -> WriteFailure {
        let (path, value) = (self.path.to_owned(), self.value.trim_end().to_owned());
        WriteFailure::Refused { path, value, source }
    }
}

/// Writes attributes of sysfs, and gives device nodes away.
pub trait SysfsWriter {
    /// Makes one write.
    ///
    /// # Errors
    /// The kernel refused, or the write hangs.
    fn write(&self, order: &Order<'_>) -> Result<(), WriteFailure>;

    /// Is called before and after each change of a lease's journal, for tests that end the process
    /// there.
    fn passes(&self) {}

    /// Changes who owns a device node, which never hangs.
    ///
    /// # Errors
    /// The operating system refused.
    fn chown(&self, node: &Path, uid: u32, gid: u32) -> io::Result<()> {
        std::os::unix::fs::chown(node, Some(uid), Some(gid))
    }
}

/// Writes in this process. For attributes that cannot hang.
#[derive(Debug)]
pub struct DirectWriter<'a>(pub &'a Sysroot);

impl SysfsWriter for DirectWriter<'_> {
    fn write(&self, order: &Order<'_>) -> Result<(), WriteFailure> {
        write_once(&self.0.locate(order.path), order.value).map_err(|source| order.refused(source))
    }
}

/// What a helper prints when it is about to write.
pub const BEGUN: &[u8] = b"begun\n";

/// How often a helper is started that a signal ends before it begins.
const TRIES: u32 = 3;

/// Writes in a helper process, so that a write that hangs in the kernel does not take this process
/// with it.
#[derive(Debug)]
pub struct HelperWriter<'a> {
    /// Starts the helper.
    pub runner: &'a dyn Runner,
    /// The program that calls [`run_helper`] with its last two arguments, path and value, after
    /// `--`; and with what follows `--lock`, if that is there.
    pub executable: PathBuf,
    /// The arguments that go before them.
    pub args: Vec<String>,
    /// How long one write may take. Resets and unbinds of healthy hardware end within seconds.
    pub limit: Duration,
}

impl SysfsWriter for HelperWriter<'_> {
    fn write(&self, order: &Order<'_>) -> Result<(), WriteFailure> {
        let Order { path, value, lock } = order;
        let program = Program::new(&self.executable)
            .args(&self.args)
            .args(lock.iter().flat_map(|lock| [OsStr::new("--lock"), lock.as_os_str()]))
            .args(["--", *path, *value])
            // The terminal's Ctrl-C is for this process, which brings what it has begun to an end.
            .apart()
            .limit(self.limit);
        let failed = |source| WriteFailure::Helper { path: order.path.to_owned(), source };
        let mut tries = 0;
        let done = loop {
            tries += 1;
            let done = match self.runner.run(&program) {
                Ok(done) => done,
                Err(RunError::TimedOut { pid, .. }) => {
                    let value = value.trim_end().to_owned();
                    return Err(WriteFailure::Hung { path: order.path.to_owned(), value, pid });
                }
                Err(error) => return Err(failed(io::Error::other(error))),
            };
            // The terminal's Ctrl-C may find it just born, before it has a group of its own.
            let is_unborn = done.status.signal().is_some() && !done.stdout.starts_with(BEGUN);
            if !is_unborn || tries == TRIES {
                break done;
            }
        };
        if done.status.success() {
            return Ok(());
        }
        // The helper prints the error number of a refused write.
        let said = done.stdout.strip_prefix(BEGUN).unwrap_or(&done.stdout);
        match String::from_utf8_lossy(said).trim().parse() {
            Ok(errno) => Err(order.refused(io::Error::from_raw_os_error(errno))),
            Err(_) => Err(failed(io::Error::other(format!(
                "it ended with {} and said: {}",
                done.status,
                String::from_utf8_lossy(&done.stderr).trim()
            )))),
        }
    }
}

/// Does the helper's work: one write. Returns what the helper is to print and whether it succeeded.
///
/// `is_wanted` tells whether the process that asked for it is still there. It is asked once nobody
/// can take the lease over any more without waiting for this write; who took it over before has
/// proof that the process is gone, and so is the answer. `begin` is called next, to print [`BEGUN`].
///
/// # Errors
/// The outer error is one of the helper's own, and nothing was written. The inner one says what
/// became of the write.
pub fn run_helper(
    order: &Order<'_>,
    is_wanted: impl FnOnce() -> io::Result<bool>,
    begin: impl FnOnce() -> io::Result<()>,
) -> io::Result<Result<(), String>> {
    let Order { path, value, lock } = order;
    let (path, value) = ((*path).to_owned(), value.trim_end().to_owned());
    let work = Work { pid: std::process::id(), path, value };
    let _turn = lock.map(|lock| Turn::take(lock, &work)).transpose()?;
    if !is_wanted()? {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the process that asked is gone"));
    }
    begin()?;
    let written = write_once(Path::new(order.path), order.value);
    Ok(written.map_err(|error| match error.raw_os_error() {
        Some(errno) => errno.to_string(),
        None => error.to_string(),
    }))
}

fn write_once(path: &Path, value: &str) -> io::Result<()> {
    // An attribute takes what arrives in one write, so never split it.
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    match file.write(value.as_bytes())? {
        written if written == value.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::process::ExitStatus;

    use host::Finished;

    use super::*;

    /// Helpers that end so, one after the other.
    #[derive(Debug)]
    struct Helpers(Vec<(i32, &'static str)>, Cell<usize>);

    impl Runner for Helpers {
        fn run(&self, program: &Program) -> Result<Finished, RunError> {
            assert!(program.apart);
            let (status, stdout) = self.0[self.1.replace(self.1.get() + 1)];
            let status = ExitStatus::from_raw(status);
            Ok(Finished { status, stdout: stdout.into(), stderr: Vec::new() })
        }
    }

    fn written(helpers: &[(i32, &'static str)]) -> (Result<(), WriteFailure>, usize) {
        let runner = Helpers(helpers.to_vec(), Cell::new(0));
        let writer = HelperWriter {
            runner: &runner,
            executable: "/proc/self/exe".into(),
            args: Vec::new(),
            limit: Duration::from_secs(1),
        };
        let written = writer.write(&Order { path: "/sys/x", value: "y", lock: None });
        (written, runner.1.get())
    }

    #[test]
    fn a_helper_that_never_began_is_started_again_and_one_that_began_is_not() {
        // Wait statuses: a signal's number, or an exit code in the second byte.
        let (interrupted, refused) = (2, 1 << 8);
        assert!(matches!(written(&[(interrupted, ""), (0, "begun\n")]), (Ok(()), 2)));
        let (failure, tries) = written(&[(interrupted, "begun\n"), (0, "begun\n")]);
        assert!(matches!(failure, Err(WriteFailure::Helper { .. })), "{failure:?}");
        assert_eq!(tries, 1, "it may have written");
        assert_eq!(written(&[(interrupted, ""); 9]).1, 3);
        let (failure, _) = written(&[(refused, "begun\n22\n")]);
        let Err(WriteFailure::Refused { source, .. }) = failure else { panic!("{failure:?}") };
        assert_eq!(source.raw_os_error(), Some(22));
    }
}
