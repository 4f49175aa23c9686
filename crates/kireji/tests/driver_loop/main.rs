//! The driver loop: every verdict, with a fake guest that speaks like Haiku's serial line, and those
//! that matter most with a real QEMU.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod gdb;
mod hostile;
mod packaged;
#[path = "../place/mod.rs"]
mod place;
mod project;
mod real;
mod sudo;
mod tree;
mod watch;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use haiku::hpkg::write;
use place::{Place, fake, text};
use testkit::fake_guest::Script;
use testkit::package;

const BOOT: &str = "Welcome to the Haiku boot loader!\r\nWelcome to kernel debugger output!\r\n\
    PCI: [dom 0, bus  0] bus   0, device  2, function  0: vendor 1234, device 11e8, revision 10\r\n\
    PCI:   base reg 0: host c1000000, pci c1000000, size 00100000, flags 00\r\n\
    Mounted boot partition: /dev/disk/scsi/0/5/0/1\r\n";
const CLAIM: &str = "legacy: found at 0:2.0, registers at 0xc1000000\r\n";
const LOADED: &str = "loaded driver \
    /boot/home/config/non-packaged/add-ons/kernel/drivers/dev/misc/legacy\r\n";
const BIN: &str = "/boot/home/config/non-packaged/add-ons/kernel/drivers/bin/legacy";
const PACKAGED: &str = "loaded driver /boot/system/add-ons/kernel/drivers/dev/misc/";
const PANIC: &str = "PANIC: vm_page_fault: unhandled page fault in kernel space at 0x10, ip \
    0xffffffff8209e172\r\n\r\nWelcome to Kernel Debugging Land...\r\n\
    Thread 27 \"launch_daemon\" running on CPU 0\r\n";

fn genuine(name: &str) -> String {
    let path = format!("{}/../haiku/fixtures/serial/{name}.log.zst", env!("CARGO_MANIFEST_DIR"));
    let bytes = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn driver(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../haiku/tests/data").join(name)
}

impl Place {
    /// Puts a package with one file into the volume.
    fn install_package(&self, name: &str, path: &str, bytes: &[u8]) {
        let bytes = write(&package::about(name), &[package::file(path, bytes)], 0).unwrap();
        let file = format!("{name}-1.0-1-x86_64.hpkg");
        std::fs::write(self.path(&file), bytes).unwrap();
        let (image, to) = (self.path("haiku.image"), format!("system/packages/{file}"));
        for args in [
            &["image", "mkdir", "-p", &image, "system/packages"][..],
            &["image", "put", &image, &self.path(&file), &to],
        ] {
            let done = self.kireji(args);
            assert!(done.status.success(), "{}", text(&done.stderr));
        }
    }

    /// Runs a fake guest with the driver and an `edu` in the card's place.
    fn run(&self, script: &Script, more: &[&str]) -> Output {
        let mut command =
            script.command(Path::new(env!("CARGO_BIN_EXE_kireji")), fake(), self.0.path());
        command.arg(self.path("haiku.image")).args(["--emulate", "edu"]).args(more);
        command.env_remove("GITHUB_ACTIONS").output().unwrap()
    }

    fn run_driver(&self, script: &Script, more: &[&str]) -> Output {
        let driver = driver("legacy.so");
        self.run(script, &[&["--driver", driver.to_str().unwrap()], more].concat())
    }
}

fn said(log: &str) -> Script {
    Script::default().say(&format!("{BOOT}{log}"))
}

#[test]
fn every_verdict_has_its_exit_code_and_the_line_that_shows_it() {
    let place = Place::new();
    let crash = "debug_server: Thread 84 entered the debugger: Segment violation\r\n\
        stack trace, current PC 0x1b2c  _ZN7BWindow4ShowEv + 0x1a:\r\n\
        legacy: in between\r\n  (0x7f00)  0x1c00  main + 0x20\r\n";
    let all = format!("{CLAIM}{LOADED}");
    for (name, script, more, code, says) in [
        ("passed", said(&all), &[][..], 0, "legacy claimed the card at 00:02.0 of the guest"),
        ("passed and went", said(&all).await_places().shut_down(), &[], 0, "with SHA-256 "),
        (
            "no card named",
            said(LOADED).await_places().shut_down(),
            &[],
            28,
            "no line of legacy names the card",
        ),
        ("only powered off", said(&all).shut_down(), &["--until", "never"], 28, {
            "no line matches `never`"
        }),
        ("until", said(&format!("{all}all well\r\n")), &["--until", "all well"], 0, "all well"),
        ("failed", said(&format!("{all}FAIL: 3\r\n")), &["--fail", "^FAIL"], 20, "FAIL: 3"),
        ("panic", said(&format!("{all}{PANIC}")).debugger(""), &[], 21, "page fault in kernel"),
        ("rejected", said(&format!("Could not load kernel add-on \"{BIN}\": Bad\r\n")), &[], 25, {
            "the guest's kernel rejected legacy"
        }),
        ("symbol", said(&format!("\"{BIN}\": could not resolve symbol 'frob'\r\n")), &[], 25, {
            "lacks a symbol"
        }),
        ("superseded", said(&format!("{PACKAGED}legacy\r\n")).shut_down(), &[], 25, {
            "another driver of its name"
        }),
        ("never opened", said("").shut_down(), &[], 25, "nothing opened its directory"),
        ("opened", said(&format!("{PACKAGED}mem\r\n")).shut_down(), &[], 25, {
            "did not take the card"
        }),
        (
            "denied",
            said(&format!("legacy: 0:2.0 is not mine, skipped\r\n{LOADED}"))
                .await_places()
                .shut_down(),
            &[],
            28,
            "legacy denies that it took the card",
        ),
        ("namesake", said(&format!("{LOADED}{PACKAGED}legacy\r\n{CLAIM}")), &[], 28, {
            "another driver called legacy is there as well"
        }),
        (
            "another",
            said(&format!("{LOADED}other: found at 0:2.0\r\n")).await_places().shut_down(),
            &[],
            25,
            "another driver took the card",
        ),
        (
            "time for nothing",
            said(""),
            &["--timeout", "3"],
            28,
            "no line says that legacy was loaded",
        ),
        ("program", said(&format!("{all}{crash}")), &[], 26, "debug_server"),
        ("stack", said(&format!("{all}{crash}")), &[], 26, {
            "because 0x1b2c BWindow::Show()+0x1a\n  because 0x1c00 main+0x20\n"
        }),
        ("reset", said(&all).reset(), &[], 23, "reset the machine"),
        ("hang", said(LOADED), &["--idle-timeout", "1"], 22, {
            "did not answer to a non-maskable interrupt"
        }),
        ("QEMU", said("").crash(3, "assertion failed"), &[], 29, "ended by itself"),
        (
            "no volume",
            Script::default().say(&genuine("k_noboot")).debugger(""),
            &[],
            24,
            "no volume to boot",
        ),
        ("time", Script::default().say(&BOOT[..70]), &["--timeout", "1"], 24, "`kernel`"),
    ] {
        let started = std::time::Instant::now();
        let ended = place.run_driver(&script, more);
        let err = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{name}: {err}");
        assert!(err.contains(says), "{name}: {err}");
        assert!(err.contains("stages: check "), "{name}: {err}");
        assert!(err.contains(" goal "), "{name}: {err}");
        // A busy machine is slow; that nothing is waited for in vain is what counts.
        assert!(started.elapsed() < Duration::from_secs(60), "{name}");
    }
}

#[test]
fn a_line_that_means_failure_is_waited_for_to_the_end() {
    let place = Place::new();
    let later = Duration::from_secs(3);
    for (script, code, says) in [
        (said("").wait(later).say("FAIL: 3\r\n"), 20, "what means failure"),
        (said("").wait(later).shut_down(), 0, "no proof that anything works"),
    ] {
        let ended = place.run(&script, &["--fail", "^FAIL"]);
        let err = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{err}");
        assert!(err.contains(says) && !err.contains("assed"), "{err}");
    }
}

/// A hang, and where it is: the guest answers to the interrupt as a genuine one did.
#[test]
fn a_guest_that_hangs_is_asked_where_it_is() {
    let place = Place::new();
    let nmi = "PANIC: Fatal exception \"NMI Interrupt\" occurred! Error code: 0x0\r\n\
        Welcome to Kernel Debugging Land...\r\nThread 352 \"legacy worker\" running on CPU 1\r\n";
    let script = said(LOADED).await_interrupt().say(nmi).debugger("");
    let ended = place.run_driver(&script, &["--idle-timeout", "1"]);
    let err = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(22), "{err}");
    assert!(err.contains("found the processor in Thread 352 \"legacy worker\""), "{err}");
    assert!(err.contains("its last words are line 6 of the log: loaded driver "), "{err}");
    let runs = std::fs::read_dir(place.path("state/kireji/runs")).unwrap();
    let run = runs.map(|entry| entry.unwrap().path()).max().unwrap();
    let serial = std::fs::read_to_string(run.join("serial.log")).unwrap();
    assert!(serial.contains("kdebug> paging off"), "the debugger was not asked: {serial}");
}

#[test]
fn what_matters_stands_out_of_the_log() {
    let place = Place::new();
    let (start, scan) = BOOT.split_once("PCI:").unwrap();
    let other = scan.replace("device  2", "device  3");
    let log = format!("PCI:{other}PCI:{scan}{LOADED}{CLAIM}other: hello\r\n");
    let script = Script::default().say(start).await_places().say(&log);
    let driver = driver("legacy.so");
    let mut command =
        script.command(Path::new(env!("CARGO_BIN_EXE_kireji")), fake(), place.0.path());
    command.arg(place.path("haiku.image")).args(["--emulate", "edu", "--driver"]).arg(driver);
    let ended = command.env("CLICOLOR_FORCE", "1").output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    insta::assert_snapshot!(text(&ended.stdout).replace('\x1b', "ESC").replace('\r', ""));
}

#[test]
fn a_driver_that_no_kernel_loads_starts_no_guest() {
    let place = Place::new();
    let bad = driver("default.so");
    let ended = place.run(&Script::default(), &["--driver", bad.to_str().unwrap()]);
    let err = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(25), "{err}");
    assert!(err.contains("no DT_HASH"), "{err}");
    assert!(!Path::new(&place.path("state")).join("kireji/runs").exists(), "{err}");
    for (more, says) in [
        (&["--driver", "/nonexistent/driver"][..], "/nonexistent/driver"),
        (&["--until", "a("], "is no regular expression"),
        (&["--put", "/etc/hostname"], "takes two paths"),
        (&["--put", "/nonexistent:x"], "/nonexistent"),
        (&["--put", "/etc/hostname:x", "--persist"], "leave out `--persist`"),
        (&["--build", "make 'x"], "a quotation that does not end"),
    ] {
        let ended = place.run(&Script::default(), more);
        let err = text(&ended.stderr);
        assert!(!ended.status.success() && err.contains(says), "{more:?}: {err}");
    }
    let ended = place.run(&Script::default(), &["--build", "sh -c 'echo no rule; exit 2'"]);
    let err = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{err}");
    assert!(err.contains("\nno rule\nerror: the build failed"), "{err}");
    // What a panic of a stripped driver will not show is said before there is one.
    let stripped = driver("graphics.so");
    let ended = place.run(&said("").shut_down(), &["--driver", stripped.to_str().unwrap()]);
    let err = text(&ended.stderr);
    assert!(err.contains("note: `graphics.so` is stripped: functions that"), "{err}");
    let quiet = ["--build", "sh -c 'echo no rule; exit 2'", "--quiet"];
    let err = text(&place.run(&Script::default(), &quiet).stderr);
    assert!(err.contains("the build failed") && err.contains("because no rule"), "{err}");
}

/// Files go in and come out through the overlay; the image stays as it is.
#[test]
fn files_go_into_the_overlay_and_come_out_at_the_end() {
    let place = Place::new();
    let image = place.path("haiku.image");
    let before = std::fs::read(&image).unwrap();
    std::fs::write(place.path("note"), "hello").unwrap();
    let put = format!("{}:/boot/home/a/note", place.path("note"));
    let get = format!("/boot/home/a/note:{}", place.path("back"));
    let log = format!("{}:system/var/log/syslog", place.path("note"));
    // A directory that is there is one to put into.
    std::fs::write(place.path("other"), "more").unwrap();
    let into = format!("{}:/boot/home/a", place.path("other"));
    let get_other = format!("/boot/home/a/other:{}", place.path("other back"));
    std::fs::write(place.path("precious"), "mine").unwrap();
    let no_file = format!("/boot/home:{}", place.path("precious"));
    let script = said(&format!("{CLAIM}{LOADED}{PANIC}")).debugger("");
    let more = ["--put", &put, "--put", &log, "--get", &get, "--get", "/boot/missing"];
    let more = [&more[..], &["--get", &no_file, "--json"]].concat();
    let more = [&more[..], &["--put", &into, "--get", &get_other]].concat();
    let ended = place.run_driver(&script, &more);
    let err = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(21), "{err}");
    assert_eq!(std::fs::read_to_string(place.path("other back")).unwrap(), "more", "{err}");
    assert!(std::fs::read(&image).unwrap() == before, "the image was written");
    assert_eq!(std::fs::read_to_string(place.path("back")).unwrap(), "hello");
    assert!(err.contains("WARNING: cannot copy /boot/missing"), "{err}");
    assert_eq!(std::fs::read_to_string(place.path("precious")).unwrap(), "mine");
    // The system log comes without a driver too.
    let other = place.run(&said("").shut_down(), &["--put", &log]);
    assert!(text(&other.stderr).contains("/boot/system/var/log/syslog -> "));
    let events: Vec<serde_json::Value> =
        text(&ended.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let directory = Path::new(events[0]["directory"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(directory.join("syslog")).unwrap(), "hello");
    let of = |name: &str| events.iter().find(|event| event["event"] == name).unwrap();
    assert_eq!(of("installed")["changes"][0]["change"], "add-on");
    let loaded = events.iter().find(|event| event["sign"] == "driver-loaded").unwrap();
    assert!(loaded["path"].as_str().unwrap().ends_with("dev/misc/legacy"));
    assert_eq!(of("times")["stages"][0][0], "check");
    assert_eq!(of("verdict")["exit_code"], 21);
}

/// The verdict of a guest that is kept is told when it is known, with its panic.
#[test]
fn a_guest_that_is_kept_has_its_verdict() {
    let place = Place::new();
    let script = said(&format!("{CLAIM}{LOADED}")).leave_after_verdict();
    let panicked = said(&format!("{CLAIM}{LOADED}{PANIC}")).leave_after_verdict().debugger("");
    for (script, code, says) in [
        (script, 0, "Passed: legacy was loaded and has 00:02.0.\n"),
        (panicked, 21, "panic: vm_page_fault"),
    ] {
        // Only the guest itself ends the run.
        let ended = place.run_driver(&script, &["--keep"]);
        let err = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{err}");
        let (before, _) = err.split_once("The guest is kept; ").unwrap();
        assert!(before.contains(says) && !err.contains("stopping the guest"), "{err}");
        assert_eq!(err.matches("\npanic: ").count(), usize::from(code == 21), "{err}");
    }
}

/// A genuine crash of a driver, whose debugger answers as it did then.
#[test]
fn a_panic_is_asked_about_and_told_with_its_frames() {
    let place = Place::new();
    let log = genuine("edu-driver-crash-kdl-session");
    let (before, _) = log.split_once("kdebug> ").unwrap();
    let script = Script::default().say(before).debugger(&log);
    let driver_file = place.path("edu_test");
    std::fs::copy(driver("legacy.so"), &driver_file).unwrap();
    let ended = place.run(&script, &["--driver", &driver_file, "--json"]);
    let err = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(21), "{err}");
    let events: Vec<serde_json::Value> =
        text(&ended.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let panic = &events.iter().find(|event| event["event"] == "panic").unwrap()["panic"];
    assert_eq!(panic["corrupted"], false, "{panic}");
    assert!(panic["guilty"]["image"].as_str().unwrap().ends_with("edu_test"), "{panic}");
    assert_eq!(panic["thread"]["name"], "launch_daemon");
    let directory = Path::new(events[0]["directory"].as_str().unwrap());
    let serial = std::fs::read_to_string(directory.join("serial.log")).unwrap();
    for asked in ["kdebug> paging off", "kdebug> bt"] {
        assert!(serial.contains(asked), "{asked} was not asked");
    }
    // The same for a person, and in the same words as of the log.
    let ended = place.run(&script, &["--driver", &driver_file, "--quiet"]);
    let err = text(&ended.stderr);
    assert!(err.contains(panic["title"].as_str().unwrap()), "{err}");
    let told = place.kireji(&["backtrace", "--driver", &driver_file]);
    assert!(err.contains(text(&told.stdout).trim_end()), "{err}\n{}", text(&told.stdout));
}

#[test]
fn a_test_in_the_guest_comes_back_with_its_output() {
    let place = Place::new();
    // The marker is known only once the run has begun, so the fake guest asks the disk: it sends
    // what the script in the overlay would.
    for (code, exit) in [(0, 0), (7, 20)] {
        let script = said("").test_script(code, "line one\nline two\n");
        let ended = place.run(&script, &["--test", "make check", "--quiet"]);
        let (out, err) = (text(&ended.stdout), text(&ended.stderr));
        assert_eq!(ended.status.code(), Some(exit), "{err}");
        assert_eq!(out, "line one\nline two\n");
        assert!(err.contains(&format!("exit code {code}")), "{err}");
    }
    let ended = place.run(&said("").shut_down(), &["--test", "make check"]);
    assert_eq!(ended.status.code(), Some(28), "{}", text(&ended.stderr));
}

#[test]
fn a_verdict_is_told_to_machines() {
    let place = Place::new();
    let junit = place.path("junit.xml");
    let script = said(&format!("{CLAIM}{LOADED}FAIL: 3 of 4\r\n"));
    let more = ["--fail", "^FAIL", "--junit", &junit, "--github", "--quiet"];
    let ended = place.run_driver(&script, &more);
    let (out, err) = (text(&ended.stdout), text(&ended.stderr));
    let report = std::fs::read_to_string(&junit).unwrap();
    assert!(report.contains("<failure type=\"20\""), "{report}");
    assert!(err.contains("::error title=kireji run legacy::"), "{err}");
    // Quiet leaves the verdict, and of a failure the end of the log.
    assert_eq!(out, "");
    assert!(err.contains("\nMounted boot partition"), "{err}");
    let passed = said(&format!("{CLAIM}{LOADED}"));
    let ended = place.run_driver(&passed, &["--junit", &junit, "--quiet"]);
    assert!(!text(&ended.stderr).contains("Mounted boot partition"), "{}", text(&ended.stderr));
    assert!(std::fs::read_to_string(&junit).unwrap().contains("failures=\"0\""));
    // What a former run left there is no result of one that does not come so far.
    let bad = driver("default.so");
    for (more, code, says) in [
        (["--driver", bad.to_str().unwrap()], 25, "<failure type=\"25\""),
        (["--build", "false"], 1, "<error type=\"1\""),
    ] {
        let ended = place.run(&passed, &[&more[..], &["--junit", &junit, "--github"]].concat());
        let (err, report) = (text(&ended.stderr), std::fs::read_to_string(&junit).unwrap());
        assert_eq!(ended.status.code(), Some(code), "{err}");
        assert!(report.contains(says), "{report}");
        assert!(err.contains("::error title=kireji run"), "{err}");
    }
    let ended = place.run_driver(&passed, &["--junit", "/nonexistent/j.xml"]);
    let err = text(&ended.stderr);
    assert!(err.contains("cannot write /nonexistent/j.xml") && !err.contains("run "), "{err}");
}

/// A project's directory: the daily command is `kireji run`.
#[test]
fn a_project_file_holds_what_is_to_be_run() {
    let place = Place::new();
    std::fs::copy(driver("legacy.so"), place.path("legacy")).unwrap();
    let script = said(&format!("{CLAIM}{LOADED}"));
    let run = |more: &[&str]| {
        let mut command =
            script.command(Path::new(env!("CARGO_BIN_EXE_kireji")), fake(), place.0.path());
        command.args(more).current_dir(place.0.path()).output().unwrap()
    };
    let project = |text: &str| std::fs::write(place.path("kireji.toml"), text).unwrap();
    let target = "image = \"haiku.image\"\nemulate = [\"edu\"]\ndriver = [\"legacy\"]\n";
    project(&format!("[target.edu]\n{target}timeout = 30\n"));
    for more in [&[][..], &["edu"], &["edu", "--timeout", "40"]] {
        let ended = run(more);
        let err = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{more:?}: {err}");
        assert!(err.contains("Passed: legacy was loaded and has 00:02.0"), "{err}");
    }
    // It is found from below, and its paths begin where it is.
    std::fs::create_dir(place.path("sources")).unwrap();
    project(&format!("[target.edu]\n{target}build = \"touch built\"\n"));
    let below = || {
        let mut command =
            script.command(Path::new(env!("CARGO_BIN_EXE_kireji")), fake(), place.0.path());
        command.current_dir(place.path("sources")).output().unwrap()
    };
    let ended = below();
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    assert!(Path::new(&place.path("built")).exists(), "{}", text(&ended.stderr));
    if testkit::only_root::is_root() {
        // Only root can make a file somebody else's.
        let of = |uid| std::os::unix::fs::chown(place.path("kireji.toml"), Some(uid), None);
        of(54321).unwrap();
        let refused = below();
        assert_eq!(refused.status.code(), Some(10), "{}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains("belongs to another user"));
        of(0).unwrap();
    }
    // Arguments for QEMU are for those alone who have read them.
    project(&format!("[target.edu]\n{target}qemu-args = [\"-snapshot\"]\n"));
    let refused = run(&["edu"]);
    assert_eq!(refused.status.code(), Some(10), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("because -snapshot"));
    let trust = || {
        Command::new(env!("CARGO_BIN_EXE_kireji"))
            .arg("trust")
            .current_dir(place.0.path())
            .env("XDG_STATE_HOME", place.path("state"))
            .output()
            .unwrap()
    };
    let trusted = trust();
    assert!(text(&trusted.stdout).contains("edu: -snapshot"), "{}", text(&trusted.stderr));
    assert_eq!(run(&["edu"]).status.code(), Some(0));
    project(&format!("[target.edu]\n{target}qemu-args = [\"-snapshot\", \"-x\"]\n"));
    assert_eq!(run(&["edu"]).status.code(), Some(10));
    for (file, says) in [
        (format!("[target.edu]\n{target}device = \"29:00.0\"\n"), "unknown field `device`"),
        (format!("[target.edu]\n{target}card = [\"mine\"]\n"), "an alias is a line of [cards]"),
        (format!("[target.edu]\n{target}card = [\"ffff:fffe\"]\n"), "no card ffff:fffe"),
        (format!("[target.edu]\n{target}memory = -1\n"), "memory"),
        ("[target.a]\n[target.b]\n".to_owned(), "no default target"),
    ] {
        project(&file);
        let ended = run(&[]);
        let err = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{file}: {err}");
        assert!(err.contains(says), "{file}: {err}");
    }
}

#[test]
fn a_report_has_what_happened_and_no_hardware_address() {
    use std::io::Read;
    let place = Place::new();
    let script = said(&format!("{CLAIM}{LOADED}legacy: address 52:54:00:ab:cd:ef\r\n"));
    assert_eq!(place.run_driver(&script, &[]).status.code(), Some(0));
    let output = place.path("report.zip");
    let made = place.kireji(&["report", "--output", &output]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let mut zip = zip::ZipArchive::new(std::fs::File::open(&output).unwrap()).unwrap();
    for name in ["meta.json", "argv.json", "end.json", "events.jsonl", "qemu.log", "serial.log"] {
        assert!(zip.by_name(name).is_ok(), "{name} is missing");
    }
    let mut log = String::new();
    zip.by_name("serial.log").unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("legacy: found at 0:2.0"), "{log}");
    assert!(log.contains("legacy: address ") && !log.contains("52:54:00:ab:cd:ef"), "{log}");
    // What is there stays.
    let again = place.kireji(&["report", "--output", &output]);
    assert!(text(&again.stderr).contains("cannot write"), "{}", text(&again.stderr));
}
