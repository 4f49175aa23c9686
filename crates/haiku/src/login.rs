//! A way into the guest while it runs: an ssh server of the run's own.
//!
//! [`Login::files`] are put into the volume: a job that the launch daemon runs at boot, a script
//! that starts the image's `sshd`, and what that needs: its own configuration, host key and list
//! of keys, so that nothing depends on how the image's own server is set up, or on whether the
//! first boot has made host keys yet. It listens on [`PORT`] and lets nobody in but who has the
//! key.
//!
//! Where `sshd` is comes from Haiku's `data/settings/network/services`; that its user is root by
//! number, from `build/jam/images/definitions/common-tail`; that the launch daemon runs the job,
//! from src/servers/launch/LaunchDaemon.cpp. None of it was tried with an official image.

/// The port of the guest that the server listens on; 22 is that of the image's own server.
pub const PORT: u16 = 2222;
/// The list of users, from the root of the volume (`build/jam/ImageRules`, passwd).
pub const USERS: &str = "system/settings/etc/passwd";
/// What the user is called where the list does not tell.
pub const USER: &str = "user";

/// Directory of jobs (src/servers/launch/LaunchDaemon.cpp).
const JOB: &str = "system/settings/launch/kireji-sshd";
const DIRECTORY: &str = "system/settings/kireji-sshd";
/// How often the server is started before it is given up, and seconds between: the first boot of
/// an image makes the user whom it runs as.
const TIMES: u32 = 60;
const PAUSE: u32 = 2;

/// What lets somebody in.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The public key of who may log in, as a line of `authorized_keys` (sshd(8)).
    pub key: String,
    /// The private key by which the server proves that it is this guest, as ssh-keygen writes it.
    pub host_key: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A private key is for no log.
        f.debug_struct("Login").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Login {
    /// Returns what is to be put into the volume: paths from its root, permissions, and what the
    /// files hold. `sshd` takes no private key that others may read.
    pub fn files(&self) -> Vec<(String, u32, String)> {
        let within = |name: &str| format!("{DIRECTORY}/{name}");
        vec![
            (within("sshd_config"), 0o600, configuration(&format!("/boot/{DIRECTORY}"))),
            (within("authorized_keys"), 0o600, format!("{}\n", self.key.trim_end())),
            (within("host_key"), 0o600, self.host_key.clone()),
            (within("start"), 0o755, script()),
            // The last one starts all: without it the others do nothing.
            (JOB.to_owned(), 0o644, job()),
        ]
    }
}

/// The server's configuration (sshd_config(5)) where its files are in `directory`.
fn configuration(directory: &str) -> String {
    format!(
        "# Written by kireji.\n\
         Port {PORT}\n\
         AddressFamily inet\n\
         HostKey {directory}/host_key\n\
         AuthorizedKeysFile {directory}/authorized_keys\n\
         AuthenticationMethods publickey\n\
         # Haiku's user has the number 0.\n\
         PermitRootLogin prohibit-password\n\
         # Who owns the directories above is the image's affair.\n\
         StrictModes no\n\
         PidFile none\n\
         Subsystem sftp internal-sftp\n"
    )
}

/// The server stays in the foreground and is started again until it stays; why it did not is said
/// once on the serial line.
fn script() -> String {
    format!(
        "#!/bin/sh\n\
         # Written by kireji: starts an ssh server for `kireji ssh`.\n\
         log=/tmp/kireji-sshd.log\n\
         number=0\n\
         while [ $number -lt {TIMES} ]; do\n\
         \t/boot/system/bin/sshd -D -e -f /boot/{DIRECTORY}/sshd_config 2> $log\n\
         \tif [ $number = 0 ]; then\n\
         \t\techo \"kireji-sshd: $(tail -n 1 $log)\" > /dev/dprintf\n\
         \tfi\n\
         \tnumber=$((number + 1))\n\
         \tsleep {PAUSE}\n\
         done\n"
    )
}

fn job() -> String {
    format!("job kireji-sshd {{\n\tlaunch /bin/sh /boot/{DIRECTORY}/start\n}}\n")
}

/// The name of the user with the number 0 in a list of users (passwd(5)).
pub fn user(passwd: &str) -> Option<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        let is_name = !name.is_empty() && !name.starts_with('-') && name.chars().all(is_plain);
        (number == "0" && is_name).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_the_one_with_the_number_0() {
        for (passwd, expected) in [
            ("user:x:0:0:Yourself:/boot/home:/bin/bash\nsshd:x:1002:1000::/:\n", Some("user")),
            ("sshd:x:10:1000::/:\nbaron:x:0:0:baron:/boot/home:\n", Some("baron")),
            // No option of ssh's, and nothing that a shell or ssh would take apart.
            ("-oProxyCommand=x:x:0:0::/:\n", None),
            ("a b:x:0:0::/:\n:x:0:0::/:\n", None),
            ("root:x:00:0::/:\nroot\n", None),
            ("", None),
        ] {
            assert_eq!(user(passwd), expected, "{passwd}");
        }
    }

    #[test]
    fn keys_are_for_their_owner_alone_and_the_job_comes_last() {
        let login = Login { key: "ssh-ed25519 AAAA kireji".into(), host_key: "secret".into() };
        let files = login.files();
        let modes: Vec<_> = files.iter().map(|(path, mode, _)| (&**path, *mode)).collect();
        assert_eq!(
            modes,
            [
                ("system/settings/kireji-sshd/sshd_config", 0o600),
                ("system/settings/kireji-sshd/authorized_keys", 0o600),
                ("system/settings/kireji-sshd/host_key", 0o600),
                ("system/settings/kireji-sshd/start", 0o755),
                ("system/settings/launch/kireji-sshd", 0o644),
            ]
        );
        for (index, names) in [(3, "kireji-sshd/sshd_config"), (4, "kireji-sshd/start")] {
            assert!(files[index].2.contains(names), "{}", files[index].2);
        }
        assert_eq!(files[1].2, "ssh-ed25519 AAAA kireji\n");
        assert!(!format!("{login:?}").contains("secret"));
    }
}
