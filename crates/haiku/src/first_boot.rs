//! The first boot of an image, without anybody there to answer what it asks.
//!
//! [`FILES`] are put into the volume. The prompt for a language comes up only where the settings of
//! the locale are missing (`data/launch/user`); an empty file is taken as the defaults
//! (src/kits/locale/LocaleRosterData.cpp, `_LoadLocaleSettings`). A job of the user's session
//! (src/servers/launch/LaunchDaemon.cpp) says over the serial line what it waits for: the desktop
//! with its Deskbar, the package daemon's first work on each package
//! (src/servers/package/Volume.cpp, `InitPackages`, which makes a directory for that), and the
//! scripts of the first login (`data/system/boot/PostInstallScript`); then it has the machine shut
//! down. All of this is read from Haiku's sources, and was not tried with an official image.

/// What the job says when all is done: a line of the serial line.
pub const DONE: &str = "kireji-prepare: done";
/// What it says where the prompt came up all the same.
pub const ASKS: &str = "kireji-prepare: asks";

/// The settings of the locale, which are left alone where there are any.
pub const LOCALE: &str = "home/config/settings/Locale settings";

/// What is put into the volume for the first boot and taken out after it: paths from the volume's
/// root, with what they hold.
pub const FILES: [(&str, &str); 2] = [
    ("home/config/settings/kireji-prepare", SCRIPT),
    ("home/config/settings/launch/kireji-prepare", JOB),
];

/// Words every ten seconds or so, so that a guest that works is not taken for one that hangs.
const SCRIPT: &str = "\
#!/bin/sh
# Written by kireji: waits until the first boot is over, and shuts the machine down.
packages=/boot/system/packages/administrative
what() {
	if ps | grep -q /FirstBootPrompt; then
		echo asks
	elif ! ps | grep -q /Deskbar; then
		echo 'waits for the desktop'
	elif [ ! -d $packages ] || ls -d $packages/transaction-* > /dev/null 2>&1; then
		echo 'waits for the packages'
	elif [ -e /boot/home/config/settings/first_login ]; then
		echo 'waits for the first login'
	else
		echo done
	fi
}
while now=$(what); [ \"$now\" != done ]; do
	echo \"kireji-prepare: $now\" > /dev/dprintf
	sleep 10
done
sync
echo 'kireji-prepare: done' > /dev/dprintf
sleep 5
shutdown
";

const JOB: &str = "\
job kireji-prepare {
	launch /bin/sh /boot/home/config/settings/kireji-prepare
}
";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// Runs the script where `ps`, `sleep` and `shutdown` are made up: what each look at the
    /// processes shows is a line.
    fn said(looks: &str, directory: &Path) -> String {
        let path = |name: &str| directory.join(name);
        let program = |name: &str, text: String| {
            std::fs::write(path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        let at = directory.display();
        std::fs::write(path("looks"), looks).unwrap();
        std::fs::write(path("line"), "").unwrap();
        // Each look shows what is now; time passes in sleep.
        program("ps", format!("head -n 1 {at}/looks"));
        program("sleep", format!("sed -i 1d {at}/looks; rm -rf {at}/packages/transaction-0"));
        program("shutdown", format!("echo 'shut down' >> {at}/line"));
        std::fs::create_dir_all(path("packages/transaction-0")).unwrap();
        let login = path("first_login");
        let script = SCRIPT
            .replace("/boot/system/packages/administrative", &path("packages").to_string_lossy())
            .replace("/boot/home/config/settings/first_login", &login.to_string_lossy())
            .replace("> /dev/dprintf", &format!(">> {at}/line"));
        let search = format!("{at}:{}", std::env::var("PATH").unwrap());
        // A script that never ends would be the test's end.
        let ended = Command::new("timeout")
            .args(["60", "/bin/sh", "-c", &script])
            .env("PATH", search)
            .status();
        assert!(ended.unwrap().success());
        std::fs::read_to_string(path("line")).unwrap()
    }

    #[test]
    fn the_script_says_what_it_waits_for_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let looks = "/boot/system/servers/registrar\n/boot/system/apps/FirstBootPrompt\n\
                     /boot/system/Deskbar\n/boot/system/Deskbar\n/boot/system/Deskbar\n";
        assert_eq!(
            said(looks, dir.path()),
            format!("kireji-prepare: waits for the desktop\n{ASKS}\n{DONE}\nshut down\n")
        );
        let dir = tempfile::tempdir().unwrap();
        let line = said("/boot/system/Deskbar\n/boot/system/Deskbar\n", dir.path());
        assert_eq!(line, format!("kireji-prepare: waits for the packages\n{DONE}\nshut down\n"));
    }
}
