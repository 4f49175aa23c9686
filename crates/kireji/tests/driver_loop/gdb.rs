//! QEMU's stub for gdb.

use std::path::Path;
use std::process::Command;

use super::{BOOT, CLAIM, LOADED, PANIC, Place, Script, driver, fake, said, text};

/// A port of the loopback interface that nobody listens at.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// With gdb a person looks, as long as they want.
#[test]
fn a_guest_that_panicked_waits_for_gdb() {
    let place = Place::new();
    let script = said(&format!("{CLAIM}{LOADED}{PANIC}")).debugger("");
    let port = free_port();
    let gdb = format!("--gdb={port}");
    let ended = place.run_driver(&script, &[&gdb, "--timeout", "6", "--json"]);
    let err = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(21), "{err}");
    assert!(err.contains(&format!("gdb -ex 'target remote 127.0.0.1:{port}'")), "{err}");
    let out = text(&ended.stdout);
    let last = out.lines().rfind(|line| line.contains("\"event\":\"stopping\"")).unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert!(last["ms"].as_u64() >= Some(6000), "{out}");
    let run: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    let log = Path::new(run["directory"].as_str().unwrap()).join("serial.log");
    assert!(!std::fs::read_to_string(log).unwrap().contains("kdebug> bt"));
}

/// What is printed for a person to start gdb with can be pasted, whatever its path is called.
#[test]
fn gdb_is_started_with_the_kernel_of_the_image() {
    let place = Place::new();
    let kernel = std::fs::read(driver("kernel.so")).unwrap();
    place.install_package("haiku", "kernel_x86_64", &kernel);
    let (state, port) = (place.path("it's \"my\" state"), free_port());
    let ended = Script::default()
        .say(BOOT)
        .shut_down()
        .command(Path::new(env!("CARGO_BIN_EXE_kireji")), fake(), place.0.path())
        .env("XDG_STATE_HOME", &state)
        .args([&place.path("haiku.image"), "--emulate", "edu", &format!("--gdb={port}")])
        .output()
        .unwrap();
    let err = text(&ended.stderr);
    let line =
        err.lines().find_map(|line| line.strip_prefix("gdb ")).unwrap_or_else(|| panic!("{err}"));
    let words =
        Command::new("sh").args(["-c", &format!("printf '%s\\n' {line}")]).output().unwrap();
    let runs = Path::new(&state).join("kireji/runs");
    let run = std::fs::read_dir(runs).unwrap().next().unwrap().unwrap().path();
    let file = run.join("kernel_x86_64");
    assert_eq!(std::fs::read(&file).unwrap(), kernel);
    let file = file.display().to_string().replace('"', "\\\"");
    let expected = format!("-ex\nsymbol-file \"{file}\"\n-ex\ntarget remote 127.0.0.1:{port}\n");
    assert_eq!(text(&words.stdout), expected);
}
