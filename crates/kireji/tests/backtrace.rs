//! `kireji backtrace`, as a person uses it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use testkit::binutils;
use testkit::trace::{self, Cause};

/// A genuine log, into `directory`.
fn log(directory: &Path, name: &str) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../haiku/fixtures/serial");
    let packed = std::fs::read(fixtures.join(format!("{name}.log.zst"))).unwrap();
    let bytes = zstd::decode_all(&*packed).unwrap();
    std::fs::write(directory.join(format!("{name}.log")), bytes).unwrap();
}

fn kireji(directory: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kireji"))
        .arg("backtrace")
        .args(args)
        .current_dir(directory)
        .env_clear()
        .env("XDG_STATE_HOME", directory.join("state"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A log that nobody reads is no failure.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_panic_is_told() {
    let directory = tempfile::tempdir().unwrap();
    log(directory.path(), "edu-driver-crash-kdl-session");
    let output = kireji(directory.path(), &["edu-driver-crash-kdl-session.log"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    insta::assert_snapshot!(text(&output.stdout));
    assert_eq!(text(&output.stderr), "");
}

/// Recorders and letters put something before each line; it changes nothing.
#[test]
fn what_stands_before_each_line_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    log(directory.path(), "kdl-null");
    let plain = std::fs::read(directory.path().join("kdl-null.log")).unwrap();
    let told = |log: &[u8]| text(&kireji(directory.path(), &["-"], log).stdout).to_owned();
    let expected = told(&plain);
    assert!(expected.contains("panic: "), "{expected}");
    let with = |prefix: &str| -> Vec<u8> {
        let lines = plain.split(|byte| *byte == b'\n');
        lines.flat_map(|line| [prefix.as_bytes(), line, b"\n"].concat()).collect()
    };
    for prefix in ["[   12.345678] ", "> ", "    ", "Nov 23 05:10:00 ", "[2026-11-23 05:10:00] "] {
        assert_eq!(told(&with(prefix)), expected, "{prefix}");
    }
    // However it is packed and written.
    let text16 = std::iter::once(0xfeff).chain(text(&plain).encode_utf16());
    let text16: Vec<_> = text16.flat_map(u16::to_le_bytes).collect();
    let packed = zstd::encode_all(&*with("> "), 1).unwrap();
    for log in [&packed, &text16] {
        assert_eq!(told(log), expected);
    }
    // What is no log is an error, and one that was cut is read as far as it goes.
    let output = kireji(directory.path(), &["-"], b"\x1f\x8b\x08\0");
    assert_eq!(output.status.code(), Some(11), "{}", text(&output.stderr));
    let twice = zstd::encode_all(&*[&plain[..], &plain].concat(), 1).unwrap();
    let output = kireji(directory.path(), &["-"], &[&packed[..], &twice[..40]].concat());
    assert_eq!(text(&output.stdout), expected);
    assert!(text(&output.stderr).contains("is read no further"), "{}", text(&output.stderr));
}

#[test]
fn the_document_has_what_it_promises() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["edu-driver-crash-kdl-session", "kdl-null", "edu-driver-ok"] {
        log(directory.path(), name);
    }
    let read = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
    let answer = |args: &[&str], input: &[u8]| -> (i32, Value) {
        let output = kireji(directory.path(), args, input);
        let code = output.status.code().unwrap();
        (code, serde_json::from_slice(&output.stdout).unwrap())
    };
    let (code, document) = answer(&["--json", "-"], &read("edu-driver-crash-kdl-session.log"));
    assert_eq!((code, &document["schema"]), (0, &Value::from(1)));
    let panic = &document["panic"];
    let guilty = &panic["guilty"];
    assert_eq!(guilty["address"], "0xffffffff8209e172");
    assert_eq!(guilty["nearest_symbol"], "find_device");
    assert_eq!(guilty["symbol"], Value::Null);
    // By the area of its text, which the debugger was asked for.
    assert_eq!(guilty["offset"], 0x1172);
    assert_eq!(panic["frames"].as_array().unwrap().len(), 14);
    assert_eq!(&panic["frames"][6], guilty);
    assert_eq!(panic["registers"]["rip"], "0xffffffff8209e172");
    assert_eq!((&panic["cpu"], &panic["thread"]["id"]), (&Value::from(0), &Value::from(27)));
    assert_eq!(
        (&panic["corrupted"], &panic["revision"]),
        (&Value::from(false), &"hrev59000".into())
    );

    let (code, document) = answer(&["edu-driver-ok.log", "--json"], b"");
    assert_eq!((code, &document["panic"]), (1, &Value::Null));
    let (code, document) = answer(&["edu-driver-ok.log", "--json", "--all"], b"");
    assert_eq!((code, &document["panics"]), (1, &Value::Array(Vec::new())));

    // Two boots with a panic each, and the second machine died while it told of its.
    let second = read("edu-driver-crash-kdl-session.log");
    let begins = second.windows(7).position(|words| words == b"PANIC: ").unwrap();
    let both = [&read("kdl-null.log")[..], &second[..begins + 1500]].concat();
    let (code, document) = answer(&["--json", "--all", "-"], &both);
    assert_eq!(code, 0);
    let panics = document["panics"].as_array().unwrap();
    assert_eq!(panics.len(), 2, "{}", panics.len());
    assert_eq!((&panics[0]["corrupted"], &panics[1]["corrupted"]), (&false.into(), &true.into()));
    assert_eq!(document["panic"], panics[0]);
    let output = kireji(directory.path(), &["-"], &both);
    assert!(text(&output.stderr).contains("1 more; `--all`"), "{}", text(&output.stderr));
}

#[test]
fn what_is_given_wrongly_has_its_own_word() {
    let directory = tempfile::tempdir().unwrap();
    log(directory.path(), "kdl-null");
    std::fs::write(directory.path().join("script"), "#!/bin/sh\n").unwrap();
    let legacy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../haiku/tests/data/legacy.so");
    for (args, code, words) in [
        (&["no-such-run"][..], 2, "kireji runs"),
        (&["./no-such-file.log"], 11, "no-such-file.log"),
        (&[], 11, "no run"),
        (&["kdl-null.log", "--driver", "script"], 2, "not an ELF file"),
        (&["kdl-null.log", "--driver", "missing"], 11, "missing"),
        (&["kdl-null.log", "--image", "script"], 15, ""),
        (&["kdl-null.log", "--driver", legacy.to_str().unwrap()], 0, "called `legacy.so`"),
        (&["-"], 1, "There is no panic in the log."),
    ] {
        let output = kireji(directory.path(), args, b"");
        let error = text(&output.stderr);
        assert!(error.contains(words), "{args:?}: {error}");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    }
    let noise: Vec<u8> =
        (0..1_u32 << 20).map(|n| n.wrapping_mul(n ^ 0x9e37).to_le_bytes()[2]).collect();
    assert_eq!(kireji(directory.path(), &["-"], &noise).status.code(), Some(1));
}

#[test]
fn the_line_of_a_driver_is_shown_in_its_source() {
    let directory = tempfile::tempdir().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/edu");
    let out = format!("OUT={}", directory.path().display());
    let made = Command::new("make").arg("-C").arg(&examples).arg(out).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    // Where `edu_touch` writes.
    let code = binutils::code_of(&directory.path().join("edu_legacy"), "card.h", 113);
    let image = "/boot/home/config/non-packaged/add-ons/kernel/drivers/bin/edu_legacy";
    let log = trace::panic(Cause::PageFault, image, code[0].start, trace::END) + "kdebug> ";
    let args = ["-", "--driver", "edu_legacy"];
    let output = kireji(directory.path(), &args, log.as_bytes());
    let told = text(&output.stdout);
    assert_eq!(text(&output.stderr), "");
    for part in [
        "0x10 in edu_legacy: device_write\n",
        "guilty: device_write+",
        "card.h:113, edu_touch\n",
        "  > 113 |     registers->unused[1] = 42;\n",
        "edu_panic_null (inlined)",
        "edu_legacy.c:",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    // gdb reads them where the trace has them, and what it is told is well-formed.
    let gdb = [&["--gdb"], &args[..]].concat();
    let told = kireji(directory.path(), &gdb, log.as_bytes());
    let line = text(&told.stdout);
    assert!(line.starts_with("gdb -ex 'add-symbol-file \""), "{line}");
    assert!(line.contains("edu_legacy\" -o 0xffffffff8209d000'"), "{line}");
    assert!(line.ends_with("-ex 'target remote localhost:1234'\n"), "{line}");
    // Stripped, it has less to say, and says so.
    let strip = Command::new("strip").arg("edu_legacy").current_dir(directory.path()).status();
    assert!(strip.unwrap().success());
    let output = kireji(directory.path(), &args, log.as_bytes());
    assert!(text(&output.stderr).contains("is stripped"), "{}", text(&output.stderr));
    assert!(!text(&output.stdout).contains("device_write"));
}
