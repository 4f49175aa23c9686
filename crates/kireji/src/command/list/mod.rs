//! `kireji list`: every PCI function of the host.

mod filter;
mod svg;
mod tree;

use std::path::PathBuf;

use host::Measured;
use pci::{Address, Function, FunctionNames, Host, Names};
use serde::Serialize;

use crate::table::Table;
use crate::{CommandError, Context, Exit};

use super::pending;
use super::save::save;

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: filter::Filter,
    /// Draw the topology down from the root buses, with the IOMMU groups
    #[arg(long, conflicts_with_all = ["Filter", "json"])]
    tree: bool,
    /// Save the topology as a picture
    #[arg(long, value_name = "FILE", conflicts_with_all = ["Filter", "json"])]
    svg: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    functions: Vec<Row<'a>>,
}

/// One function as JSON shows it.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    address: Address,
    class: String,
    vendor: String,
    device: String,
    subsystem_vendor: Option<String>,
    subsystem_device: Option<String>,
    names: FunctionNames,
    driver: Option<&'a str>,
    group: Option<u32>,
    card: Measured<Address>,
    slot: Option<String>,
}

/// Lists the functions.
///
/// # Errors
/// Sysfs cannot be read, or the output not written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    pending::tell(context)?;
    let host = Host::read(context.host)?;
    let names = Names::read(context.host, &host);
    let short = host.functions().all(|function| function.address.domain() == 0);
    if args.tree || args.svg.is_some() {
        return topology(args, context, &host, &names, short);
    }
    let listed = || host.functions().filter(|function| args.filter.holds(&names, function));
    if args.json {
        let functions = listed().map(|function| row(&host, &names, function)).collect();
        super::print_json(context, Report { functions })?;
        return Ok(Exit::Done);
    }
    if host.functions().next().is_none() {
        writeln!(context.err, "This host has no PCI function.")?;
        return Ok(Exit::Done);
    }
    let mut table =
        Table::new(["ADDRESS", "IDS", "SUBSYSTEM", "DRIVER", "GROUP", "CARD", "WHAT IT IS"]);
    table.optional(2);
    for function in listed() {
        let dash = || "-".to_owned();
        let card = match host.card(function.address) {
            Measured::Known(card) => shown(card.address(), short),
            Measured::Unmeasured { .. } => "?".to_owned(),
        };
        table.row([
            shown(function.address, short),
            function.ids.to_string(),
            function.subsystem.map_or_else(dash, |ids| ids.to_string()),
            function.driver.clone().unwrap_or_else(dash),
            function.group.map_or_else(dash, |group| group.to_string()),
            card,
            what(&names, function),
        ]);
    }
    table.write(context.out, context.width)?;
    Ok(Exit::Done)
}

/// Draws the topology, on the terminal or in a file.
fn topology(
    args: &Args,
    context: &mut Context<'_>,
    host: &Host,
    names: &Names,
    short: bool,
) -> Result<Exit, CommandError> {
    let nodes = tree::nodes(host);
    if let Some(file) = &args.svg {
        let picture = svg::draw(host, names, &nodes, short);
        save(context, file, picture.as_bytes(), 0o644)?;
    }
    if args.tree {
        for node in &nodes {
            let function = node.function;
            let group = match function.group {
                Some(group) => format!("[{group}]"),
                None => "[-]".to_owned(),
            };
            let driver = function.driver.as_deref().unwrap_or("no driver");
            writeln!(
                context.out,
                "{}{} {group} {} ({driver})",
                node.prefix(),
                shown(function.address, short),
                what(names, function),
            )?;
        }
    }
    Ok(Exit::Done)
}

/// An address as people write it: without the domain where all have the first.
pub(super) fn shown(address: Address, short: bool) -> String {
    let text = address.to_string();
    match text.strip_prefix("0000:") {
        Some(rest) if short => rest.to_owned(),
        _ => text,
    }
}

/// What a function is, in the words of `pci.ids`.
pub(super) fn what(names: &Names, function: &Function) -> String {
    let names = names.of(function);
    let class = names.class.unwrap_or_else(|| format!("class {:04x}", function.class.number()));
    let words: Vec<_> = [names.vendor, names.device].into_iter().flatten().collect();
    if words.is_empty() { class } else { format!("{class}: {}", words.join(" ")) }
}

pub(super) fn row<'a>(host: &Host, names: &Names, function: &'a Function) -> Row<'a> {
    let hex = |number: u16| format!("{number:04x}");
    let card = host.card(function.address);
    Row {
        address: function.address,
        class: function.class.to_string(),
        vendor: hex(function.ids.vendor),
        device: hex(function.ids.device),
        subsystem_vendor: function.subsystem.map(|ids| hex(ids.vendor)),
        subsystem_device: function.subsystem.map(|ids| hex(ids.device)),
        names: names.of(function),
        driver: function.driver.as_deref(),
        group: function.group,
        slot: card.known().and_then(|card| card.slot.clone()),
        card: card.map(|card| card.address()),
    }
}
