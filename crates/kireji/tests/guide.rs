//! Holds the guide to the program.

mod common;

use std::path::{Path, PathBuf};

use common::kireji;
use kireji::Exit;
use testkit::fake_kernel::FakeKernel;
use testkit::tree::Tree;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src")
}

#[test]
fn the_page_on_exit_codes_lists_them_all() {
    let page = std::fs::read_to_string(docs().join("exit-codes.md")).unwrap();
    for exit in Exit::ALL {
        let row = format!("| {} | {} |", *exit as u8, exit.meaning());
        assert!(page.lines().any(|line| line == row), "docs/src/exit-codes.md lacks: {row}");
    }
    let rows = page.lines().filter(|line| line.starts_with('|')).count();
    assert_eq!(rows, Exit::ALL.len() + 2, "a row of the page is no exit code");
}

#[test]
fn every_page_is_in_the_summary_and_there() {
    let summary = std::fs::read_to_string(docs().join("SUMMARY.md")).unwrap();
    let mut listed: Vec<_> = summary
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(str::to_owned)
        .collect();
    listed.sort_unstable();
    let mut there = pages("");
    there.extend(pages("codes/"));
    there.sort_unstable();
    assert_eq!(listed, there);
}

fn pages(directory: &str) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("an entry").file_name().into_string().expect("UTF-8")
    };
    std::fs::read_dir(docs().join(directory))
        .expect("a directory of pages")
        .map(name)
        .filter(|name| name.ends_with(".md") && name != "SUMMARY.md")
        .map(|name| format!("{directory}{name}"))
        .collect()
}

/// What `kireji explain` says, as a page. With `INSTA_UPDATE=always` the pages and their list are
/// written, as golden files are.
#[test]
fn every_code_has_its_page() {
    let kernel = FakeKernel::new(Tree::new());
    let explain = |args: &[&str]| {
        let ended = kireji(&kernel, &[&["explain"], args].concat());
        assert_eq!((ended.exit, ended.err.as_str()), (Exit::Done.into(), ""));
        ended.out
    };
    let list = explain(&[]);
    let mut codes: Vec<_> =
        list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    codes.sort_unstable();
    let bless = std::env::var_os("INSTA_UPDATE").is_some_and(|value| value == "always");
    let mut entries = String::new();
    for code in &codes {
        let text = explain(&[code]);
        let (meaning, remedy) = text.split_once("\n\nWhat to do: ").unwrap();
        let page = format!("# {meaning}\n\n## What to do\n\n{remedy}");
        let file = docs().join(format!("codes/{code}.md"));
        if bless {
            std::fs::create_dir_all(docs().join("codes")).unwrap();
            std::fs::write(&file, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), page, "{code}");
        entries += &format!("  - [{code}](codes/{code}.md)\n");
    }
    let summary = docs().join("SUMMARY.md");
    let text = std::fs::read_to_string(&summary).unwrap();
    let head = text.split_once("- [Codes](codes.md)\n").unwrap().0;
    let after = text.lines().skip_while(|line| !line.contains("(codes.md)")).skip(1);
    let tail: String =
        after.skip_while(|line| line.starts_with("  - ")).map(|line| format!("{line}\n")).collect();
    let wanted = format!("{head}- [Codes](codes.md)\n{entries}{tail}");
    if bless {
        std::fs::write(&summary, &wanted).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&summary).unwrap(), wanted);
    assert_eq!(pages("codes/").len(), codes.len(), "a page is of no code");
}

#[test]
fn the_page_on_json_has_every_event_of_a_run() {
    let page = std::fs::read_to_string(docs().join("json.md")).unwrap();
    for event in
        ["run", "taken", "stage", "forward", "qemu", "sign", "stopping", "returned", "verdict"]
    {
        let start = format!("| `{event}` |");
        assert!(
            page.lines().any(|line| line.starts_with(&start)),
            "docs/src/json.md lacks {event}"
        );
    }
}

fn program(args: &[&str]) -> String {
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_kireji"))
        .args(args)
        .output()
        .expect("kireji runs");
    assert_eq!(ended.status.code(), Some(0), "{args:?}");
    String::from_utf8(ended.stdout).expect("text")
}

#[test]
fn the_help_of_the_main_commands_has_examples_and_exit_codes() {
    for command in ["list", "show", "take", "return", "recover", "selftest", "run"] {
        let help = program(&[command, "--help"]);
        for part in ["Example", &format!("kireji {command}"), "Exit codes: 0 "] {
            assert!(help.contains(part), "{command} --help lacks {part}");
        }
        // The short form stays short.
        assert!(!program(&[command, "-h"]).contains("Exit codes"), "{command} -h");
    }
}

#[test]
fn there_is_a_manual_page_for_every_command_and_for_no_help() {
    let dir = tempfile::tempdir().unwrap();
    program(&["man", dir.path().to_str().unwrap()]);
    let mut pages: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort_unstable();
    for page in
        ["kireji.1", "kireji-run.1", "kireji-lab.1", "kireji-lab-run.1", "kireji-lab-shell.1"]
    {
        assert!(pages.iter().any(|found| found == page), "{page} is not among {pages:?}");
    }
    assert!(
        !pages.iter().any(|page| page.contains("help") || page.contains("internal")),
        "{pages:?}"
    );
    let page = std::fs::read_to_string(dir.path().join("kireji-lab-run.1")).unwrap();
    assert!(page.contains("kireji lab run"), "{page}");
}
