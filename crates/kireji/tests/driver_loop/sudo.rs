//! Runs under sudo: what they write is the user's, and so is what they start.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::*;

const USER: u32 = 54321;

/// Every file below a directory, itself included.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if path.is_dir() {
            found.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

#[test]
fn everything_that_is_written_under_sudo_is_the_users() {
    if !testkit::only_root::is_root() {
        // Only root can become a user.
        return;
    }
    let place = Place::new();
    let write = |name: &str, text: &str| std::fs::write(place.path(name), text).unwrap();
    std::fs::copy(driver("legacy.so"), place.path("legacy")).unwrap();
    // Where the tests are built may be nobody's business.
    std::fs::copy(fake(), place.path("fake-qemu")).unwrap();
    let (script, fake) = (place.path("script.json"), place.path("fake-qemu"));
    write("qemu", &format!("#!/bin/sh\nid -u > ran-by\nFAKE_GUEST={script} exec {fake} \"$@\"\n"));
    write(
        "kireji.toml",
        "[target.edu]\nimage = \"haiku.image\"\nbuild = \"sh -c 'id -u > built-by'\"\n",
    );
    write("note", "hello");
    let qemu = place.0.path().join("qemu");
    std::fs::set_permissions(&qemu, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(place.0.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let played = said(&format!("{CLAIM}{LOADED}"));
    let begin = || played.command(env!("CARGO_BIN_EXE_kireji").as_ref(), &qemu, place.0.path());
    drop(begin());
    below(place.0.path()).iter().for_each(|path| chown(path, Some(USER), Some(USER)).unwrap());

    let as_sudo = |command: &mut Command| {
        let known = [("SUDO_UID", "54321"), ("SUDO_GID", "54321"), ("HOME", "/root")];
        command.envs(known).current_dir(place.0.path()).output().unwrap()
    };
    let words =
        ["--driver", "legacy", "--emulate", "edu", "--junit", "j.xml", "--put", "note:home/note"];
    let ended = as_sudo(begin().arg("edu").args(words).args(["--get", "home/note:back"]));
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    let mut report = Command::new(env!("CARGO_BIN_EXE_kireji"));
    report.args(["report", "--output", "r.zip"]).env("XDG_STATE_HOME", place.path("state"));
    let made = as_sudo(&mut report);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    for name in ["built-by", "ran-by"] {
        assert_eq!(std::fs::read_to_string(place.path(name)).unwrap(), "54321\n", "{name}");
    }
    let written = below(place.0.path());
    for name in ["j.xml", "back", "r.zip", "serial.log", "events.jsonl"] {
        assert!(written.iter().any(|path| path.ends_with(name)), "{name} is missing");
    }
    for path in written {
        // The test itself writes these two anew.
        if !["script.json", "capabilities.json"].iter().any(|name| path.ends_with(name)) {
            assert_eq!(std::fs::metadata(&path).unwrap().uid(), USER, "{}", path.display());
        }
    }
}
