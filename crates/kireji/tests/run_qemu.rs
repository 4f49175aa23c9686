//! Runs with a real QEMU, of a guest that says a word and ends or waits: no card and no root.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use testkit::image::{self, Then};

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        image::write(&dir.path().join("good.image"), "hello\r\n", Then::PowerOff);
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }
}

/// Runs the program itself, with a state directory of its own.
fn program(state: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kireji"))
        .args(args)
        .env("XDG_STATE_HOME", state)
        .env("XDG_CACHE_HOME", state.join("cache"))
        .output()
        .expect("kireji runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_guest_with_an_emulated_card_runs_without_root_or_iommu() {
    let place = Place::new();
    let image = place.path("good.image");
    let before = std::fs::read(&image).expect("the image");
    let state = place.dir.path().join("state");
    let args = ["run", &image, "--emulate", "edu", "--accel", "tcg", "--memory", "64"];
    let ended = program(&state, &args);
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    assert_eq!(text(&ended.stdout), "hello\n");
    assert!(std::fs::read(&image).expect("the image") == before, "the image was written");
    let log = program(&state, &["log"]);
    assert_eq!(text(&log.stdout), "hello\n");
    let log = program(&state, &["log", "--raw"]);
    assert_eq!(text(&log.stdout), "hello\r\n");
    let runs = program(&state, &["runs"]);
    assert!(text(&runs.stdout).contains("The guest shut down."), "{}", text(&runs.stdout));
}

#[test]
fn a_guest_that_goes_on_is_stopped_when_its_time_is_up() {
    let place = Place::new();
    let image = place.path("halt.image");
    image::write(image.as_ref(), "waiting\r\n", Then::Halt);
    let state = place.dir.path().join("state");
    let args = ["run", &image, "--accel", "tcg", "--memory", "64", "--timeout", "1", "--json"];
    let ended = program(&state, &args);
    assert_eq!(ended.status.code(), Some(22), "{}", text(&ended.stderr));
    let events: Vec<serde_json::Value> = text(&ended.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"))
        .collect();
    assert!(events.iter().all(|event| event["event"].is_string()), "{events:?}");
    let (first, last) = (&events[0], &events[events.len() - 1]);
    assert_eq!((&first["event"], &first["schema"]), (&"run".into(), &1.into()));
    assert_eq!((&last["event"], &last["exit_code"]), (&"verdict".into(), &22.into()));
    let directory = Path::new(first["directory"].as_str().expect("a path"));
    assert_eq!(first["run"], directory.file_name().and_then(|name| name.to_str()).unwrap_or("?"));
    // The directory tells the same.
    let kept = std::fs::read_to_string(directory.join("events.jsonl")).expect("the events");
    assert_eq!(kept, text(&ended.stdout));
}

#[test]
fn a_guest_that_runs_is_told_what_to_do() {
    let place = Place::new();
    let image = place.path("halt.image");
    image::write(image.as_ref(), "waiting\r\n", Then::Halt);
    let state = place.dir.path().join("state");
    let mut running = Command::new(env!("CARGO_BIN_EXE_kireji"))
        .args(["run", &image, "--accel", "tcg", "--memory", "64", "--timeout", "120"])
        .env("XDG_STATE_HOME", &state)
        .env("XDG_CACHE_HOME", state.join("cache"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("kireji runs");
    let mut line = String::new();
    let mut shown = BufReader::new(running.stdout.take().expect("its output"));
    while line.trim_end() != "waiting" {
        line.clear();
        assert_ne!(shown.read_line(&mut line).expect("its output"), 0, "it has ended");
    }
    let told = program(&state, &["control", "nmi"]);
    assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
    assert!(text(&told.stderr).contains(" got a non-maskable interrupt"));
    let told = program(&state, &["control", "quit"]);
    assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
    running.wait().expect("it ends");
    let late = program(&state, &["control", "reset"]);
    assert_eq!(late.status.code(), Some(11), "{}", text(&late.stderr));
    assert!(text(&late.stderr).contains("does not go on"), "{}", text(&late.stderr));
}

/// Nobody listens, and the run is made all the same; how it ended is what counts.
#[test]
fn a_closed_standard_error_changes_nothing() {
    let place = Place::new();
    let image = place.path("halt.image");
    image::write(image.as_ref(), "waiting\r\n", Then::Halt);
    let state = place.dir.path().join("state");
    let closed = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        writer
    };
    let ended = Command::new(env!("CARGO_BIN_EXE_kireji"))
        .args(["run", &image, "--accel", "tcg", "--memory", "64", "--timeout", "1"])
        .env("XDG_STATE_HOME", &state)
        .env("XDG_CACHE_HOME", state.join("cache"))
        .stdout(closed())
        .stderr(closed())
        .status()
        .expect("kireji runs");
    assert_eq!(ended.code(), Some(22));
    let log = program(&state, &["log"]);
    assert_eq!(text(&log.stdout), "waiting\n");
}

#[test]
fn a_time_that_nobody_lives_to_see_is_no_limit() {
    let place = Place::new();
    let image = place.path("good.image");
    let state = place.dir.path().join("state");
    let run = |limit| {
        program(&state, &["run", &image, "--accel", "tcg", "--memory", "64", "--timeout", limit])
    };
    assert_eq!(run("18446744073709551615").status.code(), Some(2));
    assert_eq!(run("0").status.code(), Some(2));
    let ended = run("31536000");
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    let lab = ["lab", "run", "intel", "--time-limit", "18446744073709551615", "--", "true"];
    assert_eq!(program(&state, &lab).status.code(), Some(2));
}

/// Under sudo, what is asked of QEMU is asked as the user, and what is remembered is the user's.
#[test]
fn qemu_is_asked_as_the_user_who_called_sudo() {
    use std::os::unix::fs::MetadataExt;
    if !testkit::only_root::is_root() {
        // Only root can become a user.
        return;
    }
    let place = Place::new();
    let set = |path: &str, mode| {
        std::fs::set_permissions(place.path(path), Permissions::from_mode(mode)).expect("a mode");
    };
    set("", 0o755);
    let real = std::env::var("KIREJI_QEMU").unwrap_or_else(|_| "qemu-system-x86_64".to_owned());
    std::fs::create_dir(place.path("users")).expect("a directory");
    set("users", 0o777);
    let script = format!("#!/bin/sh\nid -u >> {}\nexec {real} \"$@\"\n", place.path("users/ids"));
    std::fs::write(place.path("qemu"), script).expect("a file");
    set("qemu", 0o755);
    let run = |image: &str| {
        Command::new(env!("CARGO_BIN_EXE_kireji"))
            .args(["run", &place.path(image), "--qemu", &place.path("qemu")])
            .args(["--accel", "tcg", "--memory", "64"])
            .envs([("SUDO_UID", "54321"), ("SUDO_GID", "54321"), ("HOME", "/root")])
            .env("XDG_STATE_HOME", place.path("users/state"))
            .env("XDG_CACHE_HOME", place.path("users/cache"))
            .output()
            .expect("kireji runs")
    };
    let ended = run("good.image");
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    let ids = std::fs::read_to_string(place.path("users/ids")).expect("the users");
    assert!(ids.lines().count() > 3 && ids.lines().all(|id| id == "54321"), "{ids}");
    let mut directories = vec![Path::new(&place.path("users/cache")).to_owned()];
    let mut files = 0;
    while let Some(path) = directories.pop() {
        assert_eq!(std::fs::metadata(&path).expect("metadata").uid(), 54321, "{}", path.display());
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a directory");
            directories.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else {
            files += 1;
        }
    }
    assert!(files > 0);
    // An image that only root may read is no image for the user's QEMU.
    set("good.image", 0o600);
    let denied = run("good.image");
    assert_eq!(denied.status.code(), Some(13), "{}", text(&denied.stderr));
}

#[test]
fn several_runs_at_once_do_not_collide() {
    let place = Place::new();
    let image = place.path("good.image");
    let state = place.dir.path().join("state");
    let args = ["run", &image, "--accel", "tcg", "--memory", "64"];
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| program(&state, &args))).collect();
        for run in runs {
            let ended = run.join().expect("the thread");
            assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
        }
    });
    let runs = program(&state, &["runs", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&runs.stdout).expect("JSON");
    assert_eq!(document["runs"].as_array().map(Vec::len), Some(3));
}

/// Under sudo QEMU is the user's, and so is what it finds its window by.
#[test]
fn qemu_gets_the_environment_of_the_user_who_called_sudo() {
    if !testkit::only_root::is_root() {
        // Only root can become a user; how the environment is found is tested without it.
        return;
    }
    // A user whom this host does not know, so that only what is given counts.
    let uid = 54321;
    let place = Place::new();
    let mode = |path: &str, mode| {
        std::fs::set_permissions(place.path(path), Permissions::from_mode(mode)).expect("a mode");
    };
    mode("", 0o755);
    let real = std::env::var("KIREJI_QEMU").unwrap_or_else(|_| "qemu-system-x86_64".to_owned());
    let script = format!("#!/bin/sh\nenv >&2\nexec {real} \"$@\"\n");
    std::fs::write(place.path("qemu"), script).expect("a file");
    mode("qemu", 0o755);
    for own in ["runtime", "state", "cache"] {
        std::fs::create_dir(place.path(own)).expect("a directory");
        std::os::unix::fs::chown(place.path(own), Some(uid), None).expect("an owner");
    }
    std::fs::write(place.path("roots"), "").expect("a file");
    let kireji = |args: &[&str]| {
        let ended = Command::new(env!("CARGO_BIN_EXE_kireji"))
            .args(args)
            .envs([("SUDO_UID", "54321"), ("SUDO_GID", "54321"), ("HOME", "/root")])
            .env("XDG_STATE_HOME", place.path("state"))
            .env("XDG_CACHE_HOME", place.path("cache"))
            .env("XDG_RUNTIME_DIR", place.path("runtime"))
            .env("DISPLAY", ":7")
            .env("XAUTHORITY", place.path("roots"))
            .output()
            .expect("kireji runs");
        assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
        text(&ended.stdout)
    };
    let (image, qemu) = (place.path("good.image"), place.path("qemu"));
    let line = ["run", &image, "--qemu", &qemu, "--accel", "tcg", "--memory", "64"];
    kireji(&[&line[..], &["--display", "none"]].concat());
    let log = kireji(&["log", "--qemu"]);
    let value = |name: &str| {
        log.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    assert_eq!(value("DISPLAY"), Some(":7".to_owned()), "{log}");
    assert_eq!(value("XDG_RUNTIME_DIR"), Some(place.path("runtime")));
    assert_eq!(value("XAUTHORITY"), None);
    assert_eq!(value("HOME"), None);
}

#[test]
fn output_that_cannot_be_written_is_an_error_of_its_own() {
    for word in ["explain", "--help"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let ended = Command::new(env!("CARGO_BIN_EXE_kireji"))
            .arg(word)
            .stdout(full)
            .output()
            .expect("kireji runs");
        assert_eq!(ended.status.code(), Some(16), "{word}: {}", text(&ended.stderr));
        assert!(text(&ended.stderr).contains("cannot write the output"), "{word}");
    }
}
