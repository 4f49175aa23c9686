//! The moment between kireji and QEMU.
//!
//! Some things can only be done in the new process itself: giving up root, and asking the kernel
//! to end it when its parent ends. Code between fork and exec would have to be unsafe, so kireji
//! runs *itself* again as a launcher, which does them one after the other and then becomes QEMU.
//! [`exec`] is that launcher; the command calls it when it is started as `kireji internal launch`.
//!
//! The launcher reports over QEMU's control channel, its standard input, so that what went wrong
//! is known without reading logs.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use host::{Finished, Program, RunError, Runner};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde::{Deserialize, Serialize};

use crate::process::Launcher;

/// A user of the host whom QEMU and the files of a run belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups, such as the one that may use `/dev/kvm`.
    pub groups: Vec<u32>,
}

/// What a launcher does before it becomes QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The process whose end must end QEMU.
    pub parent: u32,
    /// Memory in bytes that QEMU must be able to lock.
    pub locked_memory: Option<u64>,
    /// Files to open, and the descriptors that QEMU knows them by.
    pub open: Vec<(PathBuf, RawFd)>,
    /// Whom to become; needs root.
    pub user: Option<User>,
    /// Environment variables to set, and those without a value to remove.
    pub environment: BTreeMap<String, Option<String>>,
}

/// What a launcher says before it becomes QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Report {
    /// All was done; QEMU is the next to speak.
    Started,
    /// Something failed, and QEMU was not started.
    Failed(Failure),
}

/// A launcher failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("cannot {step}: {reason}")]
pub struct Failure {
    /// What was to be done.
    pub step: Step,
    /// What the operating system said.
    pub reason: String,
    /// The number of the error, where there is one.
    pub errno: Option<i32>,
}

/// A step of a launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Open a file for QEMU.
    Open(PathBuf),
    /// Raise the limit of locked memory.
    RaiseLockedMemory(u64),
    /// Become another user.
    ChangeUser(u32),
    /// Tie its life to its parent's.
    FollowParent,
    /// Execute QEMU.
    Execute(PathBuf),
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open(path) => write!(f, "open {}", path.display()),
            Self::RaiseLockedMemory(bytes) => {
                write!(f, "raise the limit of locked memory to {} MiB", bytes.div_ceil(1 << 20))
            }
            Self::ChangeUser(uid) => write!(f, "become user {uid}"),
            Self::FollowParent => f.write_str("tie QEMU's life to its parent's"),
            Self::Execute(path) => write!(f, "execute {}", path.display()),
        }
    }
}

impl Failure {
    fn of(step: Step, error: &io::Error) -> Self {
        Self { step, reason: error.to_string(), errno: error.raw_os_error() }
    }
}

impl Launch {
    /// Returns the launch as one argument of a command line.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn to_argument(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Parses what [`Launch::to_argument`] made.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_argument(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// Does what is to be done and becomes `program`; returns only where that failed, after the
/// failure was reported on standard input.
pub fn exec(launch: &Launch, program: &OsStr, arguments: &[OsString]) -> Failure {
    let failure = match prepare(launch) {
        // The descriptors stay open until the program has them.
        Ok(_descriptors) => {
            report(&Report::Started);
            let mut command = Command::new(program);
            command.args(arguments);
            for (name, value) in &launch.environment {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            let error = command.exec();
            Failure::of(Step::Execute(program.into()), &error)
        }
        Err(failure) => failure,
    };
    report(&Report::Failed(failure.clone()));
    failure
}

fn prepare(launch: &Launch) -> Result<Vec<OwnedFd>, Failure> {
    let descriptors = launch
        .open
        .iter()
        .map(|(path, number)| {
            open(path, *number).map_err(|error| Failure::of(Step::Open(path.clone()), &error))
        })
        .collect::<Result<_, _>>()?;
    if let Some(bytes) = launch.locked_memory {
        raise_locked_memory(bytes)
            .map_err(|error| Failure::of(Step::RaiseLockedMemory(bytes), &error))?;
    }
    if let Some(user) = &launch.user {
        become_user(user).map_err(|error| Failure::of(Step::ChangeUser(user.uid), &error))?;
    }
    follow(launch.parent).map_err(|error| Failure::of(Step::FollowParent, &error))?;
    Ok(descriptors)
}

fn open(path: &PathBuf, number: RawFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    // Without close-on-exec, and at least at `number`, which is free in a fresh process.
    let moved = rustix::io::fcntl_dupfd_cloexec(&opened, number)?;
    if moved.as_raw_fd() != number {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "its descriptor is taken"));
    }
    rustix::io::fcntl_setfd(&moved, rustix::io::FdFlags::empty())?;
    Ok(moved)
}

/// Raises the soft limit, and the hard one where it is in the way and the process may.
fn raise_locked_memory(bytes: u64) -> io::Result<()> {
    let now = rustix::process::getrlimit(Resource::Memlock);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= bytes);
    if enough(now.current) {
        return Ok(());
    }
    let maximum = if enough(now.maximum) { now.maximum } else { Some(bytes) };
    let wanted = Rlimit { current: Some(bytes), maximum };
    Ok(rustix::process::setrlimit(Resource::Memlock, wanted)?)
}

/// Does `work` with the rights of `user`, so that what it reads the user may read, and what it makes
/// is the user's; without one, with those of this process. It is done on a thread of its own:
/// credentials are each thread's (credentials(7)), and a user's are not to be had back.
///
/// # Errors
/// This process may not become the user, or has no thread to do so on.
pub fn as_user<T: Send>(user: Option<&User>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let Some(user) = user else { return Ok(work()) };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            become_user(user)?;
            Ok(work())
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs programs as a user, through the launcher.
#[derive(Clone, Copy, Debug)]
pub struct AsUser<'a> {
    /// Who runs them.
    pub runner: &'a dyn Runner,
    /// The launcher.
    pub launcher: &'a Launcher,
    /// The user.
    pub user: &'a User,
    /// What they get of another environment.
    pub environment: &'a BTreeMap<String, Option<String>>,
}

impl AsUser<'_> {
    /// The launcher that becomes the program.
    fn launched(&self, program: &Program) -> Result<Program, RunError> {
        let launch = Launch {
            parent: std::process::id(),
            locked_memory: None,
            open: Vec::new(),
            user: Some(self.user.clone()),
            environment: self.environment.clone(),
        };
        let start = |source| RunError::Start { executable: program.executable.clone(), source };
        let launch = launch.to_argument().map_err(|error| start(error.into()))?;
        let launched = Program::new(&self.launcher.program)
            .args(&self.launcher.arguments)
            .args([&*launch, "--"])
            .arg(&program.executable)
            .args(&program.args)
            .stdin(program.stdin.clone())
            .limit(program.limit);
        Ok(Program {
            directory: program.directory.clone(),
            apart: program.apart,
            holds: program.holds.clone(),
            ..launched
        })
    }
}

impl Runner for AsUser<'_> {
    fn run(&self, program: &Program) -> Result<Finished, RunError> {
        self.runner.run(&self.launched(program)?)
    }

    fn follow(
        &self,
        program: &Program,
        stop: Option<BorrowedFd<'_>>,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<ExitStatus, RunError> {
        self.runner.follow(&self.launched(program)?, stop, each)
    }
}

/// Gives up root. The order matters: groups can be changed only while still root.
fn become_user(user: &User) -> io::Result<()> {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let groups: Vec<_> =
        user.groups.iter().map(|gid| rustix::process::Gid::from_raw(*gid)).collect();
    let gid = rustix::process::Gid::from_raw(user.gid);
    let uid = rustix::process::Uid::from_raw(user.uid);
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// Asks for SIGKILL when the parent ends. A change of credentials clears the request, so it comes
/// after that (prctl(2), PR_SET_PDEATHSIG); a parent that ended before it is noticed by its number.
fn follow(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let expected = i32::try_from(parent).ok().and_then(Pid::from_raw);
    if expected.is_none() || rustix::process::getppid() != expected {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the parent has ended"));
    }
    Ok(())
}

/// Says something on the control channel. If nobody listens any more, nobody has to know.
fn report(report: &Report) {
    let line = format!("{}\n", serde_json::json!({ "launch": report }));
    let control = rustix::stdio::stdin();
    if let Ok(fd) = control.as_fd().try_clone_to_owned() {
        drop(std::fs::File::from(fd).write_all(line.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_as_a_user_is_done_with_the_users_rights() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made");
        let make = || std::fs::write(&path, "");
        as_user(None, make).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        if !testkit::only_root::is_root() {
            // Only root can become somebody else.
            return;
        }
        let user = User { uid: 54321, gid: 54322, groups: vec![] };
        let denied = as_user(Some(&user), make).unwrap().unwrap_err();
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        as_user(Some(&user), make).unwrap().unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (54321, 54322));
        assert!(rustix::process::geteuid().is_root());
    }

    #[test]
    fn a_program_of_a_users_goes_through_the_launcher() {
        #[derive(Debug)]
        struct Echo;
        impl Runner for Echo {
            fn run(&self, program: &Program) -> Result<Finished, RunError> {
                assert_eq!(program.executable, std::path::Path::new("/bin/kireji"));
                let words: Vec<_> =
                    program.args.iter().map(|word| word.to_string_lossy()).collect();
                let launch = Launch::from_argument(&words[2]).unwrap();
                assert_eq!(launch.user.unwrap().uid, 1000);
                assert_eq!(launch.environment["HOME"].as_deref(), Some("/home/tester"));
                assert_eq!(words[3..], ["--", "/usr/bin/qemu", "-display", "help"]);
                assert_eq!(program.stdin, b"question");
                assert_eq!(program.directory.as_deref(), Some(std::path::Path::new("/tree")));
                let status = std::os::unix::process::ExitStatusExt::from_raw(0);
                Ok(Finished { status, stdout: Vec::new(), stderr: Vec::new() })
            }
        }
        let launcher = Launcher {
            program: "/bin/kireji".into(),
            arguments: ["internal", "launch"].map(Into::into).to_vec(),
        };
        let user = User { uid: 1000, gid: 1000, groups: vec![] };
        let environment = [("HOME".to_owned(), Some("/home/tester".to_owned()))].into();
        let runner =
            AsUser { runner: &Echo, launcher: &launcher, user: &user, environment: &environment };
        let program = Program::new("/usr/bin/qemu").args(["-display", "help"]).stdin("question");
        let program = program.directory("/tree");
        runner.run(&program).unwrap();
    }

    #[test]
    fn a_launch_survives_the_command_line() {
        let launch = Launch {
            parent: 42,
            locked_memory: Some(u64::MAX),
            open: vec![("/dev/vfio/devices/vfio0".into(), 21)],
            user: Some(User { uid: 1000, gid: 1000, groups: vec![1000, 105] }),
            environment: [
                ("HOME".to_owned(), Some("/home/a \"b\"".to_owned())),
                ("DISPLAY".to_owned(), None),
            ]
            .into(),
        };
        let text = launch.to_argument().unwrap();
        assert_eq!(Launch::from_argument(&text).unwrap(), launch);
        assert!(Launch::from_argument("{}").is_err());
    }
}
