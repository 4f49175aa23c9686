//! Writes to sysfs, which may fail, and may hang in the kernel.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::{Program, RunError, Runner, Sysroot};

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

/// Writes attributes of sysfs.
pub trait SysfsWriter {
    /// Writes `value` to the attribute `path` of the host, in one write.
    ///
    /// # Errors
    /// The kernel refused, or the write hangs.
    fn write(&self, path: &str, value: &str) -> Result<(), WriteFailure>;
}

/// Writes in this process. For attributes that cannot hang.
#[derive(Debug)]
pub struct DirectWriter<'a>(pub &'a Sysroot);

impl SysfsWriter for DirectWriter<'_> {
    fn write(&self, path: &str, value: &str) -> Result<(), WriteFailure> {
        write_once(&self.0.locate(path), value).map_err(|source| WriteFailure::Refused {
            path: path.to_owned(),
            value: value.trim_end().to_owned(),
            source,
        })
    }
}

/// Writes in a helper process, so that a write that hangs in the kernel does not take this process
/// with it.
#[derive(Debug)]
pub struct HelperWriter<'a> {
    /// Starts the helper.
    pub runner: &'a dyn Runner,
    /// The program that calls [`run_helper`] with its last two arguments.
    pub executable: PathBuf,
    /// The arguments that go before them.
    pub args: Vec<String>,
    /// How long one write may take. Resets and unbinds of healthy hardware end within seconds.
    pub limit: Duration,
}

impl SysfsWriter for HelperWriter<'_> {
    fn write(&self, path: &str, value: &str) -> Result<(), WriteFailure> {
        let program =
            Program::new(&self.executable).args(&self.args).args([path, value]).limit(self.limit);
        let failed = |source| WriteFailure::Helper { path: path.to_owned(), source };
        let done = match self.runner.run(&program) {
            Ok(done) => done,
            Err(RunError::TimedOut { pid, .. }) => {
                let value = value.trim_end().to_owned();
                return Err(WriteFailure::Hung { path: path.to_owned(), value, pid });
            }
            Err(error) => return Err(failed(io::Error::other(error))),
        };
        if done.status.success() {
            return Ok(());
        }
        // The helper prints the error number of a refused write.
        match String::from_utf8_lossy(&done.stdout).trim().parse() {
            Ok(errno) => Err(WriteFailure::Refused {
                path: path.to_owned(),
                value: value.trim_end().to_owned(),
                source: io::Error::from_raw_os_error(errno),
            }),
            Err(_) => Err(failed(io::Error::other(format!(
                "it ended with {} and said: {}",
                done.status,
                String::from_utf8_lossy(&done.stderr).trim()
            )))),
        }
    }
}

/// Does the helper's work: one write. Returns what the helper is to print and whether it succeeded.
pub fn run_helper(path: &Path, value: &str) -> Result<(), String> {
    write_once(path, value).map_err(|error| match error.raw_os_error() {
        Some(errno) => errno.to_string(),
        None => error.to_string(),
    })
}

fn write_once(path: &Path, value: &str) -> io::Result<()> {
    // An attribute takes what arrives in one write, so never split it.
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    match file.write(value.as_bytes())? {
        written if written == value.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}
