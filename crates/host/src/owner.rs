//! The process that holds something, told apart from any later process with its number.

use serde::{Deserialize, Serialize};

use crate::{ReadError, Sysroot};

/// A process, identified beyond the reuse of its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// Start of the process in clock ticks since boot (proc_pid_stat(5), field 22).
    pub start_time: u64,
    /// The boot in which the process ran (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
}

impl Owner {
    /// Returns the calling process.
    ///
    /// # Errors
    /// `/proc` is not mounted or cannot be read.
    pub fn current(host: &Sysroot) -> Result<Self, ReadError> {
        Self::of(host, std::process::id())
    }

    /// Returns the process with the number `pid`.
    ///
    /// # Errors
    /// There is no such process, or `/proc` cannot be read.
    pub fn of(host: &Sysroot, pid: u32) -> Result<Self, ReadError> {
        let path = format!("/proc/{pid}/stat");
        let stat = host.text(&path)?;
        let start_time = start_time(&stat).ok_or_else(|| ReadError {
            path: path.into(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, "no field 22"),
        })?;
        Ok(Self { pid, start_time, boot_id: boot_id(host)? })
    }

    /// Whether the process is provably gone: another boot, or no process of its number, or one
    /// that started at another time.
    ///
    /// # Errors
    /// `/proc` cannot be read, so that nothing is proved.
    pub fn is_gone(&self, host: &Sysroot) -> Result<bool, ReadError> {
        if boot_id(host)? != self.boot_id {
            return Ok(true);
        }
        match host.optional_text(format!("/proc/{}/stat", self.pid))? {
            None => Ok(true),
            Some(stat) if is_zombie(&stat) => Ok(true),
            Some(stat) => Ok(start_time(&stat).is_some_and(|time| time != self.start_time)),
        }
    }
}

fn boot_id(host: &Sysroot) -> Result<String, ReadError> {
    host.text("/proc/sys/kernel/random/boot_id")
}

// The second field is the command in parentheses and may hold anything, so count from the last
// closing parenthesis: the state is field 3.
fn fields(stat: &str) -> Option<impl Iterator<Item = &str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

fn start_time(stat: &str) -> Option<u64> {
    fields(stat)?.nth(19)?.parse().ok()
}

fn is_zombie(stat: &str) -> bool {
    fields(stat).and_then(|mut fields| fields.next()).is_some_and(|state| state == "Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_not_gone_and_a_forged_one_is() {
        let host = Sysroot::host().unwrap();
        let owner = Owner::current(&host).unwrap();
        assert!(!owner.is_gone(&host).unwrap());
        let earlier = Owner { start_time: owner.start_time + 1, ..owner.clone() };
        assert!(earlier.is_gone(&host).unwrap());
        let rebooted = Owner { boot_id: "another".into(), ..owner };
        assert!(rebooted.is_gone(&host).unwrap());
    }

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 99";
        assert_eq!(start_time(&format!("7 (a) b (c)) {tail}")), Some(4242));
        assert_eq!(start_time("7 (a"), None);
        assert!(is_zombie("7 (x) Z 1"));
    }
}
