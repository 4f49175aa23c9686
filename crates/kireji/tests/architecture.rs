//! Holds the arrows between the crates, as `ARCHITECTURE.md` draws them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each crate may use of the workspace.
const ARROWS: [(&str, &[&str]); 10] = [
    ("bfs", &[]),
    ("fetch", &[]),
    ("host", &[]),
    ("pci", &["host"]),
    ("haiku", &["bfs", "host"]),
    ("reserve", &["host", "pci"]),
    ("vfio", &["host", "pci"]),
    ("guest", &["haiku", "host", "pci", "vfio"]),
    ("lab", &["guest", "host", "pci"]),
    ("kireji", &["bfs", "fetch", "guest", "haiku", "host", "lab", "pci", "reserve", "vfio"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn manifest(path: &Path) -> toml::Table {
    std::fs::read_to_string(path.join("Cargo.toml")).unwrap().parse().unwrap()
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn arrows_go_downwards_only() {
    let workspace = manifest(&root());
    let members = workspace["workspace"]["dependencies"].as_table().unwrap();
    let own: BTreeSet<_> = members
        .iter()
        .filter(|(_, value)| value.get("path").is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    let allowed: BTreeMap<_, _> = ARROWS.into_iter().collect();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let allowed = allowed.get(name.as_str()).unwrap_or_else(|| {
            panic!("crates/{name} has no place in ARROWS and in ARCHITECTURE.md")
        });
        let manifest = manifest(&path);
        for used in manifest["dependencies"].as_table().unwrap().keys() {
            let fine = !own.contains(used.as_str()) || allowed.contains(&used.as_str());
            assert!(fine, "crates/{name} must not depend on {used}");
        }
    }
}

#[test]
fn every_crate_says_what_it_is_for_and_what_it_must_not_depend_on() {
    for (name, _) in ARROWS {
        let text =
            std::fs::read_to_string(root().join(format!("crates/{name}/src/lib.rs"))).unwrap();
        let documentation: String =
            text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(documentation.len() > 200, "crates/{name} says too little of itself");
        let says = ["depend", "must never", "may depend"];
        assert!(says.iter().any(|word| documentation.contains(word)), "crates/{name}");
    }
}

#[test]
fn unsafe_code_stays_in_its_one_crate() {
    for (name, _) in ARROWS.into_iter().filter(|(name, _)| *name != "vfio") {
        let mut found = Vec::new();
        sources(&root().join(format!("crates/{name}")), &mut found);
        for path in found {
            let text = std::fs::read_to_string(&path).unwrap();
            let unsafe_code = ["unsafe {", "unsafe fn", "unsafe impl", "(unsafe_code"];
            let own = path.ends_with("tests/architecture.rs");
            assert!(
                own || !unsafe_code.iter().any(|word| text.contains(word)),
                "unsafe code in {}",
                path.display()
            );
        }
    }
}

#[test]
fn libraries_never_print_and_never_exit() {
    for (name, _) in ARROWS.into_iter().filter(|(name, _)| *name != "kireji") {
        let mut found = Vec::new();
        sources(&root().join(format!("crates/{name}/src")), &mut found);
        for path in found {
            let text = std::fs::read_to_string(&path).unwrap();
            for word in ["println!(", "print!(", "process::exit("] {
                assert!(!text.contains(word), "{word} in {}", path.display());
            }
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let reasons = std::fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let workspace = manifest(&root());
    for (name, value) in workspace["workspace"]["dependencies"].as_table().unwrap() {
        if value.get("path").is_none() {
            let word = |c: char| !(c.is_alphanumeric() || c == '-' || c == '_');
            let named = reasons.lines().filter(|line| line.starts_with('|')).any(|line| {
                line.split('|').nth(1).is_some_and(|cell| cell.split(word).any(|w| w == name))
            });
            assert!(named, "docs/dependencies.md gives no reason for {name}");
        }
    }
}
