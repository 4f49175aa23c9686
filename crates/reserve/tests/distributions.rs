//! Each distribution: what would change there, that it is proved, that doing it again changes
//! nothing, and that it is undone to the last byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use host::Sysroot;
use pci::Host;
use reserve::apply::{Applier, SystemDisk};
use reserve::boot::Boot;
use reserve::config::Change;
use reserve::goal::{self, Goal};
use reserve::instructions;
use reserve::plan::{self, Plan};
use reserve::proof::{self, Outcome};
use reserve::rescue;
use reserve::reservation::Reservations;
use testkit::boot::{ALL, Builders, CARD, Distribution};
use testkit::tree::Tree;

/// Every file of the configuration and of what is booted, with what a link says.
fn all(tree: &Tree) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut ahead = ["etc", "boot", "efi", "usr"].map(|name| tree.locate(name)).to_vec();
    while let Some(directory) = ahead.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(tree.root()).unwrap().display().to_string();
            if path.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                found.insert(name, target.into_os_string().into_encoded_bytes());
            } else if path.is_dir() {
                found.insert(name, Vec::new());
                ahead.push(path);
            } else {
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

/// The goal of a card and of a parameter.
fn goal(host: &Sysroot) -> Goal {
    let functions = Host::read(host).unwrap();
    let reservations = Reservations::default().with(&functions, &[CARD.parse().unwrap()]).unwrap();
    Goal::of(host, reservations, Change::add(["intel_iommu=on"])).unwrap()
}

fn planned(host: &Sysroot, goal: &Goal) -> Plan {
    goal::plan(host, &Boot::read(host).unwrap(), goal).unwrap()
}

fn failures(host: &Sysroot, goal: &Goal) -> Vec<String> {
    let claims = proof::prove(host, &Boot::read(host).unwrap(), goal).unwrap();
    assert!(!claims.is_empty());
    let failed = claims.into_iter().filter_map(|claim| match claim.outcome {
        Outcome::Pass(_) => None,
        Outcome::Fail(why) | Outcome::Unmeasured(why) => {
            Some(format!("{}: {}: {why}", claim.about, claim.claim))
        }
    });
    failed.collect()
}

/// The plan as a person sees it, but of the files that are the same everywhere only their names.
fn shown(plan: &Plan) -> String {
    let mut short = plan.clone();
    let is_same = |path: &std::path::Path| {
        let path = path.to_string_lossy();
        path.contains("50kireji") || path.contains("initcpio") || path.contains("initramfs-tools")
    };
    short.files.retain(|file| !is_same(&file.path));
    let names = plan.files.iter().filter(|file| is_same(&file.path));
    let mut text: Vec<u8> =
        names.flat_map(|file| format!("(ours) {}\n", file.path.display()).into_bytes()).collect();
    plan::write_diff(&short, &mut text).unwrap();
    for known in &plan.knowledge {
        text.extend(format!("{}: {}\n", known.backend, known.confidence).bytes());
    }
    String::from_utf8(text).unwrap()
}

fn golden(distribution: &Distribution, text: &str) {
    insta::with_settings!({ prepend_module_to_snapshot => false, description => distribution.origin }, {
        insta::assert_snapshot!(distribution.name, text);
    });
}

#[test]
fn every_distribution_is_planned_applied_proved_and_undone() {
    for distribution in ALL {
        let name = distribution.name;
        let tree = distribution.tree();
        let host = tree.sysroot();
        let goal = goal(&host);
        if let Some(told) = instructions::told(&host, &Boot::read(&host).unwrap()) {
            let functions = Host::read(&host).unwrap();
            golden(distribution, &instructions::instructions(told, &functions, &goal).unwrap());
            continue;
        }
        let start = all(&tree);
        let expected: &[&str] = match name {
            "proxmox-zfs" => &["every partition of proxmox-boot-tool: it has these images and \
                               parameters: the partitions are not mounted"],
            _ => &[],
        };
        assert_eq!(failures(&host, &Goal::default()), expected, "{name}");
        let plan = planned(&host, &goal);
        assert_eq!(all(&tree), start, "{name}: planning writes nothing");
        golden(distribution, &shown(&plan));
        if plan.hearsay().is_some() {
            continue;
        }

        let programs = Builders::new(&tree);
        let applier = Applier::new(&host, &SystemDisk, &programs);
        applier.apply(&plan).unwrap();
        assert_eq!(failures(&host, &goal), expected, "{name}");
        let again = Goal::of(&host, goal.reservations.clone(), Change::default()).unwrap();
        assert_eq!(again, goal, "{name}: what was added is remembered");
        assert!(planned(&host, &again).is_empty(), "{name}: {:?}", planned(&host, &again));

        // Released, what is left is what was there before.
        let applied = all(&tree);
        let gone = Goal::of(&host, Reservations::default(), Change::default()).unwrap();
        applier.apply(&planned(&host, &gone)).unwrap();
        assert_eq!(failures(&host, &gone).len(), expected.len(), "{name}");
        assert_eq!(applier.undo().unwrap().differences, [], "{name}");
        assert_eq!(differences(&all(&tree), &applied), Vec::<String>::new(), "{name}");

        assert_eq!(applier.undo().unwrap().differences, [], "{name}");
        assert_eq!(differences(&all(&tree), &start), Vec::<String>::new(), "{name}");
    }
}

/// A kernel that is installed after a reservation has it by its package's own means.
#[test]
fn a_later_kernel_is_proved_as_well() {
    let mut added = Vec::new();
    for distribution in ALL {
        let name = distribution.name;
        let tree = distribution.tree();
        let host = tree.sysroot();
        if instructions::told(&host, &Boot::read(&host).unwrap()).is_some() {
            continue;
        }
        let goal = goal(&host);
        let plan = planned(&host, &goal);
        if plan.hearsay().is_some() {
            continue;
        }
        Applier::new(&host, &SystemDisk, &Builders::new(&tree)).apply(&plan).unwrap();
        let before = failures(&host, &goal);
        let Some(release) = distribution.add_kernel(&tree) else { continue };
        assert_eq!(failures(&host, &goal), before, "{name}");
        let claims = proof::prove(&host, &Boot::read(&host).unwrap(), &goal).unwrap();
        assert!(claims.iter().any(|claim| claim.about.contains(&release)), "{name}: {claims:?}");
        added.push(name);
    }
    // Those of Arch put one kernel in place of the other.
    assert!(added.len() > 10, "{added:?}");
}

fn differences(now: &BTreeMap<String, Vec<u8>>, then: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names = now.keys().chain(then.keys());
    let differs = |name: &&String| now.get(*name) != then.get(*name);
    let mut found: Vec<_> = names.filter(differs).cloned().collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The keys of each boot loader, for a telephone.
#[test]
fn every_boot_loader_has_its_rescue_card() {
    let mut cards: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for distribution in ALL {
        let tree = distribution.tree();
        let host = tree.sysroot();
        let card = rescue::card(&host, &Boot::read(&host).unwrap()).unwrap();
        assert!(card.lines().all(|line| line.chars().count() <= 66), "{card}");
        cards.entry(card).or_default().push(distribution.name);
    }
    let shown: Vec<_> =
        cards.iter().map(|(card, names)| format!("=== {}\n{card}", names.join(", "))).collect();
    insta::assert_snapshot!("rescue", shown.join("\n"));
}
