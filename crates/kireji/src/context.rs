//! What a command reaches the machine and the user through.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use guest::launch::User;
use host::{Clock, Runner, Sysroot, SystemRunner};
use vfio::take::{HelperWriter, SysfsWriter};

use crate::{CommandError, Exit, user};

/// How long one write to sysfs may take. NVMe and network drivers need seconds to quiesce a busy
/// device; what takes longer than this is stuck.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// The machine, the user's environment and the output streams.
pub struct Context<'a> {
    /// The files of the host.
    pub host: &'a Sysroot,
    /// Whether the host may be changed: not if it is a captured one.
    pub writable: bool,
    /// Starts programs.
    pub runner: &'a dyn Runner,
    /// Writes to sysfs.
    pub writer: &'a dyn SysfsWriter,
    /// Tells the time.
    pub clock: &'a dyn Clock,
    /// What is taken from the environment.
    pub vars: Vars,
    /// Data.
    pub out: &'a mut dyn Write,
    /// Narration.
    pub err: &'a mut dyn Write,
    /// Columns of the terminal that `out` is, if it is one.
    pub width: Option<usize>,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("host", self.host).finish_non_exhaustive()
    }
}

/// What kireji takes from its environment.
#[derive(Clone, Debug, Default)]
pub struct Vars {
    /// Whether the process has root's rights.
    pub is_root: bool,
    /// How the program was called, for the command lines that it prints.
    pub program: PathBuf,
    /// Its arguments, likewise.
    pub args: Vec<OsString>,
    /// The user who called sudo (`SUDO_UID`, `SUDO_GID`), to whom runs belong.
    pub user: Option<User>,
    /// The SSH session, if kireji was started from one (`SSH_CONNECTION`).
    pub ssh_connection: Option<String>,
    /// The home directory that the following two begin at, unless variables name them.
    pub home: Option<PathBuf>,
    /// `$XDG_STATE_HOME/kireji`.
    pub state: PathBuf,
    /// `$XDG_CACHE_HOME/kireji`.
    pub cache: PathBuf,
    /// The QEMU to use instead of the one in `PATH` (`KIREJI_QEMU`).
    pub qemu: Option<PathBuf>,
    /// Reads a line that the person answers with, where there is a terminal to ask on.
    pub answer: Option<fn() -> io::Result<String>>,
}

impl Vars {
    /// Reads the environment of this process.
    pub fn from_environment(host: &Sysroot) -> Self {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name| var(name).and_then(|value| value.into_string().ok());
        let number = |name| text(name).and_then(|text| text.parse().ok());
        let is_root = rustix::process::geteuid().is_root();
        let sudo =
            number("SUDO_UID").zip(number("SUDO_GID")).filter(|(uid, _)| is_root && *uid != 0);
        let (user, users_home) = match sudo {
            Some((uid, gid)) => {
                let (user, home) = user::of_sudo(host, uid, gid);
                (Some(user), home)
            }
            None => (None, None),
        };
        // Under sudo, HOME and the XDG variables may be root's or the user's, as sudo is set up.
        let is_sudo = users_home.is_some();
        let named = users_home.or_else(|| var("HOME").map(PathBuf::from));
        // Root's files have no place in the home of a user who is not known to have asked for them.
        let home = named.filter(|home| !is_root || user.is_some() || !is_anothers(home));
        let home = home.unwrap_or_else(|| PathBuf::from("/root"));
        let dir = |name, default: &str| {
            // The specification says to ignore a relative path.
            var(name)
                .filter(|_| !is_sudo)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
                .unwrap_or_else(|| home.join(default))
                .join("kireji")
        };
        Self {
            is_root,
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("kireji")),
            args: std::env::args_os().skip(1).collect(),
            user,
            ssh_connection: text("SSH_CONNECTION"),
            state: dir("XDG_STATE_HOME", ".local/state"),
            cache: dir("XDG_CACHE_HOME", ".cache"),
            home: Some(home),
            qemu: var("KIREJI_QEMU").map(PathBuf::from),
            answer: is_interactive().then_some(answer),
        }
    }

    /// Whether what is kept at this path may be: nothing is made of a home that is not there.
    pub(crate) fn may_keep(&self, path: &Path) -> bool {
        let missing = self.home.as_deref().filter(|home| path.starts_with(home) && !home.is_dir());
        missing.is_none()
    }

    /// Makes sure that the home is there, if this is to be kept below it.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn check_home(&self, path: &Path) -> Result<(), CommandError> {
        let Some(home) = self.home.as_deref().filter(|_| !self.may_keep(path)) else {
            return Ok(());
        };
        let text = format!("the home directory {} is not there", home.display());
        let error = CommandError::new(Exit::HostCannot, text)
            .reason(format!("{} would be made below it", path.display()));
        Err(error.hint(match self.user {
            Some(_) => "make it, as it stands in /etc/passwd for the user who called sudo",
            None => "set HOME to one that is, or XDG_STATE_HOME and XDG_CACHE_HOME",
        }))
    }

    /// Returns the line that runs this very command as root.
    pub fn sudo_line(&self) -> String {
        let mut line = format!("sudo {}", quoted(&self.program.to_string_lossy()));
        for arg in &self.args {
            line.push(' ');
            line.push_str(&quoted(&arg.to_string_lossy()));
        }
        line
    }
}

/// Whether a directory belongs to a user other than root.
fn is_anothers(directory: &Path) -> bool {
    directory.metadata().is_ok_and(|metadata| metadata.uid() != 0)
}

/// Whether a person can see a question and answer it.
fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn answer() -> io::Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line)
}

/// Quotes a word for a POSIX shell where it needs it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Returns the writer that starts this program again as its helper.
pub fn writer() -> HelperWriter<'static> {
    HelperWriter {
        runner: &SystemRunner,
        executable: PathBuf::from("/proc/self/exe"),
        args: vec![
            "internal".to_owned(),
            "write-sysfs".to_owned(),
            format!("--parent={}", std::process::id()),
        ],
        limit: WRITE_LIMIT,
    }
}

/// Returns the columns of the terminal on standard output, if it is one.
pub fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(stdout).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sudo_line_survives_a_shell() {
        let vars = Vars {
            program: "/usr/bin/kireji".into(),
            args: ["take", "29:00.0", "it's $HOME"].map(OsString::from).to_vec(),
            ..Vars::default()
        };
        assert_eq!(vars.sudo_line(), r"sudo /usr/bin/kireji take 29:00.0 'it'\''s $HOME'");
    }

    #[test]
    fn no_home_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let vars = Vars { home: Some(home.clone()), ..Vars::default() };
        let (below, elsewhere) = (home.join(".cache/kireji"), dir.path().join("state"));
        assert!(!vars.may_keep(&below) && vars.may_keep(&elsewhere));
        assert_eq!(vars.check_home(&below).unwrap_err().exit(), Exit::HostCannot);
        vars.check_home(&elsewhere).unwrap();
        std::fs::create_dir(&home).unwrap();
        vars.check_home(&below).unwrap();
    }
}
