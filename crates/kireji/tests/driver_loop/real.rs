//! The same verdicts with a real QEMU and a guest of a few instructions.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use testkit::image::{self, Then};

use super::{Place, text};

#[test]
fn a_machine_that_hangs_or_resets_is_told_apart() {
    let place = Place::new();
    for (then, text_of_guest, more, code) in [
        (Then::Halt, "hello\r\n", &["--until", "never", "--idle-timeout", "1"][..], 22),
        (Then::Reset, "hello\r\n", &["--until", "never"], 23),
        (Then::PowerOff, "all well\r\n", &["--until", "all well"], 0),
        (Then::PowerOff, "hello\r\n", &["--until", "all well"], 28),
        // Nobody waits for a line: the machine resets until that is a loop.
        (Then::Reset, "hello\r\n", &[], 23),
    ] {
        let path = place.path("small.image");
        image::write(path.as_ref(), text_of_guest, then);
        let base = ["run", &path, "--accel", "tcg", "--memory", "64"];
        let ended = place.kireji(&[&base[..], more].concat());
        assert_eq!(ended.status.code(), Some(code), "{then:?}: {}", text(&ended.stderr));
    }
}

/// The QEMU that a process started, once it is one.
fn qemu_of(parent: u32) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    children.ok()?.split_whitespace().find_map(|child| {
        // The name of the program that it runs, cut off (proc_pid_comm(5)).
        let name = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        let pid = name.starts_with("qemu-system").then(|| child.parse().ok())??;
        Pid::from_raw(pid)
    })
}

#[test]
fn a_qemu_that_crashes_is_not_the_guests_fault() {
    let place = Place::new();
    let path = place.path("small.image");
    image::write(path.as_ref(), "all is up\r\n", Then::Halt);
    for (signal, code, says) in [
        (Signal::SEGV, 29, "QEMU ended by itself with signal: 11 (SIGSEGV)"),
        (Signal::ABORT, 29, "QEMU ended by itself with signal: 6 (SIGABRT)"),
        // What the kernel does when memory is short.
        (Signal::KILL, 29, "QEMU ended by itself with signal: 9 (SIGKILL)"),
        // By this QEMU ends in an orderly way, and says so.
        (Signal::TERM, 29, "QEMU was ended from outside"),
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kireji"))
            .args(["run", &path, "--accel", "tcg", "--memory", "64", "--until", "never", "--json"])
            .env("XDG_STATE_HOME", place.path("state"))
            .env("XDG_CACHE_HOME", place.path("cache"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let runs = std::path::PathBuf::from(place.path("state/kireji/runs"));
        // Until the guest speaks: a QEMU that has not come so far did not start.
        let is_up = || {
            let entries = std::fs::read_dir(&runs).ok()?;
            let newest = entries.filter_map(Result::ok).map(|entry| entry.path()).max()?;
            let log = std::fs::read_to_string(newest.join("serial.log")).ok()?;
            log.contains("all is up").then_some(())
        };
        let qemu = loop {
            if let (Some(pid), Some(())) = (qemu_of(child.id()), is_up()) {
                break pid;
            }
            assert!(started.elapsed() < Duration::from_secs(120), "QEMU does not come up");
            assert!(child.try_wait().unwrap().is_none(), "the run has ended");
            std::thread::sleep(Duration::from_millis(20));
        };
        kill_process(qemu, signal).unwrap();
        let ended = child.wait_with_output().unwrap();
        let err = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{signal:?}: {err}");
        assert!(err.contains(says), "{signal:?}: {err}");
        std::fs::remove_dir_all(&runs).unwrap();
    }
}
