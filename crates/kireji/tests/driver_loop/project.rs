//! The project file on the command line: what a word means, and where a run keeps what it leaves.

use std::path::Path;
use std::process::{Command, Output};

use testkit::fake_guest::Script;

use crate::place::{Place, fake, text};

fn kireji(place: &Place) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_kireji"));
    let mut command = Script::default().command(program, fake(), place.0.path());
    command.current_dir(place.0.path());
    command
}

fn project(place: &Place, text: &str) {
    std::fs::write(place.path("kireji.toml"), text).unwrap();
}

#[test]
fn a_plain_word_is_a_target_first_and_a_path_is_a_file() {
    let place = Place::new();
    project(&place, "[target.edu]\nimage = \"haiku.image\"\nmemory = 1234\n");
    std::fs::copy(place.path("haiku.image"), place.path("edu")).unwrap();
    let run = |words: &[&str]| -> Output {
        kireji(&place).arg("--dry-run").args(words).output().unwrap()
    };
    for (word, memory, note) in [
        ("edu", true, true),
        ("./edu", false, false),
        (&*place.path("edu"), false, false),
        ("haiku.image", false, false),
    ] {
        let ended = run(&[word]);
        let (out, err) = (text(&ended.stdout), text(&ended.stderr));
        assert_eq!(ended.status.code(), Some(0), "{word}: {err}");
        assert_eq!(out.contains("1234"), memory, "{word}: {out}");
        assert_eq!(err.contains("the file is ./edu"), note, "{word}: {err}");
    }
    // Words that are neither.
    for (word, says) in [("ede", "has no target `ede`"), ("./ede", "ede")] {
        let ended = run(&[word]);
        assert!(text(&ended.stderr).contains(says), "{word}: {}", text(&ended.stderr));
        assert_ne!(ended.status.code(), Some(0), "{word}");
    }
    // What cannot be read may have the target that is meant.
    project(&place, "[target.edu\n");
    let ended = run(&["edu"]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(text(&ended.stderr).contains("./edu names the file"), "{}", text(&ended.stderr));
    assert_eq!(run(&["./edu"]).status.code(), Some(0));
}

#[test]
fn a_home_that_is_not_there_is_not_made() {
    let place = Place::new();
    project(&place, "[target.edu]\nimage = \"haiku.image\"\nqemu-args = [\"-x\"]\n");
    let home = place.path("home");
    for words in [
        &["run", "./haiku.image"][..],
        &["trust"],
        &["image", "fetch", "http://127.0.0.1:1/x.iso"],
        &["image", "prepare", "haiku.image"],
        &["doctor"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kireji"));
        command.current_dir(place.0.path()).args(words).env("KIREJI_QEMU", fake());
        for name in ["XDG_STATE_HOME", "XDG_CACHE_HOME", "SUDO_UID", "SUDO_GID"] {
            command.env_remove(name);
        }
        let ended = command.env("HOME", &home).output().unwrap();
        assert!(!Path::new(&home).exists(), "{words:?}");
        if words != ["doctor"] {
            let err = text(&ended.stderr);
            assert_eq!(ended.status.code(), Some(11), "{words:?}: {err}");
            assert!(err.contains(&format!("the home directory {home} is not there")), "{err}");
        }
    }
}

#[test]
fn what_reaches_beyond_a_project_is_refused_until_it_is_trusted() {
    let place = Place::new();
    let target = "[target.edu]\nimage = \"haiku.image\"\nemulate = [\"edu\"]\n";
    let run = |words: &[&str]| kireji(&place).arg("--dry-run").args(words).output().unwrap();
    let trust = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kireji"));
        command.arg("trust").current_dir(place.0.path()).env("XDG_STATE_HOME", place.path("state"));
        command.output().unwrap()
    };
    project(&place, &format!("{target}sound = true\naccel = \"tcg\"\n"));
    assert_eq!(run(&[]).status.code(), Some(0), "{}", text(&run(&[]).stderr));
    assert!(text(&trust().stdout).contains("No target has anything"));
    project(&place, &format!("{target}allow = [\"data-loss=S3R1AL\"]\n"));
    let refused = run(&[]);
    assert_eq!(refused.status.code(), Some(10));
    assert!(text(&refused.stderr).contains("because --allow=data-loss=S3R1AL"));
    assert!(text(&trust().stdout).contains("edu: --allow=data-loss=S3R1AL"));
    // It is trusted, and then wrong, for there is no card to lose data of.
    let trusted = run(&[]);
    assert!(text(&trusted.stderr).contains("`--allow` needs a card"), "{}", text(&trusted.stderr));
    // With a device of QEMU's own from the command line, what is said of a card has no meaning.
    assert_eq!(run(&["--emulate", "edu"]).status.code(), Some(0));
    project(&place, &format!("{target}allow = [\"data-loss=OTHER\"]\n"));
    assert_eq!(run(&["--emulate", "edu"]).status.code(), Some(10));
    // Elsewhere there is no project.
    let elsewhere = place.kireji(&["trust"]);
    assert_eq!(elsewhere.status.code(), Some(2), "{}", text(&elsewhere.stderr));
}
