//! Every target passes on its seeds, and no target is forgotten.

use std::path::Path;

use kireji_fuzz::{TARGETS, files, seeds};

#[test]
fn every_target_passes_on_its_seeds() {
    for (name, target) in TARGETS {
        let found = files(&seeds(name)).unwrap_or_default();
        assert!(!found.is_empty(), "{name} has no seeds");
        for file in found {
            println!("{}", file.display());
            target(&std::fs::read(file).expect("a seed"));
        }
        target(b"");
    }
}

#[test]
fn every_target_is_a_program_and_the_other_way_round() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let programs = files(&directory).expect("the programs");
    let programs: Vec<_> = programs.iter().filter_map(|path| path.file_stem()?.to_str()).collect();
    let targets: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(programs, targets);
}
