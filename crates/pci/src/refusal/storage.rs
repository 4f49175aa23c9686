//! Refusals for the sake of disks.

use ::host::Measured;

use super::{Case, Code, Overriding, Refusal, unmeasured_fact};
use crate::Address;
use crate::uses::{Disk, DiskUse, Purpose};

/// More things than this on one disk are counted rather than listed.
const MOST_LISTED: usize = 4;

pub(super) fn refusals(case: &Case) -> Vec<Refusal> {
    let storage = match &case.uses.storage {
        Measured::Known(storage) => storage,
        Measured::Unmeasured { unmeasured } => {
            let whole = |address: &Address| {
                unmeasured_fact(*address, "which disks are behind it", unmeasured)
                    .overridden(Overriding::Never)
            };
            return case.functions.iter().take(1).map(whole).collect();
        }
    };
    let mut refusals = Vec::new();
    for disk in &storage.disks {
        if let Some(function) = case.lost_with(&disk.functions) {
            refusals.extend(disk_refusals(function, disk));
        }
    }
    // Without a driver a controller shows no disks, and they may hold anything.
    for function in case.taken().filter(|function| function.class.is_storage()) {
        if function.driver.is_none() {
            let fact = "what is on the disks behind it";
            refusals.push(unmeasured_fact(function.address, fact, "no driver shows them"));
        }
    }
    refusals
}

fn disk_refusals(function: Address, disk: &Disk) -> Vec<Refusal> {
    let uses = match &disk.uses {
        Measured::Known(uses) => uses,
        Measured::Unmeasured { unmeasured } => {
            let fact = format!("whether {} is mounted", disk.name);
            return vec![
                unmeasured_fact(function, &fact, unmeasured).overridden(Overriding::Never),
            ];
        }
    };
    if !uses.is_empty() {
        return uses.iter().map(|one| in_use(function, one)).collect();
    }
    let serial = disk.identity().to_owned();
    let by_loss = Overriding::DataLoss { serial };
    match &disk.contents {
        Measured::Known(contents) if contents.is_empty() => Vec::new(),
        Measured::Known(contents) => {
            let mut listed: Vec<_> =
                contents.iter().take(MOST_LISTED).map(ToString::to_string).collect();
            if contents.len() > MOST_LISTED {
                listed.push(format!("{} more", contents.len() - MOST_LISTED));
            }
            let mut reason = format!("{function} → {} → {}", description(disk), listed.join(", "));
            for mention in disk.mentions.iter().take(MOST_LISTED) {
                reason += &format!("; {} names it for {}", mention.file, mention.purpose);
            }
            vec![Refusal::new(Code::DiskData, function, reason).overridden(by_loss)]
        }
        Measured::Unmeasured { unmeasured } => {
            let fact = format!("what is on {}", description(disk));
            vec![unmeasured_fact(function, &fact, unmeasured).overridden(by_loss)]
        }
    }
}

/// A disk in words: its name, model and serial number, and size.
pub(crate) fn description(disk: &Disk) -> String {
    let model = disk.model.as_ref().map_or_else(String::new, |model| format!("{model}, "));
    let serial =
        disk.serial.as_ref().map_or_else(String::new, |serial| format!("serial {serial}, "));
    format!("{} ({model}{serial}{})", disk.name, in_units(disk.size))
}

/// A size in decimal units, as it is written on disks.
fn in_units(bytes: u64) -> String {
    let units = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB")];
    let fits = units.into_iter().find(|(unit, _)| bytes >= *unit);
    fits.map_or_else(
        || format!("{bytes} bytes"),
        |(unit, name)| {
            let tenths = bytes / (unit / 10);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        },
    )
}

fn in_use(function: Address, one: &DiskUse) -> Refusal {
    let (code, way) = way(one);
    Refusal::new(code, function, format!("{function} → {way}"))
}

/// The way from a disk to what would be lost, and the code of that loss.
pub(crate) fn way(one: &DiskUse) -> (Code, String) {
    let (code, end) = match &one.purpose {
        Purpose::Mounted { points, file_system } => {
            let end = match points.as_slice() {
                [] => format!("a mounted {file_system} file system"),
                [point] => point.clone(),
                [point, others @ ..] => format!("{point} and {} more", others.len()),
            };
            (Code::StorageMounted, Some(end))
        }
        Purpose::Swap => (Code::StorageMounted, Some("swap".to_owned())),
        Purpose::Zfs { pool: Some(pool) } => {
            (Code::StorageMounted, Some(format!("ZFS pool {pool}")))
        }
        Purpose::Zfs { pool: None } => {
            let end = "a ZFS pool, possibly one that is imported".to_owned();
            (Code::StorageMounted, Some(end))
        }
        Purpose::BootPartition => {
            let end = "the EFI system partition of this boot".to_owned();
            (Code::StorageMounted, Some(end))
        }
        Purpose::Active => (Code::StorageActive, None),
    };
    let nodes = one.way.iter().map(|node| match &node.label {
        Some(label) => format!("{} ({label})", node.name),
        None => node.name.clone(),
    });
    let steps: Vec<_> = nodes.chain(end).collect();
    (code, steps.join(" → "))
}
