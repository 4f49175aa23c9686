//! The environment that QEMU needs to open a window for the user who called sudo.
//!
//! sudo(8) gives its command an environment of root's, of which it keeps some of the user's
//! variables, as it is set up. QEMU runs as the user and wants the user's. Each is looked for where
//! sudo kept it, then in the nearest process above that is the user's own, then in the places where
//! sessions have it. A path counts only if it is what it should be and the user's own; what is not
//! found is removed, for root's value would be worse than none.

use std::collections::BTreeMap;

use guest::launch::User;
use host::{NodeKind, Sysroot, above};

use crate::user;

/// The variables, each with the user's value, or without one to be removed.
pub(super) type Environment = BTreeMap<String, Option<String>>;

/// Returns the environment for `user`; `kept` is this process's own.
pub(super) fn environment(
    host: &Sysroot,
    user: &User,
    kept: &dyn Fn(&str) -> Option<String>,
) -> Environment {
    let own = above(host).find(|process| process.is_of(host, user.uid));
    let said = |name: &str| {
        let above = own.and_then(|process| process.variable(host, name));
        [kept(name), above].into_iter().flatten().filter(|value| !value.is_empty())
    };
    let look = Look { host, uid: user.uid };

    // sudo may keep HOME as the user's or not; the list of users says what it is.
    let (_, home) = user::of_sudo(host, user.uid, user.gid);
    let home = home.and_then(|home| home.into_os_string().into_string().ok());
    let home = home.filter(|home| look.is(home, NodeKind::Directory));

    let usual = format!("/run/user/{}", user.uid);
    let runtime = said("XDG_RUNTIME_DIR").chain([usual]);
    let runtime = runtime.into_iter().find(|path| look.is(path, NodeKind::Directory));

    // libxcb takes a display with a slash for a path (xcb_util.c, _xcb_parse_display).
    let display = said("DISPLAY").find(|display| !display.contains('/'));
    let authority = said("XAUTHORITY").find(|path| look.is(path, NodeKind::File));
    let wayland = said("WAYLAND_DISPLAY")
        .find(|name| runtime.as_ref().is_some_and(|runtime| look.is_wayland(runtime, name)));
    // Where the session says nothing of a screen, the user may have one all the same; where it
    // does, as over ssh, another screen would be the wrong one.
    let wayland = match (&wayland, &display, &runtime) {
        (None, None, Some(runtime)) => look.first_wayland(runtime),
        _ => wayland,
    };
    let sound = said("PULSE_SERVER").find(|server| look.is_sound(server));
    [
        ("HOME", home),
        ("XDG_RUNTIME_DIR", runtime),
        ("DISPLAY", display),
        ("XAUTHORITY", authority),
        ("WAYLAND_DISPLAY", wayland),
        ("PULSE_SERVER", sound),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// Looks at what belongs to a user.
struct Look<'a> {
    host: &'a Sysroot,
    uid: u32,
}

impl Look<'_> {
    /// Whether an absolute path is of that kind and the user's.
    fn is(&self, path: &str, kind: NodeKind) -> bool {
        let node = path.starts_with('/').then(|| self.host.node(path).ok()).flatten();
        node.is_some_and(|node| node.kind == kind && node.uid == self.uid)
    }

    /// Whether it is a Wayland socket: a name in the runtime directory, or a path
    /// (wl_display_connect(3)).
    fn is_wayland(&self, runtime: &str, name: &str) -> bool {
        match name.contains('/') {
            true => self.is(name, NodeKind::Socket),
            false => self.is(&format!("{runtime}/{name}"), NodeKind::Socket),
        }
    }

    /// The socket with the lowest number, which compositors count up from zero.
    fn first_wayland(&self, runtime: &str) -> Option<String> {
        let number = |name: &str| name.strip_prefix("wayland-")?.parse::<u16>().ok();
        let names = self.host.optional_names(runtime).unwrap_or_default();
        let sockets = names.into_iter().filter_map(|name| Some((number(&name)?, name)));
        let mut own: Vec<_> = sockets.filter(|(_, name)| self.is_wayland(runtime, name)).collect();
        own.sort();
        own.into_iter().next().map(|(_, name)| name)
    }

    /// Whether all servers of a list are on a network or the user's sockets (PulseAudio's manual,
    /// "Server Strings": words, each with the id of a machine in braces before it or not).
    fn is_sound(&self, servers: &str) -> bool {
        servers.split_whitespace().all(|word| {
            let for_one = word.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let server = for_one.map_or(word, |(_, server)| server);
            let path = server.strip_prefix("unix:").unwrap_or(server);
            !path.contains('/') || self.is(path, NodeKind::Socket)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use testkit::tree::Tree;

    use super::*;

    /// A host on which every file belongs to whoever runs the test.
    fn tree() -> (Tree, User) {
        let uid = rustix::process::geteuid().as_raw();
        let tree = Tree::new();
        tree.write("/etc/passwd", format!("tester:x:{uid}:1000::/home/tester:/bin/sh\n"));
        tree.directory("/home/tester");
        tree.write("/proc/self/stat", "90 (kireji) S 80 1");
        tree.write("/proc/80/stat", "80 (sudo) S 70 1");
        tree.write("/proc/80/status", format!("Uid:\t{uid}\t{0}\t{0}\t{0}\n", uid + 1));
        tree.write("/proc/80/environ", "DISPLAY=:66\0");
        tree.write("/proc/70/stat", "70 (sh) S 1 1");
        tree.write("/proc/70/status", format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n"));
        (tree, User { uid, gid: 1000, groups: vec![] })
    }

    fn socket(tree: &Tree, path: &str) -> UnixListener {
        let path = tree.locate(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        UnixListener::bind(path).unwrap()
    }

    fn found(tree: &Tree, user: &User, kept: &[(&str, &str)]) -> Vec<String> {
        let kept = |name: &str| {
            kept.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let all = environment(&tree.sysroot(), user, &kept);
        assert_eq!(all.len(), 6);
        all.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))).collect()
    }

    #[test]
    fn what_the_users_shell_had_counts_where_sudo_kept_nothing() {
        let (tree, user) = tree();
        let run = format!("/run/user/{}", user.uid);
        let _wayland = socket(&tree, &format!("{run}/wayland-1"));
        let _other = socket(&tree, &format!("{run}/wayland-0"));
        let _pulse = socket(&tree, &format!("{run}/pulse/native"));
        tree.write(&format!("{run}/xauth"), "");
        let shell = format!(
            "DISPLAY=:1\0XAUTHORITY={run}/xauth\0WAYLAND_DISPLAY=wayland-1\0\
             PULSE_SERVER=unix:{run}/pulse/native\0"
        );
        tree.write("/proc/70/environ", shell);
        let expected = |display: &str| {
            [
                format!("DISPLAY={display}"),
                "HOME=/home/tester".to_owned(),
                format!("PULSE_SERVER=unix:{run}/pulse/native"),
                "WAYLAND_DISPLAY=wayland-1".to_owned(),
                format!("XAUTHORITY={run}/xauth"),
                format!("XDG_RUNTIME_DIR={run}"),
            ]
        };
        assert_eq!(found(&tree, &user, &[]), expected(":1"));
        // What sudo kept comes first, if it is the user's.
        let kept = [("DISPLAY", ":2"), ("XDG_RUNTIME_DIR", "/run/user/0"), ("HOME", "/root")];
        assert_eq!(found(&tree, &user, &kept), expected(":2"));
    }

    #[test]
    fn a_wayland_screen_is_found_where_nobody_names_one() {
        let (tree, user) = tree();
        let run = format!("/run/user/{}", user.uid);
        tree.directory(&run);
        let bare = ["HOME=/home/tester".to_owned(), format!("XDG_RUNTIME_DIR={run}")];
        assert_eq!(found(&tree, &user, &[]), bare);
        // No socket, and none with a number.
        tree.write(&format!("{run}/wayland-0"), "");
        tree.write(&format!("{run}/wayland-0.lock"), "");
        assert_eq!(found(&tree, &user, &[]), bare);
        let _ten = socket(&tree, &format!("{run}/wayland-10"));
        let _nine = socket(&tree, &format!("{run}/wayland-9"));
        assert!(found(&tree, &user, &[]).contains(&"WAYLAND_DISPLAY=wayland-9".to_owned()));
        // A window of a session over ssh belongs on its own screen.
        let ssh = found(&tree, &user, &[("DISPLAY", "localhost:10.0")]);
        assert!(!ssh.iter().any(|variable| variable.starts_with("WAYLAND")), "{ssh:?}");
    }

    #[test]
    fn nothing_that_is_not_the_users_is_believed() {
        let (tree, user) = tree();
        let run = format!("/run/user/{}", user.uid + 1);
        let _wayland = socket(&tree, &format!("{run}/wayland-0"));
        let _pulse = socket(&tree, "/run/pulse");
        tree.write("/home/tester/xauth", "");
        let shell = format!(
            "XDG_RUNTIME_DIR={run}\0XAUTHORITY=/home/tester/xauth\0PULSE_SERVER=unix:/run/pulse\0\
             WAYLAND_DISPLAY=wayland-0\0DISPLAY=/tmp/display\0"
        );
        tree.write("/proc/70/environ", shell);
        // The same files, seen by somebody to whom they do not belong.
        let other = User { uid: user.uid + 1, ..user.clone() };
        tree.write("/proc/70/status", format!("Uid:\t{0}\t{0}\t{0}\t{0}\n", other.uid));
        tree.write("/etc/passwd", format!("liar:x:{}:1::/home/tester:/bin/sh\n", other.uid));
        assert_eq!(found(&tree, &other, &[]), [""; 0]);
        // Another user's process is not asked at all.
        assert_eq!(found(&tree, &user, &[]), [""; 0]);
    }

    #[test]
    fn sound_may_come_from_a_network() {
        let (tree, user) = tree();
        let server = |server| found(&tree, &user, &[("PULSE_SERVER", server)]).len() == 2;
        assert!(server("desk.example"));
        assert!(server("{1f}tcp:desk.example:4713 desk"));
        assert!(!server("desk unix:/run/pulse"));
        assert!(!server("{1f}/run/pulse"));
        let _pulse = socket(&tree, "/run/pulse");
        assert!(server("desk unix:/run/pulse {1f}/run/pulse"));
    }
}
