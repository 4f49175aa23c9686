//! `kireji doctor`: whether this host can give a card away, and if not, why.

pub(super) mod qemu;
mod text;

use std::collections::BTreeSet;

use host::Sysroot;
use pci::doctor::{
    Candidate, CardCase, Finding, Readiness, Status, check_card, check_host, free_slots, inventory,
    readiness,
};
use pci::facts::{Devices, Facts, FunctionFacts};
use pci::refusal::{self, Options, Target};
use pci::uses::{Scope, Uses, session_address};
use pci::{Address, Host, Named};
use serde::Serialize;

use super::{list, need_root_for, rom};
use crate::{CommandError, Context, Exit};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The card (29:00); without it, the host is judged, and each of its cards in a line
    address: Option<Named>,
    /// Judge the named function only, and what must go with it, not the whole card
    #[arg(long, requires = "address")]
    function: bool,
    /// Judge all of the IOMMU group
    #[arg(long, requires = "address")]
    with_group: bool,
    /// Read the option ROM too, which takes root, and a card that nothing uses
    #[arg(long, requires = "address")]
    rom: bool,
    /// Show what was read of what passes, too
    #[arg(long, short)]
    verbose: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What was found, as JSON shows it.
#[derive(Serialize)]
struct Report {
    readiness: Readiness,
    #[serde(skip_serializing_if = "Option::is_none")]
    functions: Option<Vec<Address>>,
    findings: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cards: Option<Vec<Candidate>>,
    /// The line that would measure what decides and is unmeasured.
    settle: Option<String>,
}

/// Judges the host or a card.
///
/// # Errors
/// There is no such function, sysfs cannot be read, or the output not written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let host = Host::read(context.host)?;
    let facts = Facts::read(context.host, &host);
    let mut findings = check_host(&host, &facts);
    let of_qemu = qemu::check(context, &mut findings)?;
    findings.extend(of_qemu);
    let report = match args.address {
        Some(named) => card(args, named, context, &host, &facts, findings)?,
        None => all(context, &host, &facts, findings),
    };
    let exit = match report.readiness {
        Readiness::Ready => Exit::Done,
        Readiness::Unknown | Readiness::NotReady => Exit::No,
    };
    if args.json {
        super::print_json(context, report)?;
    } else {
        text::write(context, &host, &report, args.verbose)?;
    }
    Ok(exit)
}

fn card(
    args: &Args,
    named: Named,
    context: &Context<'_>,
    host: &Host,
    facts: &Facts,
    mut findings: Vec<Finding>,
) -> Result<Report, CommandError> {
    let address = named.address;
    if host.function(address).is_none() {
        return Err(super::refuse::no_function(address));
    }
    let target = match args.function {
        true => Target::Function(address),
        false => Target::Card(address),
    };
    let selection = refusal::select(host, &[target], args.with_group);
    let functions = || selection.functions.iter().filter_map(|one| host.function(*one));
    let mut devices = Devices::read(context.host, host, functions());
    add_ports(context.host, host, &mut devices);
    if args.rom {
        read_roms(context, host, &mut devices)?;
    }
    let uses = read_uses(context, host, selection.functions.iter().copied().collect());
    let verdict = refusal::judge(host, &selection, &uses, None, &Options::default());
    let slots = free_slots(host, &devices);
    let case = CardCase {
        host,
        facts,
        devices: &devices,
        slots: &slots,
        selection: &selection,
        uses: &uses,
        verdict: &verdict,
    };
    findings.extend(check_card(&case));
    let readiness = readiness(&findings);
    let settle = settle(context, Some(address), true, readiness, &findings);
    Ok(Report { readiness, settle, functions: Some(selection.functions), findings, cards: None })
}

fn all(context: &Context<'_>, host: &Host, facts: &Facts, findings: Vec<Finding>) -> Report {
    let mut devices = Devices::read(context.host, host, host.functions());
    add_ports(context.host, host, &mut devices);
    // No disk is read for a mere list: it takes root, and wakes disks that sleep.
    let uses = read_uses(context, host, BTreeSet::new());
    let cards = inventory(host, facts, &devices, &uses);
    let best = cards.first().map_or(Readiness::NotReady, |card| card.readiness);
    let readiness = readiness(&findings).max(best);
    let open = cards.iter().find(|card| card.readiness == Readiness::Unknown);
    let settle = settle(context, open.map(|card| card.card), false, readiness, &findings);
    Report { readiness, settle, functions: None, findings, cards: Some(cards) }
}

/// Ports with free slots are no card's way to the root, and yet may be the remedy.
pub(super) fn add_ports(sysroot: &Sysroot, host: &Host, devices: &mut Devices) {
    let ports = host.functions().filter(|function| function.class.is_pci_bridge());
    for port in ports {
        let has_slot = host
            .express(port.address)
            .known()
            .is_some_and(|express| express.is_some_and(|express| express.slot_implemented));
        if has_slot && host.children(Some(port.address)).next().is_none() {
            let way = std::iter::once(port.address).chain(host.above(port.address));
            for bridge in way.collect::<Vec<_>>() {
                devices.add_bridge(sysroot, host, bridge);
            }
        }
    }
}

/// Reads the option ROMs of the card's functions, those that can be read.
fn read_roms(
    context: &Context<'_>,
    host: &Host,
    devices: &mut Devices,
) -> Result<(), CommandError> {
    need_root_for("reading an option ROM", context)?;
    let shut =
        |facts: &&mut FunctionFacts| facts.rom.as_ref().is_some_and(|rom| rom.known().is_none());
    for (address, facts) in &mut devices.functions {
        let Some(function) = host.function(*address) else { continue };
        if shut(&facts) {
            facts.rom = Some(rom::kinds(context, function)?);
        }
    }
    Ok(())
}

fn read_uses(context: &Context<'_>, host: &Host, examined: BTreeSet<Address>) -> Uses {
    let session = session_address(context.host, context.vars.ssh_connection.as_deref());
    Uses::read(context.host, host, &Scope { examined, session })
}

/// Returns the line that would measure what is unmeasured and decides; of a card, if `address` is
/// one that the command line does not name already.
fn settle(
    context: &Context<'_>,
    address: Option<Address>,
    is_named: bool,
    readiness: Readiness,
    findings: &[Finding],
) -> Option<String> {
    if readiness != Readiness::Unknown {
        return None;
    }
    let mut unmeasured =
        findings.iter().filter(|finding| finding.decides && finding.status == Status::Unmeasured);
    let own = unmeasured.clone().find_map(|finding| finding.settle.clone());
    // Of the host nothing may be open, but of its best card.
    let address = address.filter(|_| is_named || unmeasured.next().is_none());
    let more = address.map_or_else(String::new, |address| format!(" {address}"));
    if !context.host.is_live() {
        return Some(format!("on that host: sudo kireji doctor{more}"));
    }
    if is_named && context.vars.is_root {
        return own;
    }
    let line = context.vars.sudo_line();
    Some(if is_named { line } else { format!("{line}{more}") })
}

/// A card's address and name for people.
fn named(host: &Host, names: &pci::Names, address: Address, short: bool) -> String {
    let function = host.function(address);
    let what = function.map_or_else(String::new, |function| list::what(names, function));
    format!("{} {what}", list::shown(address, short))
}
