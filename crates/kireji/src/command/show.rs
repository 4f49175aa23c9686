//! `kireji show`: one card or function in depth.

use std::path::PathBuf;

use host::{Measured, Sysroot};
use pci::config::{CapabilityWalk, ConfigSpace};
use pci::{Function, Host, Named, Names, Region, RegionKind};
use serde::Serialize;

use crate::{CommandError, Context, Exit};

use super::target::Target;
use super::{list, rom};

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
    regions: Measured<Vec<Region>>,
    capabilities: Measured<Capabilities>,
    reset_methods: Measured<Vec<String>>,
    power_state: Option<String>,
}

#[derive(Serialize)]
struct Capabilities {
    standard: Vec<&'static str>,
    extended: Vec<&'static str>,
}

/// Shows the card.
///
/// # Errors
/// There is no such function, sysfs cannot be read, or the output not written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
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
        rom::save(context, function, file)?;
        return Ok(Exit::Done);
    }
    let names = Names::read(context.host, &host);
    let mut details = Vec::new();
    for function in functions {
        details.push((function, read(context.host, &host, &names, function)?));
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
    function: &'a Function,
) -> Result<Details<'a>, CommandError> {
    let path = Function::path(function.address);
    let binding = vfio::take::Binding::read(sysroot, function.address)?;
    Ok(Details {
        row: list::row(host, names, function),
        driver_override: binding.driver_override,
        group_members: function
            .group
            .map(|group| host.group(group).map(|member| member.address).collect())
            .unwrap_or_default(),
        regions: Region::read_all(sysroot, function.address).into(),
        capabilities: capabilities(sysroot, function),
        reset_methods: reset_methods(sysroot, &path)?,
        power_state: sysroot.optional_text(format!("{path}/power_state"))?,
    })
}

/// The kernel hides `reset_method` from a function that it cannot reset
/// (drivers/pci/pci.c, pci_dev_reset_method_attr_is_visible), and before 5.15 from all.
fn reset_methods(sysroot: &Sysroot, path: &str) -> Result<Measured<Vec<String>>, CommandError> {
    if let Some(text) = sysroot.optional_text(format!("{path}/reset_method"))? {
        return Ok(Measured::Known(text.split_whitespace().map(str::to_owned).collect()));
    }
    let release = sysroot.optional_text("/proc/sys/kernel/osrelease")?.unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Ok(match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (5, 15) => {
            Measured::Known(Vec::new())
        }
        _ => Measured::unmeasured("a kernel before 5.15 does not show them"),
    })
}

fn capabilities(sysroot: &Sysroot, function: &Function) -> Measured<Capabilities> {
    let config: ConfigSpace = match function.config(sysroot) {
        Ok(Some(config)) => config,
        Ok(None) => return Measured::unmeasured("the function sleeps, and reading would wake it"),
        Err(error) => return Measured::unmeasured(error.to_string()),
    };
    let lists = config.capabilities();
    if let CapabilityWalk::Broken(error) = &lists.standard_walk {
        return Measured::unmeasured(error.to_string());
    }
    if lists.standard_walk == CapabilityWalk::Unread {
        return Measured::unmeasured("the capabilities can be read by root only");
    }
    Measured::Known(Capabilities {
        standard: lists.standard.iter().map(|capability| capability.name()).collect(),
        extended: lists.extended.iter().map(|capability| capability.name()).collect(),
    })
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
    for (label, text) in lines(target, function, details) {
        writeln!(out, "  {label:<13} {text}")?;
    }
    Ok(())
}

/// What is said of a function, each with its label.
fn lines(
    target: &Target,
    function: &Function,
    details: &Details<'_>,
) -> Vec<(&'static str, String)> {
    let none = || "none".to_owned();
    let mut lines = vec![
        (
            "ids",
            match function.subsystem {
                Some(subsystem) => format!("{}, subsystem {subsystem}", function.ids),
                None => function.ids.to_string(),
            },
        ),
        ("class", function.class.to_string()),
        (
            "driver",
            match (&function.driver, &details.driver_override) {
                (driver, None) => driver.clone().unwrap_or_else(none),
                (driver, Some(set)) => {
                    format!("{}, override {set}", driver.as_deref().unwrap_or("none"))
                }
            },
        ),
        (
            "IOMMU group",
            match function.group {
                Some(group) => format!("{group} ({})", joined(&details.group_members)),
                None => none(),
            },
        ),
        (
            "card",
            match &target.card.slot {
                Some(slot) => format!("{} in slot {slot}", joined(&target.card.functions)),
                None => joined(&target.card.functions),
            },
        ),
        ("power state", details.power_state.clone().unwrap_or_else(|| "unmeasured".to_owned())),
        (
            "resets",
            match &details.reset_methods {
                Measured::Known(methods) if methods.is_empty() => none(),
                Measured::Known(methods) => methods.join(", "),
                Measured::Unmeasured { unmeasured } => format!("unmeasured: {unmeasured}"),
            },
        ),
    ];
    match &details.regions {
        Measured::Known(regions) => lines.extend(regions.iter().map(region)),
        Measured::Unmeasured { unmeasured } => {
            lines.push(("regions", format!("unmeasured: {unmeasured}")));
        }
    }
    lines.push((
        "capabilities",
        match &details.capabilities {
            Measured::Known(lists) => {
                let all: Vec<_> = lists.standard.iter().chain(&lists.extended).copied().collect();
                if all.is_empty() { none() } else { all.join(", ") }
            }
            Measured::Unmeasured { unmeasured } => format!("unmeasured: {unmeasured}"),
        },
    ));
    lines
}

fn joined(addresses: &[pci::Address]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

fn region(region: &Region) -> (&'static str, String) {
    const LABELS: [&str; 6] = ["BAR 0", "BAR 1", "BAR 2", "BAR 3", "BAR 4", "BAR 5"];
    let label = LABELS.get(usize::from(region.index)).copied().unwrap_or("ROM");
    let kind = match region.kind {
        RegionKind::Io => "I/O ports",
        RegionKind::Memory32 => "32-bit memory",
        RegionKind::Memory64 => "64-bit memory",
        RegionKind::Rom => "expansion ROM",
    };
    let prefetchable = if region.prefetchable { ", prefetchable" } else { "" };
    let place = match region.start {
        0 => "unassigned".to_owned(),
        start => format!("at {start:#x}"),
    };
    (label, format!("{kind}{prefetchable}, {} {place}", size(region.size)))
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
