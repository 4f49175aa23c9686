//! Drivers of a checkout of Haiku, a made-up one, built by a program in jam's place.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use super::{CLAIM, LOADED, Place, Script, driver, fake, genuine, said, text};

/// What stands for jam: it says where and how it was called, and "links" what it is asked for.
const JAM: &str = r#"#!/bin/sh
echo "$PWD $*" >> "$TREE/calls"
for target; do
	case $target in
	-*) ;;
	legacy) place=add-ons/kernel/drivers/misc/legacy ;;
	program) place=bin/program ;;
	image) echo "...updated 3 target(s)..."; exit 0 ;;
	broken) echo "legacy.cpp:3: error: no such thing"; echo "...failed C++ ..."; exit 1 ;;
	*) echo "don't know how to make $target"; echo "...found 1 target(s)..."; exit 1 ;;
	esac
done
to=$TREE/generated/objects/haiku/x86_64/release/$place
mkdir -p "$to" && cp "$DRIVER" "$to/$target"
"#;

struct Tree {
    place: Place,
}

impl Tree {
    fn new() -> Self {
        let place = Place::new();
        let bin = place.0.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("jam"), JAM).unwrap();
        std::fs::set_permissions(bin.join("jam"), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir_all(place.0.path().join("tree/src/system/kernel")).unwrap();
        Self { place }
    }

    fn configured() -> Self {
        let this = Self::new();
        this.write("generated/build/BuildConfig", b"");
        this
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.place.0.path().join("tree").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Runs a fake guest; `path` is what PATH begins with.
    fn run_with(&self, path: &str, script: &Script, more: &[&str]) -> Output {
        let mut command =
            script.command(env!("CARGO_BIN_EXE_kireji").as_ref(), fake(), self.place.0.path());
        command.arg(self.place.path("haiku.image")).args(["--emulate", "edu"]).args(more);
        command.args(["--haiku-tree", &self.place.path("tree")]);
        command.env("PATH", path).env("TREE", self.place.path("tree"));
        command.env("DRIVER", driver("legacy.so")).env_remove("HAIKU_OUTPUT_DIR");
        command.env_remove("GITHUB_ACTIONS").output().unwrap()
    }

    fn run(&self, script: &Script, more: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap();
        self.run_with(&format!("{}:{path}", self.place.path("bin")), script, more)
    }
}

#[test]
fn a_target_of_a_checkout_is_built_and_loaded() {
    let tree = Tree::configured();
    let ended = tree.run(&said(&format!("{CLAIM}{LOADED}")), &["--jam", "legacy"]);
    let err = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{err}");
    for says in [
        "build: jam -q -j",
        "release/add-ons/kernel/drivers/misc/legacy/legacy\n",
        "stages: build ",
        "Passed: legacy was loaded",
    ] {
        assert!(err.contains(says), "{says}: {err}");
    }
    let calls = std::fs::read_to_string(tree.place.path("tree/calls")).unwrap();
    let (directory, words) = calls.trim_end().split_once(" -q ").unwrap();
    assert_eq!(
        directory,
        std::fs::canonicalize(tree.place.path("tree")).unwrap().to_str().unwrap()
    );
    assert!(words.ends_with(" legacy"), "{words}");
    // A dry run builds nothing, and takes what is there.
    let ended = tree.run(&Script::default(), &["--jam", "legacy", "--dry-run"]);
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    assert_eq!(std::fs::read_to_string(tree.place.path("tree/calls")).unwrap(), calls);
}

#[test]
fn what_is_wrong_with_a_checkout_is_told_before_anything_starts() {
    let unconfigured = Tree::new();
    let ended = unconfigured.run(&Script::default(), &["--jam", "legacy"]);
    let err = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{err}");
    assert!(err.contains("is not configured") && err.contains("./configure"), "{err}");
    let tree = Tree::configured();
    for (more, code, says) in [
        (&["--jam", "nonsense"][..], 2, "has no target `nonsense`"),
        (&["--jam", "broken"], 1, "legacy.cpp:3: error: no such thing"),
        (&["--jam", "program"], 2, "`program` is no add-on of the kernel"),
        (&["--jam", "image"], 2, "nothing called `image` was built"),
        (&["--jam=-a"], 2, "no target of jam"),
        (&[], 2, "--jam"),
    ] {
        let ended = tree.run(&Script::default(), more);
        let err = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{more:?}: {err}");
        assert!(err.contains(says), "{more:?}: {err}");
    }
    let ended = tree.run_with("/nonexistent", &Script::default(), &["--jam", "legacy"]);
    let err = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(11), "{err}");
    assert!(err.contains("jam is not installed"), "{err}");
    let state = tree.place.0.path().join("state/kireji/runs");
    assert!(!state.exists(), "a guest was started");
}

/// The checkout's kernel has lines. Whether it is the guest's, its code tells.
#[test]
fn the_kernel_of_the_checkout_is_used_if_it_is_the_guests() {
    let tree = Tree::configured();
    let kernel = std::fs::read(driver("kernel.so")).unwrap();
    tree.place.install_package("haiku", "kernel_x86_64", &kernel);
    let at = "generated/objects/haiku/x86_64/release/system/kernel/kernel_x86_64";
    let log = genuine("edu-driver-crash-kdl-session");
    let (before, _) = log.split_once("kdebug> ").unwrap();
    let script = Script::default().say(before).debugger(&log);
    let note = "the checkout's kernel is not the guest's";
    for (bytes, is_same) in [(kernel, true), (std::fs::read(driver("legacy.so")).unwrap(), false)] {
        tree.write(at, &bytes);
        let ended = tree.run(&script, &["--jam", "legacy"]);
        let err = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(21), "{err}");
        assert_eq!(!err.contains(note), is_same, "{err}");
    }
}
