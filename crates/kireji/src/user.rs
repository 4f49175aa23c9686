//! Users of the host: the one who called sudo, to whom QEMU and the files of a run belong, and the
//! one for whom a card is prepared.

use std::path::PathBuf;

use guest::launch::User;
use host::{Above, Program, Runner, Sysroot, above};
use vfio::take::Recipient;

/// Programs that are sudo: the usual one, and the one in Rust.
const SUDO: [&str; 2] = ["sudo", "sudo-rs"];

/// Returns the user with this name or number: from `/etc/passwd`, or from whatever else the host
/// asks (getent(1)), such as a directory server.
pub(crate) fn find(host: &Sysroot, runner: &dyn Runner, user: &str) -> Option<Recipient> {
    let passwd = host.text("/etc/passwd").unwrap_or_default();
    if let Some(found) = passwd.lines().find_map(|line| recipient(line, user)) {
        return Some(found);
    }
    let asked = runner.run(&Program::new("getent").args(["passwd", "--", user])).ok()?;
    String::from_utf8_lossy(&asked.stdout).lines().find_map(|line| recipient(line, user))
}

/// Returns the user of a line of passwd(5), if it is the wanted one.
fn recipient(line: &str, wanted: &str) -> Option<Recipient> {
    let fields: Vec<_> = line.split(':').collect();
    let [name, _, uid, gid, ..] = fields[..] else { return None };
    if name.is_empty() || (name != wanted && uid != wanted) {
        return None;
    }
    let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
    Some(Recipient { name: Some(name.to_owned()), uid, gid })
}

/// Returns the user with the number `uid` and the user's home directory, from `/etc/passwd` and
/// `/etc/group` (passwd(5), group(5)).
pub(crate) fn of_sudo(host: &Sysroot, uid: u32, gid: u32) -> (User, Option<PathBuf>) {
    let passwd = host.text("/etc/passwd").unwrap_or_default();
    let entry = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2).is_some_and(|field| field.parse() == Ok(uid)));
    let name = entry.as_ref().and_then(|fields| fields.first()).copied().unwrap_or_default();
    let home = entry.as_ref().and_then(|fields| fields.get(5)).map(PathBuf::from);
    let groups = host.text("/etc/group").unwrap_or_default();
    let groups = groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':').skip(2);
            let (number, members) = (fields.next()?.parse().ok()?, fields.next()?);
            let is_member = !name.is_empty() && members.split(',').any(|member| member == name);
            is_member.then_some(number)
        })
        .collect();
    (User { uid, gid, groups }, home.filter(|home| home.is_absolute()))
}

/// Returns the `PATH` of the user who called sudo, for programs that run as that user: sudo puts one
/// of root's in its place (sudoers(5), `secure_path`), and was itself started with the user's. Else it
/// is that of the nearest process above that is the user's own.
pub(crate) fn path_of_sudo(host: &Sysroot, uid: u32) -> Option<String> {
    let is_sudo =
        |process: &Above| process.program(host).is_some_and(|program| SUDO.contains(&&*program));
    let sudo = above(host).find(is_sudo);
    let own = || above(host).find(|process| process.is_of(host, uid));
    let path = sudo.or_else(own)?.variable(host, "PATH")?;
    Some(path).filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::SystemRunner;

    #[test]
    fn finds_home_and_groups() {
        let tree = testkit::tree::Tree::new();
        tree.write(
            "/etc/passwd",
            "root:x:0:0::/root:/bin/sh\ntester:x:1000:1000:T,,,:/home/tester:/bin/sh\n",
        );
        tree.write(
            "/etc/group",
            "kvm:x:104:tester\ninput:x:105:other,tester\nsudo:x:27:testerna\n",
        );
        let (user, home) = of_sudo(&tree.sysroot(), 1000, 1000);
        assert_eq!(user, User { uid: 1000, gid: 1000, groups: vec![104, 105] });
        assert_eq!(home, Some("/home/tester".into()));
        let find = |user| find(&tree.sysroot(), &SystemRunner, user);
        let tester = Recipient { name: Some("tester".into()), uid: 1000, gid: 1000 };
        assert_eq!((find("tester"), find("1000")), (Some(tester.clone()), Some(tester)));
        for nobody in ["yu", "", "Y,,,", "no such user", "--help", "4294967295"] {
            assert_eq!(find(nobody), None, "{nobody}");
        }
        let (unknown, home) = of_sudo(&tree.sysroot(), 77, 77);
        assert_eq!((unknown.groups, home), (vec![], None));
    }

    #[test]
    fn the_path_is_what_sudo_was_started_with() {
        let tree = testkit::tree::Tree::new();
        let status = |uid: u32| format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n");
        tree.write("/proc/self/stat", "90 (kireji) S 80 1");
        tree.write("/proc/80/stat", "80 (sudo) S 70 1");
        // Its real user is who called it.
        tree.write("/proc/80/status", "Uid:\t1000\t0\t0\t0\n");
        tree.write("/proc/80/environ", "PATH=/home/tester/bin:/usr/bin\0HOME=/x\0");
        tree.write("/proc/70/stat", "70 (sh) S 1 1");
        tree.write("/proc/70/status", status(1000));
        tree.write("/proc/70/environ", "PATH=/opt/bin\0");
        let path = |tree: &testkit::tree::Tree| path_of_sudo(&tree.sysroot(), 1000);
        // What is called so is not sudo.
        assert_eq!(path(&tree).as_deref(), Some("/opt/bin"));
        tree.link("/proc/80/exe", "/usr/bin/sudo");
        assert_eq!(path(&tree).as_deref(), Some("/home/tester/bin:/usr/bin"));
        tree.write("/proc/80/environ", "PATH=\0");
        assert_eq!(path(&tree), None);
    }
}
