//! `kireji show`: one card or function in depth.

mod capabilities;
mod lines;

use std::path::{Path, PathBuf};

use host::modules::Modules;
use host::{Measured, Sysroot};
use pci::facts::FunctionFacts;
use pci::uses::{Scope, Uses, session_address};
use pci::{Function, Host, Named, Names, Region, RegionKind};
use serde::Serialize;

use crate::{CommandError, Context, Exit};

use super::target::Target;
use super::{list, pending, rom};
use capabilities::Capabilities;

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The card (29:00), or a function of it (29:00.0)
    address: Named,
    /// Show this one function only, not the whole card
    #[arg(long)]
    function: bool,
    /// Save the option ROM in this file, if it is whole and no shadowed copy
    #[arg(long, value_name = "FILE")]
    rom: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    card: pci::Address,
    slot: Option<String>,
    functions: Vec<Details<'a>>,
}

#[derive(Serialize)]
struct Details<'a> {
    #[serde(flatten)]
    row: list::Row<'a>,
    #[serde(rename = "override")]
    driver_override: Option<String>,
    group_members: Vec<pci::Address>,
    #[serde(flatten)]
    facts: FunctionFacts,
    modules: Measured<Vec<String>>,
    capabilities: Measured<Capabilities>,
    would_be_lost: Vec<String>,
}

/// Shows the card.
///
/// # Errors
/// There is no such function, sysfs cannot be read, or the output not written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    pending::tell(context)?;
    let host = Host::read(context.host)?;
    let target = Target::find(&host, args.address, args.function)?;
    let functions: Vec<_> =
        target.functions.iter().filter_map(|address| host.function(*address)).collect();
    if let Some(file) = &args.rom {
        let has_rom = |function: &&&Function| {
            let regions = Region::read_all(context.host, function.address).unwrap_or_default();
            regions.iter().any(|region| region.kind == RegionKind::Rom)
        };
        // Of a card's functions one has the ROM.
        let Some(function) = functions.iter().find(has_rom).or(functions.first()) else {
            return Ok(Exit::Done);
        };
        rom::save_rom(context, function, file)?;
        return Ok(Exit::Done);
    }
    let names = Names::read(context.host, &host);
    let session = session_address(context.host, context.vars.ssh_connection.as_deref());
    let examined = functions.iter().map(|function| function.address).collect();
    let uses = Uses::read(context.host, &host, &Scope { examined, session });
    let mut details = Vec::new();
    for function in functions {
        details.push((function, read(context.host, &host, &names, &uses, function)?));
    }
    if args.json {
        let functions = details.into_iter().map(|(_, details)| details).collect();
        let card = target.card.address();
        super::print_json(context, Report { card, slot: target.card.slot, functions })?;
        return Ok(Exit::Done);
    }
    for (number, (function, details)) in details.iter().enumerate() {
        if number > 0 {
            writeln!(context.out)?;
        }
        write(context, &target, &names, function, details)?;
    }
    Ok(Exit::Done)
}

fn read<'a>(
    sysroot: &Sysroot,
    host: &Host,
    names: &Names,
    uses: &Uses,
    function: &'a Function,
) -> Result<Details<'a>, CommandError> {
    let binding = vfio::take::Binding::read(sysroot, function.address)?;
    let facts = FunctionFacts::read(sysroot, function);
    Ok(Details {
        row: list::row(host, names, function),
        driver_override: binding.driver_override,
        group_members: function
            .group
            .map(|group| host.group(group).map(|member| member.address).collect())
            .unwrap_or_default(),
        modules: modules(sysroot, facts.modalias.as_deref()),
        facts,
        capabilities: capabilities::read(sysroot, function),
        would_be_lost: pci::losses(uses, &[function.address]),
    })
}

/// The modules of the running kernel that would take the function.
fn modules(sysroot: &Sysroot, modalias: Option<&str>) -> Measured<Vec<String>> {
    let release = match sysroot.text("/proc/sys/kernel/osrelease") {
        Ok(release) => release,
        Err(error) => return Measured::unmeasured(error.to_string()),
    };
    let Some(modalias) = modalias else {
        return Measured::unmeasured("the kernel shows no modalias");
    };
    match Modules::read(sysroot, &Path::new("/lib/modules").join(release)) {
        Ok(index) => {
            Measured::Known(index.matching(modalias).into_iter().map(str::to_owned).collect())
        }
        Err(error) => Measured::unmeasured(error.to_string()),
    }
}

fn write(
    context: &mut Context<'_>,
    target: &Target,
    names: &Names,
    function: &Function,
    details: &Details<'_>,
) -> Result<(), CommandError> {
    let out = &mut *context.out;
    writeln!(out, "{} {}", function.address, list::what(names, function))?;
    for (label, text) in lines::lines(target, function, details) {
        writeln!(out, "  {label:<13} {text}")?;
    }
    Ok(())
}

/// A size in the largest binary unit that divides it.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut number = bytes;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while number >= 1024 && number.is_multiple_of(1024) {
        match units.next() {
            Some(next) => (number, unit) = (number / 1024, Some(next)),
            None => break,
        }
    }
    format!("{number} {}", unit.unwrap_or(&"bytes"))
}
