//! Which functions a person's words mean.

use std::collections::{BTreeMap, BTreeSet};

use ::host::Measured;
use serde::Serialize;

use super::{Code, Overriding, Refusal, unmeasured_fact};
use crate::{Address, Class, Function, Host};

/// What a person named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The card that a function belongs to.
    Card(Address),
    /// One function. Those of its card that are in its group go with it: VFIO gives a group away
    /// only as a whole.
    Function(Address),
}

/// The functions that would be given away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Selection {
    /// The functions, by address: no bridges.
    pub functions: Vec<Address>,
    /// What stood against the selection itself.
    pub refusals: Vec<Refusal>,
}

/// Selects the functions that `targets` mean; `with_group`, with all else that is in their IOMMU
/// groups.
///
/// A target that the host does not have selects nothing.
pub fn select(host: &Host, targets: &[Target], with_group: bool) -> Selection {
    let mut functions = BTreeSet::new();
    let mut refusals = Vec::new();
    for target in targets {
        match meant(host, *target) {
            Ok(meant) => functions.extend(meant),
            Err(refusal) => refusals.push(refusal),
        }
    }
    // Of each group, what is in it and was not named.
    let mut strangers: BTreeMap<u32, Vec<&Function>> = BTreeMap::new();
    let groups: BTreeSet<_> =
        functions.iter().filter_map(|address| host.function(*address)?.group).collect();
    for group in groups {
        for stranger in host.group(group).filter(|member| !functions.contains(&member.address)) {
            if matters(stranger) {
                strangers.entry(group).or_default().push(stranger);
            }
        }
    }
    for (group, strangers) in strangers {
        let (endpoints, chipset): (Vec<_>, Vec<_>) =
            strangers.into_iter().partition(|function| !is_infrastructure(function.class));
        if with_group {
            functions.extend(endpoints.iter().map(|function| function.address));
            refusals.extend(shared(host, &functions, group, &chipset, Overriding::Never));
        } else {
            let all: Vec<_> = endpoints.into_iter().chain(chipset).collect();
            refusals.extend(shared(host, &functions, group, &all, Overriding::Naming));
        }
    }
    Selection { functions: functions.into_iter().collect(), refusals }
}

fn meant(host: &Host, target: Target) -> Result<Vec<Address>, Refusal> {
    let (Target::Card(address) | Target::Function(address)) = target;
    let Some(function) = host.function(address) else { return Ok(Vec::new()) };
    let card = match host.card(address) {
        Measured::Known(card) => card.functions,
        Measured::Unmeasured { .. } if function.group.is_none() && is_one(target) => vec![address],
        Measured::Unmeasured { unmeasured } => {
            let refusal = unmeasured_fact(address, "which functions its card has", &unmeasured);
            return Err(refusal.overridden(Overriding::Never));
        }
    };
    let goes = |member: &&Address| {
        let Some(member) = host.function(**member) else { return false };
        let with_target =
            member.address == address || function.group.is_some() && member.group == function.group;
        !is_infrastructure(member.class) && (with_target || !is_one(target))
    };
    let functions: Vec<_> = card.iter().filter(goes).copied().collect();
    let named_is_bridge = is_infrastructure(function.class) && is_one(target);
    if functions.is_empty() || named_is_bridge {
        let reason = format!("{address} is a part of PCI itself (class {})", function.class);
        return Err(Refusal::new(Code::Bridge, address, reason));
    }
    Ok(functions)
}

fn is_one(target: Target) -> bool {
    matches!(target, Target::Function(_))
}

/// Bridges, IOMMUs and event collectors of the root complex: never bound.
fn is_infrastructure(class: Class) -> bool {
    class.is_bridge() || class.is_iommu() || class.number() == 0x0807
}

/// Whether a function keeps its group from being given away. PCI-to-PCI bridges do not, nor does
/// a part of the chipset that no driver has (drivers/vfio/vfio_iommu_type1.c and
/// drivers/iommu/iommu.c, iommu_group_claim_dma_owner).
fn matters(function: &Function) -> bool {
    !(function.class.is_pci_bridge()
        || is_infrastructure(function.class) && function.driver.is_none())
}

fn shared(
    host: &Host,
    functions: &BTreeSet<Address>,
    group: u32,
    strangers: &[&Function],
    overriding: Overriding,
) -> Option<Refusal> {
    let mine = functions
        .iter()
        .find(|address| host.function(**address).is_some_and(|one| one.group == Some(group)))?;
    if strangers.is_empty() {
        return None;
    }
    let listed: Vec<_> = strangers
        .iter()
        .map(|function| match &function.driver {
            Some(driver) => format!("{} ({driver})", function.address),
            None => function.address.to_string(),
        })
        .collect();
    let reason = format!("{mine} → IOMMU group {group} → {}", listed.join(", "));
    Some(Refusal::new(Code::GroupShared, *mine, reason).overridden(overriding))
}
