//! Guests that say too much, and people who do not listen.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{BOOT, CLAIM, LOADED, Place, Script, driver, fake, said, text};

/// Bytes that a guest floods the line with.
const FLOOD: u64 = 20 << 20;
/// Memory in KiB that they may take: 16 MiB may wait to be shown (`guest::serial`).
const WAITING: u64 = 18 << 10;

/// A run of a fake guest with the driver.
fn command(place: &Place, script: &Script, more: &[&str]) -> Command {
    let kireji = env!("CARGO_BIN_EXE_kireji");
    let mut command = script.command(kireji.as_ref(), fake(), place.0.path());
    command.arg(place.path("haiku.image")).args(["--emulate", "edu", "--driver"]);
    command.arg(driver("legacy.so")).args(more);
    command
}

/// Waits for the end of a process; returns the most memory that it had, in KiB.
fn wait(mut child: Child) -> (ExitStatus, u64) {
    let mut most = 0;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(found.unwrap_or_default());
        if let Some(status) = child.try_wait().unwrap() {
            return (status, most);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn serial_log(place: &Place) -> PathBuf {
    let runs = std::fs::read_dir(place.path("state/kireji/runs")).unwrap();
    let newest = runs.map(|entry| entry.unwrap().path()).max().unwrap();
    newest.join("serial.log")
}

#[test]
fn a_flood_of_garbage_is_kept_and_takes_no_memory() {
    let place = Place::new();
    let run = |bytes: u64| {
        // What was shown before and after it counts.
        let script = said(CLAIM).flood(bytes).say(&format!("\r\n{LOADED}"));
        let mut run = command(&place, &script, &[]);
        let (status, most) = wait(run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        assert_eq!(status.code(), Some(0));
        let expected = (BOOT.len() + CLAIM.len() + LOADED.len()) as u64 + 2 + bytes;
        assert_eq!(serial_log(&place).metadata().unwrap().len(), expected);
        most
    };
    let (calm, flooded) = (run(0), run(FLOOD));
    assert!(flooded < calm + WAITING, "{flooded} KiB, and {calm} KiB without it");
}

#[test]
fn a_log_without_end_is_read_in_little_memory() {
    let place = Place::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kireji"))
        .args(["backtrace", "--all", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let lines = "a line of a log that says nothing of importance\r\n".repeat(1000);
        let endless = "x".repeat(1 << 20);
        for _ in 0..400 {
            input.write_all(lines.as_bytes()).unwrap();
        }
        // A line that does not end, and panics that come again and again.
        for _ in 0..16 {
            input.write_all(endless.as_bytes()).unwrap();
        }
        for number in 0..2000 {
            let boot = "\r\nWelcome to the Haiku boot loader!\r\n";
            let panic =
                format!("{boot}PANIC: number {number}\r\nWelcome to Kernel Debugging Land...\r\n");
            input.write_all(panic.as_bytes()).unwrap();
        }
    });
    let output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || std::io::read_to_string(output).unwrap());
    let (status, most) = wait(child);
    writer.join().unwrap();
    let told = reader.join().unwrap();
    assert_eq!(status.code(), Some(0), "{told}");
    assert_eq!(told.matches("panic: number").count(), 256, "{told}");
    // Of 36 MB; the program itself takes some.
    assert!(most < 30 << 10, "{most} KiB");
    drop(place);
}

#[test]
fn nobody_listening_is_no_reason_to_end_the_guest() {
    let place = Place::new();
    let script = said(&format!("{CLAIM}{}{LOADED}", "chatter\r\n".repeat(20_000)));
    let mut run = command(&place, &script, &[]);
    let mut child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    assert!(std::fs::read_to_string(serial_log(&place)).unwrap().ends_with(LOADED));
}

/// A terminal that is closed sends this signal.
#[test]
fn a_terminal_that_is_closed_ends_the_run_in_order() {
    let place = Place::new();
    let mut run = command(&place, &said(CLAIM), &["--json"]);
    let mut child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("boot-volume") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut out, &mut line).unwrap() > 0, "it has ended");
    }
    drop(out);
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{}", text(&ended.stderr));
    let end = std::fs::read_to_string(serial_log(&place).with_file_name("end.json")).unwrap();
    assert!(end.contains("\"exit_code\": 130"), "{end}");
}
