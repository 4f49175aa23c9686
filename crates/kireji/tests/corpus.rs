//! Every command that only looks, on every synthetic host, as a matrix of golden files.

mod captures;
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::LazyLock;

use clap::Parser;
use common::{Ended, kireji, kireji_at};
use host::Sysroot;
use kireji::Exit;
use pci::refusal::Code;
use serde_json::Value;
use testkit::corpus::{ALL, Sample};
use testkit::fake_kernel::FakeKernel;

/// What one command said of one host, in words and as a document.
struct Said {
    sample: &'static Sample,
    args: Vec<&'static str>,
    words: Ended,
    /// None for a command that only draws.
    document: Option<Ended>,
}

/// All that is said of all hosts. Making a host takes longer than looking at it.
static ALL_SAID: LazyLock<Vec<Said>> = LazyLock::new(|| {
    let mut said = Vec::new();
    for sample in ALL {
        let kernel = FakeKernel::new(sample.tree());
        for args in commands(sample) {
            let words = kireji(&kernel, &args);
            let draws = args.contains(&"--tree");
            let document = (!draws).then(|| kireji(&kernel, &[&args[..], &["--json"]].concat()));
            said.push(Said { sample, args, words, document });
        }
    }
    said
});

fn commands(sample: &Sample) -> Vec<Vec<&'static str>> {
    let mut commands = vec![vec!["list"], vec!["list", "--tree"], vec!["doctor"], vec!["status"]];
    for card in sample.cards {
        commands.push(vec!["show", card]);
        commands.push(vec!["doctor", card]);
    }
    commands
}

#[test]
fn every_host_is_told_the_same_every_time() {
    for of_host in ALL_SAID.chunk_by(|one, next| one.sample.name == next.sample.name) {
        let sample = of_host[0].sample;
        let mut text = format!("{}\n", sample.source);
        for Said { args, words, .. } in of_host {
            let line = args.join(" ");
            write!(text, "\n$ kireji {line} → {:?}\n{}{}", words.exit, words.out, words.err)
                .expect("a string");
        }
        insta::assert_snapshot!(sample.name, text);
    }
}

#[test]
fn the_documents_say_what_the_words_say() {
    for Said { sample, args, words, document } in ALL_SAID.iter() {
        let Some(document) = document else { continue };
        assert_eq!(document.exit, words.exit, "{} {args:?}", sample.name);
        if words.err.contains("error:") {
            continue;
        }
        let value: Value = serde_json::from_str(&document.out)
            .unwrap_or_else(|error| panic!("{} {args:?}: {error}", sample.name));
        assert_eq!(value["schema"], 1);
    }
}

#[test]
fn no_control_character_of_a_host_reaches_the_terminal() {
    for Said { sample, args, words, .. } in ALL_SAID.iter() {
        let odd = |text: &str| text.chars().any(|char| char.is_control() && char != '\n');
        assert!(!odd(&words.out) && !odd(&words.err), "{} {args:?}\n{:?}", sample.name, words.out);
    }
}

/// What refuses has near misses of its own beside its code, too.
#[test]
fn every_finding_passes_fails_and_is_unmeasured_somewhere() {
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Said { document, .. } in ALL_SAID.iter().filter(|said| said.args[0] == "doctor") {
        let text = document.as_ref().map_or("", |document| &document.out);
        let Ok(document) = serde_json::from_str::<Value>(text) else { continue };
        for finding in document["findings"].as_array().into_iter().flatten() {
            let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            seen.entry(text("code")).or_default().insert(text("status"));
        }
    }
    let mut missing = Vec::new();
    for code in Code::ALL {
        // What refuses is unmeasured by one code for all; what only a change or a reservation finds,
        // or a session from elsewhere, is no finding of a host at rest.
        let wanted: &[&str] = match code {
            Code::Unmeasured => &["unmeasured"],
            Code::Bridge => &["fail"],
            Code::InUse | Code::VfioInUse | Code::NicSession | Code::Headless => continue,
            code if code.is_refusal() => &["fail", "pass"],
            _ => &["fail", "pass", "unmeasured"],
        };
        let states = seen.get(code.as_str()).cloned().unwrap_or_default();
        let lacks = wanted.iter().filter(|state| !states.contains(**state));
        missing.extend(lacks.map(|state| format!("{code} {state}")));
    }
    assert!(missing.is_empty(), "no host has {missing:#?}");
}

/// But for the disks, which are not read for a snapshot, and the masks that stand for secrets.
#[test]
fn a_snapshot_of_a_host_tells_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut compared = 0;
    // Bytes that are neither text nor of a known kind are not captured.
    for sample in ALL.iter().filter(|sample| sample.name != "garbage") {
        let kernel = FakeKernel::new(sample.tree());
        let file = dir.path().join(sample.name);
        let name = file.to_str().expect("UTF-8");
        let ended = kireji(&kernel, &["snapshot", name]);
        assert_eq!(ended.exit, Exit::Done, "{}: {}", sample.name, ended.err);
        let packed = std::fs::read(&file).expect("the snapshot");
        let captured = Sysroot::unpack(&packed[..]).expect("a captured host");
        for said in ALL_SAID.iter().filter(|said| said.sample.name == sample.name) {
            if said.words.out.contains("disk ") || said.words.out.contains("SERIAL") {
                continue;
            }
            let again = kireji_at(&captured, &kernel, &said.args, true);
            assert_eq!(again.out, said.words.out, "{} {:?}", sample.name, said.args);
            compared += 1;
        }
    }
    assert!(compared > 4 * ALL.len(), "only {compared} were compared");
}

#[test]
fn a_file_that_is_no_snapshot_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "no archive").expect("the file");
    let args = ["kireji", "--sysroot", file.to_str().expect("UTF-8"), "list"];
    let cli = kireji::cli::Cli::try_parse_from(args).expect("a valid command line");
    let error = cli.sysroot().expect_err("no archive");
    assert_eq!(error.exit(), Exit::Usage);
}

/// The lab holds these captures and the rigs together.
#[test]
fn captured_rigs_are_told_the_same_every_time() {
    for (name, card) in captures::CAPTURED {
        let text = captures::said(&captures::place(name), card);
        insta::assert_snapshot!(format!("captured-{name}"), text);
    }
}
