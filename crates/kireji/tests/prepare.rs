//! `image prepare`: the first boot of an image, by a fake guest that speaks like Haiku's serial line.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod place;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use haiku::first_boot::{ASKS, DONE, FILES, LOCALE};
use place::{Place, fake, text};
use testkit::fake_guest::Script;

const BOOT: &str = "Welcome to the Haiku boot loader!\r\nWelcome to kernel debugger output!\r\n\
    Mounted boot partition: /dev/disk/scsi/0/5/0/1\r\n";
const PANIC: &str = "PANIC: did not expect that\r\n\r\nWelcome to Kernel Debugging Land...\r\n\
    Thread 27 \"package_daemon\" running on CPU 0\r\n";
const NOTE: &str = "the image was prepared, and the run starts from there";

fn haiku() -> Place {
    let place = Place::new();
    let image = place.path("haiku.image");
    let made = place.kireji(&["image", "mkdir", "--parents", &image, "system/packages"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    place
}

fn prepares(place: &Place, script: &Script, more: &[&str]) -> std::process::Command {
    let kireji = Path::new(env!("CARGO_BIN_EXE_kireji"));
    let mut command = script.command_of(&["image", "prepare"], kireji, fake(), place.0.path());
    command.arg(place.path("haiku.image")).args(more);
    command
}

fn prepare(place: &Place, script: &Script, more: &[&str]) -> Output {
    prepares(place, script, more).output().unwrap()
}

/// A boot that comes to its end: then the power button is pressed.
fn good() -> Script {
    Script::default().say(&format!("{BOOT}kireji-prepare: waits for the desktop\r\n{DONE}\r\n"))
}

fn left(place: &Place) -> Vec<String> {
    let directory = place.path("cache/kireji/prepared");
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn run(place: &Place, more: &[&str]) -> Output {
    let kireji = Path::new(env!("CARGO_BIN_EXE_kireji"));
    let script = Script::default().say(BOOT).shut_down();
    let mut command = script.command(kireji, fake(), place.0.path());
    command.arg(place.path("haiku.image")).args(more).output().unwrap()
}

#[test]
fn runs_start_from_what_was_prepared_until_the_image_changes() {
    let place = haiku();
    let image = place.path("haiku.image");
    let before = std::fs::read(&image).unwrap();
    let prepared = prepare(&place, &good(), &[]);
    assert_eq!(prepared.status.code(), Some(0), "{}", text(&prepared.stderr));
    assert!(std::fs::read(&image).unwrap() == before, "the image was written");
    let names = left(&place);
    assert_eq!(names.len(), 2, "{names:?}");
    let base = names.iter().find(|name| name.ends_with(".qcow2")).unwrap();
    assert!(!base.contains("part"), "{names:?}");
    // The answer to what the first boot asks stays, and the job goes.
    let base = place.path(&format!("cache/kireji/prepared/{base}"));
    let stat = |path: &str| place.kireji(&["image", "cat", &base, path]).status.success();
    assert!(stat(LOCALE));
    for (path, _) in FILES {
        assert!(!stat(path), "{path}");
    }
    let info = text(&place.kireji(&["image", "info", &image]).stdout);
    assert!(info.contains("prepared:   yes"), "{info}");

    // A run reads and writes through both overlays.
    std::fs::write(place.path("note"), "hello").unwrap();
    let put = format!("{}:/boot/home/note", place.path("note"));
    let get = format!("/boot/home/note:{}", place.path("back"));
    let ran = run(&place, &["--put", &put, "--get", &get]);
    let err = text(&ran.stderr);
    assert!(ran.status.success() && err.contains(NOTE), "{err}");
    assert_eq!(std::fs::read_to_string(place.path("back")).unwrap(), "hello");
    for more in [&["--no-prepared"][..], &["--state", "mine"], &["--persist"]] {
        let err = text(&run(&place, more).stderr);
        assert!(!err.contains(NOTE), "{more:?}: {err}");
    }

    let again = prepare(&place, &good(), &[]);
    assert!(again.status.success() && text(&again.stderr).contains("was prepared before"));
    let anew = prepare(&place, &good(), &["--force", "--quiet"]);
    assert!(anew.status.success() && text(&anew.stderr).contains("prepared; runs"));
    assert_eq!(left(&place), names);
    // What it was made of is no more.
    let made = place.kireji(&["image", "mkdir", &image, "other"]);
    assert!(made.status.success());
    assert!(!text(&run(&place, &[]).stderr).contains(NOTE));
    assert!(!text(&place.kireji(&["image", "info", &image]).stdout).contains("prepared"));
    let anew = prepare(&place, &good(), &[]);
    assert!(anew.status.success(), "{}", text(&anew.stderr));
    assert!(text(&run(&place, &[]).stderr).contains(NOTE));

    let removed = prepare(&place, &good(), &["--remove"]);
    assert!(text(&removed.stderr).contains("what was prepared is removed"));
    assert_eq!(left(&place), <[String; 0]>::default());
    assert!(!text(&run(&place, &[]).stderr).contains(NOTE));
    let removed = prepare(&place, &good(), &["--remove"]);
    assert!(removed.status.success() && text(&removed.stderr).contains("nothing was prepared"));
}

#[test]
fn a_first_boot_that_comes_to_nothing_leaves_nothing() {
    let place = haiku();
    let boot = |more: &str| Script::default().say(&format!("{BOOT}{more}"));
    for (name, script, more, code, says) in [
        ("loader", Script::default().say(&BOOT[..70]), &["--timeout", "1"][..], 24, "`kernel`"),
        ("silent", Script::default(), &["--timeout", "1"], 22, "never said anything"),
        ("time", boot("kireji-prepare: waits for the packages\r\n"), &["--timeout", "1"], 28, {
            "time was up"
        }),
        ("asks", boot(&format!("{ASKS}\r\n")), &[], 20, "what means failure"),
        ("panic", boot(PANIC).debugger(""), &[], 21, "did not expect that"),
        ("early end", boot("").shut_down(), &[], 28, "before all was shown"),
        ("QEMU", boot("").crash(3, "assertion failed"), &[], 29, "ended by itself"),
        ("deaf", boot(&format!("{DONE}\r\n")).deaf(), &[], 22, "did not shut down"),
    ] {
        let ended = prepare(&place, &script, more);
        let err = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{name}: {err}");
        assert!(err.contains(says) && err.contains("The image is not prepared."), "{name}: {err}");
        assert_eq!(left(&place), <[String; 0]>::default(), "{name}");
    }
    let empty = Place::new();
    let ended = prepare(&empty, &good(), &[]);
    assert_eq!(ended.status.code(), Some(15), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains("the image has no Haiku on it"));
    assert_eq!(left(&empty), <[String; 0]>::default());
}

#[test]
fn what_is_interrupted_or_killed_is_never_taken() {
    use rustix::process::{Pid, Signal, kill_process};
    let place = haiku();
    let start = || {
        let script = Script::default().say(BOOT);
        let log = std::fs::File::create(place.path("log")).unwrap();
        let child = prepares(&place, &script, &[]).stdout(Stdio::null()).stderr(log).spawn();
        let started = Instant::now();
        while !std::fs::read_to_string(place.path("log")).unwrap().contains("QEMU starts") {
            assert!(started.elapsed() < Duration::from_secs(300), "it does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        child.unwrap()
    };
    let mut child = start();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(left(&place), <[String; 0]>::default());

    let mut child = start();
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    assert!(left(&place).iter().any(|name| name.contains("part")), "{:?}", left(&place));
    assert!(!text(&run(&place, &[]).stderr).contains(NOTE));
    let prepared = prepare(&place, &good(), &[]);
    assert!(prepared.status.success(), "{}", text(&prepared.stderr));
    assert_eq!(left(&place).len(), 2, "{:?}", left(&place));
}
