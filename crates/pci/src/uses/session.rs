//! The remote session that kireji was started from.

use ::host::Sysroot;

/// Returns the host's own address in the remote session that this process was started from.
///
/// `variable` is the value of `SSH_CONNECTION`, if it is set. sudo(8) drops it, so that else the
/// environment of each process above this one is asked.
pub fn session_address(host: &Sysroot, variable: Option<&str>) -> Option<String> {
    if let Some(address) = variable.and_then(local_address) {
        return Some(address);
    }
    ::host::above(host).find_map(|process| {
        process.variable(host, "SSH_CONNECTION").as_deref().and_then(local_address)
    })
}

/// The third of the four words of the variable (ssh(1)).
fn local_address(variable: &str) -> Option<String> {
    variable.split_whitespace().nth(2).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use testkit::tree::Tree;

    use super::*;

    #[test]
    fn the_variable_counts_first_and_then_the_processes_above() {
        let tree = Tree::new();
        tree.write("/proc/self/stat", "90 (kireji) S 80 1");
        tree.write("/proc/80/stat", "80 (sudo) S 70 1");
        tree.write("/proc/80/environ", "A=1\0");
        tree.write("/proc/70/stat", "70 (a ) b) S 60 1");
        tree.write("/proc/70/environ", "A=1\0SSH_CONNECTION=10.0.0.9 5 192.168.1.5 22\0B=2");
        let host = tree.sysroot();
        let found = |variable| session_address(&host, variable);
        assert_eq!(found(Some("1.1.1.1 1 fe80::1%eth0 22")).as_deref(), Some("fe80::1%eth0"));
        assert_eq!(found(None).as_deref(), Some("192.168.1.5"));
        assert_eq!(found(Some("garbage")).as_deref(), Some("192.168.1.5"));
    }
}
