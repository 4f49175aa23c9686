//! The card's IOMMU group, and what would have to be different for it to have one of its own.

use std::collections::{BTreeMap, BTreeSet};

use ::host::Measured;

use super::card::CardCase;
use super::{Finding, Subject};
use crate::config::{Acs, PortKind};
use crate::facts::{Devices, Facts, Group};
use crate::refusal::Code;
use crate::{Address, Function, Host};

/// A slot that is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The port that leads to it.
    pub port: Address,
    /// Whether a card there would have a group of its own.
    pub isolated: Measured<bool>,
}

/// Judges the groups of a card.
pub(super) fn check(case: &CardCase) -> Vec<Finding> {
    let mut findings: Vec<_> =
        case.functions().filter_map(|function| grouped(case, function)).collect();
    let groups: BTreeSet<_> = case.functions().filter_map(|function| function.group).collect();
    findings.extend(groups.iter().filter_map(|number| reserved(case, *number)));
    findings.extend(shared(case, &groups));
    findings.extend(acs(case));
    findings
}

fn grouped(case: &CardCase, function: &Function) -> Option<Finding> {
    let code = Code::NoGroup;
    let address = function.address;
    let link = format!("{}/iommu_group", Function::path(address));
    if let Some(number) = function.group {
        let kind = case.devices.groups.get(&number).map(|group| &group.kind);
        let kind = match kind {
            Some(Measured::Known(Some(kind))) => format!(" of type {kind}"),
            _ => String::new(),
        };
        let says = format!("{address} is in IOMMU group {number}{kind}");
        return Some(
            Finding::pass(code, Subject::Group, says).seen(link, number.to_string()).of(address),
        );
    }
    let finding = match case.facts.iommu.is_used() {
        // The IOMMU itself has been judged, and nothing can have a group without it.
        Some(false) => return None,
        None => Finding::unmeasured(
            code,
            Subject::Group,
            format!(
                "{address} has no IOMMU group, and whether the kernel uses an IOMMU is unknown"
            ),
        ),
        Some(true) => left_out(case, function),
    };
    Some(finding.seen(link, "absent").of(address))
}

/// Why the kernel leaves one device out.
fn left_out(case: &CardCase, function: &Function) -> Finding {
    let address = function.address;
    let fail = |says: String| Finding::fail(Code::NoGroup, Subject::Group, says);
    let kernel = &case.facts.kernel;
    let is_intel_graphics = function.class.is_display() && function.ids.vendor == 0x8086;
    let value = kernel.parameter("intel_iommu").unwrap_or_default();
    if is_intel_graphics && value.split(',').any(|word| word == "igfx_off") {
        return fail(format!("{address} is left out: the kernel was started with igfx_off"))
            .seen("/proc/cmdline", format!("intel_iommu={value}"))
            .remedy("remove igfx_off from intel_iommu= on the kernel's command line, and reboot");
    }
    let option = "CONFIG_INTEL_IOMMU_DEFAULT_ON_INTGPU_OFF";
    if let Some(config) = kernel.config.known()
        && is_intel_graphics
        && config.has(option)
        && !value.split(',').any(|word| word == "on")
    {
        return fail(format!(
            "{address} is left out: the kernel was built to leave Intel graphics out"
        ))
        .seen(&config.source, format!("{option}=y"))
        .remedy("add intel_iommu=on to the kernel's command line, and reboot");
    }
    if let Some(dmar) = case.facts.firmware.dmar.content()
        && !dmar.covers(case.host, function)
    {
        return fail(format!("{address} is left out: no unit of the firmware's table covers it"))
            .seen(
                "/sys/firmware/acpi/tables/DMAR",
                format!("{} units, none for it", dmar.units.len()),
            )
            .remedy("update the firmware, or put the card into another slot");
    }
    fail(format!("{address} is in no IOMMU group, though the kernel uses an IOMMU"))
        .remedy("see what the kernel says of it: sudo dmesg | grep -e DMAR -e AMD-Vi -e iommu")
}

fn reserved(case: &CardCase, number: u32) -> Option<Finding> {
    let group = case.devices.groups.get(&number)?;
    let code = Code::ReservedMemory;
    let file = format!("{}/reserved_regions", Group::path(number));
    let regions = match &group.reserved {
        Measured::Known(regions) => regions,
        Measured::Unmeasured { unmeasured } => {
            return Some(Finding::unmeasured(code, Subject::Group, unmeasured));
        }
    };
    let direct: Vec<_> = regions.iter().filter(|region| region.is_direct()).collect();
    let Some(first) = direct.first() else {
        let says = "the firmware keeps no memory mapped for it";
        return Some(Finding::pass(code, Subject::Group, says).seen(file, "no direct region"));
    };
    let kib = first.end.saturating_sub(first.start).saturating_add(1) >> 10;
    let says = format!(
        "the firmware keeps {kib} KiB at {:#x} mapped for it: VFIO refuses it",
        first.start
    );
    let value = format!("{:#x} {:#x} direct", first.start, first.end);
    let finding = Finding::fail(code, Subject::Group, says).seen(file, value);
    let named = firmware_names(case.facts, case.host, case.functions());
    let finding = match named {
        Some(table) => finding.seen(format!("/sys/firmware/acpi/tables/{table}"), "names it"),
        None => finding,
    };
    Some(finding.remedy(
        "switch off in the firmware's setup what uses the card by itself (legacy USB, a management \
         controller's shared memory, a network boot ROM), or use another slot",
    ))
}

/// The table in which the firmware names one of the functions for reserved memory.
fn firmware_names<'a>(
    facts: &Facts,
    host: &Host,
    mut functions: impl Iterator<Item = &'a Function>,
) -> Option<&'static str> {
    functions.find_map(|function| {
        let dmar = facts.firmware.dmar.content();
        let ivrs = facts.firmware.ivrs.content();
        if dmar.is_some_and(|dmar| dmar.reserved_for(host, function).next().is_some()) {
            return Some("DMAR");
        }
        let named = ivrs.is_some_and(|ivrs| {
            ivrs.reserved.iter().any(|memory| memory.is_direct && memory.is_for(function.address))
        });
        named.then_some("IVRS")
    })
}

fn shared(case: &CardCase, groups: &BTreeSet<u32>) -> Vec<Finding> {
    let refusals = case.selection.refusals.iter();
    let refused: Vec<_> = refusals
        .filter(|refusal| refusal.code == Code::GroupShared)
        .map(|refusal| {
            Finding::fail(Code::GroupShared, Subject::Group, &refusal.reason)
                .of(refusal.function)
                .remedy(Code::GroupShared.explanation().remedy)
        })
        .collect();
    if !refused.is_empty() || groups.is_empty() {
        return refused;
    }
    let members: Vec<_> = groups
        .iter()
        .flat_map(|number| case.host.group(*number))
        .map(|member| member.address.to_string())
        .collect();
    let files: Vec<_> =
        groups.iter().map(|number| format!("{}/devices", Group::path(*number))).collect();
    let says = "nothing else is in its group";
    vec![
        Finding::pass(Code::GroupShared, Subject::Group, says)
            .seen(files.join(" "), members.join(" ")),
    ]
}

/// Whether a bridge keeps apart what is below it, given its services; `None` for one whose kind
/// decides nothing, as an upstream port.
fn isolates(
    host: &Host,
    bridges: &BTreeMap<Address, Measured<Option<Acs>>>,
    bridge: Address,
) -> Measured<Option<Result<(), String>>> {
    let kind = match host.express(bridge) {
        Measured::Unmeasured { unmeasured } => return Measured::unmeasured(unmeasured),
        Measured::Known(express) => express.map(|express| express.kind),
    };
    match kind {
        // What is behind conventional PCI cannot even be told apart.
        None | Some(PortKind::ExpressToPci | PortKind::PciToExpress) => Measured::Known(Some(Err(
            format!("{bridge} leads to conventional PCI, which has no ACS"),
        ))),
        Some(PortKind::RootPort | PortKind::DownstreamPort) => {
            let unread = || Measured::unmeasured(format!("{bridge} was not read"));
            bridges.get(&bridge).cloned().unwrap_or_else(unread).map(|acs| {
                Some(match acs {
                    None => Err(format!("{bridge} has no ACS")),
                    Some(acs) if acs.isolates() => Ok(()),
                    Some(acs) => Err(format!(
                        "{bridge} has ACS, but not switched on: {}",
                        acs.missing().join(" ")
                    )),
                })
            })
        }
        Some(_) => Measured::Known(None),
    }
}

/// Which bridge on the way to the root does not keep apart what is below it. It explains a group
/// that is shared; where the card has its group to itself, nothing follows from it.
fn acs(case: &CardCase) -> Option<Finding> {
    let code = Code::Acs;
    // The kernel switches the services on only where it uses an IOMMU.
    if case.facts.iommu.is_used() == Some(false) {
        return None;
    }
    let first = case.functions().find(|function| function.parent.is_some())?;
    let file = |bridge: Address| format!("{}/config", Function::path(bridge));
    let mut unread = None;
    for bridge in case.host.above(first.address) {
        match isolates(case.host, &case.devices.bridges, bridge) {
            Measured::Known(None | Some(Ok(()))) => {}
            Measured::Known(Some(Err(says))) => {
                return Some(
                    Finding::fail(code, Subject::Group, says)
                        .seen(file(bridge), "extended capability 0x000d")
                        .of(first.address)
                        .remedy(elsewhere(case.slots))
                        .advisory(),
                );
            }
            Measured::Unmeasured { unmeasured } => {
                unread.get_or_insert((bridge, unmeasured));
            }
        }
    }
    let finding = match unread {
        Some((_, unmeasured)) => Finding::unmeasured(code, Subject::Group, unmeasured),
        None => {
            let way: Vec<_> = case.host.above(first.address).map(|one| one.to_string()).collect();
            Finding::pass(code, Subject::Group, "every port on its way to the root isolates")
                .seen("ports", way.join(" "))
        }
    };
    Some(finding.of(first.address).advisory())
}

/// The slots with nothing in them, and whether a card in each would have a group of its own.
pub fn free_slots(host: &Host, devices: &Devices) -> Vec<Slot> {
    let bridges = &devices.bridges;
    let ports = host.functions().filter(|function| function.class.is_pci_bridge());
    ports
        .filter(|port| {
            let express = host.express(port.address);
            let has_slot = express
                .known()
                .is_some_and(|express| express.is_some_and(|express| express.slot_implemented));
            has_slot && host.children(Some(port.address)).next().is_none()
        })
        .map(|port| {
            let way = std::iter::once(port.address).chain(host.above(port.address));
            let mut isolated = Measured::Known(true);
            for bridge in way {
                match isolates(host, bridges, bridge) {
                    Measured::Known(None | Some(Ok(()))) => {}
                    Measured::Known(Some(Err(_))) => {
                        isolated = Measured::Known(false);
                        break;
                    }
                    Measured::Unmeasured { unmeasured } => {
                        isolated = Measured::unmeasured(unmeasured);
                    }
                }
            }
            Slot { port: port.address, isolated }
        })
        .collect()
}

fn elsewhere(slots: &[Slot]) -> String {
    let of = |wanted: Option<&bool>| {
        let ports = slots.iter().filter(|slot| slot.isolated.known() == wanted);
        ports.map(|slot| slot.port.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (good, unknown) = (of(Some(&true)), of(None));
    if !good.is_empty() {
        format!(
            "put the card into the free slot below {good}: it would have a group of its own there"
        )
    } else if !unknown.is_empty() {
        format!("the free slot below {unknown} may do: its port could not be read whole")
    } else if slots.is_empty() {
        "no free slot is known; exchange the card with one in a slot of the processor's".to_owned()
    } else {
        "none of the free slots would do: their ports do not isolate either".to_owned()
    }
}
