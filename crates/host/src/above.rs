//! The processes above this one: what started it, what started that, and so on.

use crate::Sysroot;

/// Deeper than sessions are nested; a captured tree may have a loop.
const DEPTH: usize = 32;

/// A process above this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Above {
    pid: u32,
}

/// Returns the processes above this one, the nearest first, the first process of all left out.
pub fn above(host: &Sysroot) -> impl Iterator<Item = Above> {
    let parent_of = |path: String| host.text(path).ok().and_then(|stat| parent(&stat));
    let first = parent_of("/proc/self/stat".to_owned());
    std::iter::successors(first, move |pid| parent_of(format!("/proc/{pid}/stat")))
        .take(DEPTH)
        .take_while(|pid| *pid > 1)
        .map(|pid| Above { pid })
}

impl Above {
    /// Returns a variable of the environment that the process was started with, if that may be
    /// read (proc_pid_environ(5)).
    pub fn variable(self, host: &Sysroot, name: &str) -> Option<String> {
        let environment = host.read(format!("/proc/{}/environ", self.pid)).ok()?;
        let value = environment.split(|byte| *byte == 0).find_map(|entry| {
            entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
        })?;
        String::from_utf8(value.to_vec()).ok()
    }

    /// Returns the name of the program's file, if that may be read (proc_pid_exe(5)).
    pub fn program(self, host: &Sysroot) -> Option<String> {
        host.link_name(format!("/proc/{}/exe", self.pid)).ok().flatten()
    }

    /// Whether the process has this user as its real, its effective and its saved one
    /// (proc_pid_status(5)).
    pub fn is_of(self, host: &Sysroot, uid: u32) -> bool {
        let status = host.text(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        numbers.is_some_and(|numbers| {
            let mut numbers = numbers.split_whitespace().take(3).peekable();
            numbers.peek().is_some() && numbers.all(|number| number.parse() == Ok(uid))
        })
    }
}

/// The parent is the second field behind the command, which may hold anything (proc_pid_stat(5)).
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_was_started_by_one_whose_environment_can_be_read() {
        let host = Sysroot::host().unwrap();
        let parent = above(&host).next().unwrap();
        let uid = rustix::process::getuid().as_raw();
        assert!(parent.is_of(&host, uid) && !parent.is_of(&host, uid + 1));
        assert!(parent.variable(&host, "PATH").is_some_and(|path| path.contains('/')));
        assert_eq!(parent.variable(&host, "PAT"), None);
        assert!(parent.program(&host).is_some_and(|name| !name.contains('/')));
    }

    #[test]
    fn parents_are_read_behind_the_command() {
        assert_eq!(parent("70 (a ) b) S 60 1"), Some(60));
        assert_eq!(parent("70 (a"), None);
    }

    #[test]
    fn a_loop_of_parents_ends() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        std::fs::create_dir_all(dir.path().join("proc/80")).unwrap();
        std::fs::write(dir.path().join("proc/self/stat"), "90 (kireji) S 80 1").unwrap();
        std::fs::write(dir.path().join("proc/80/stat"), "80 (sudo) S 80 1").unwrap();
        let host = Sysroot::at(dir.path()).unwrap();
        assert_eq!(above(&host).count(), DEPTH);
    }
}
