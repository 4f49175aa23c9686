//! Holds the guide to the program.

use std::path::{Path, PathBuf};

use kireji::Exit;

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
    let mut there: Vec<_> = std::fs::read_dir(docs())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md") && name != "SUMMARY.md")
        .collect();
    there.sort_unstable();
    assert_eq!(listed, there);
}
