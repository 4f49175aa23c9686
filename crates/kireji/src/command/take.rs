//! `kireji take`: a card goes from its driver to vfio-pci.

use std::collections::BTreeMap;

use host::{Program, Sysroot};
use pci::{Address, Host, Named};
use serde::Serialize;
use vfio::take::{Binding, Held, Keeper, Purpose, Recipient, State, VFIO_PCI};

use crate::signals::Signals;
use crate::{CommandError, Context, Exit, user};

use super::refuse::{self, Allowed};
use super::{outcome, recover, status};

/// Arguments of `take`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The card (29:00), or a function of it (29:00.0)
    #[arg(required = true)]
    addresses: Vec<Named>,
    /// Prepare the card for runs of this user without root's rights
    #[arg(long = "for", value_name = "USER")]
    user: Option<String>,
    #[command(flatten)]
    allowed: Allowed,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long, conflicts_with = "dry_run")]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    taken: Vec<status::Row>,
    /// What was given to the user of `--for`.
    nodes: Vec<String>,
}

/// Takes cards for the runs of this process, as a person would take them; none if a signal came
/// meanwhile.
///
/// # Errors
/// As [`run`]; the cards are back then, as far as they can be.
pub(super) fn hold(
    addresses: Vec<Named>,
    allowed: Allowed,
    context: &mut Context<'_>,
) -> Result<Vec<Held>, CommandError> {
    take(&Args { addresses, user: None, allowed, dry_run: false, json: false }, None, context)
}

/// Takes the card.
///
/// # Errors
/// Something would be lost, the card is busy, or the kernel refused.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    if !args.dry_run {
        super::need_root(context)?;
    }
    let user = args.user.as_deref().map(|name| recipient(name, context)).transpose()?;
    if args.dry_run {
        let host = Host::read(context.host)?;
        let functions = refuse::check(context, &host, &args.addresses, &args.allowed)?;
        return plan(&functions, user.as_ref(), context);
    }
    let taken = take(args, user.as_ref(), context)?;
    if taken.is_empty() {
        return Ok(Exit::Interrupted);
    }
    let before = taken.iter().flat_map(|held| &held.lease.before);
    let nodes = match user {
        Some(_) => {
            let functions: Vec<_> = before.clone().map(|(address, _)| *address).collect();
            vfio::take::nodes(context.host, &functions)?
        }
        None => Vec::new(),
    };
    if args.json {
        let taken = taken.iter().map(status::row).collect();
        super::print_json(context, Document { taken, nodes })?;
        return Ok(Exit::Done);
    }
    for (address, before) in before {
        let driver = before.driver.as_deref().unwrap_or("no driver");
        match before.is_vfio() {
            true => writeln!(context.out, "{address} stays on {driver}")?,
            false => writeln!(context.out, "{address} went from {driver} to vfio-pci")?,
        }
    }
    for (user, node) in user.iter().flat_map(|user| nodes.iter().map(move |node| (user, node))) {
        writeln!(context.out, "{node} belongs to {user} until the card is returned")?;
    }
    for held in &taken {
        writeln!(context.err, "return it with `kireji return {}`", held.lease.card)?;
    }
    Ok(Exit::Done)
}

/// Takes the cards; none if a signal came meanwhile.
fn take(
    args: &Args,
    user: Option<&Recipient>,
    context: &mut Context<'_>,
) -> Result<Vec<Held>, CommandError> {
    super::need_root(context)?;
    recover::first(context)?;
    let host = Host::read(context.host)?;
    let functions = refuse::check(context, &host, &args.addresses, &args.allowed)?;
    load_vfio(context)?;
    let keeper = Keeper::new(context.host, context.writer);
    let signals = Signals::catch()?;
    let taken = keeper
        .take_all(&by_card(&host, &functions), Purpose::Hold, user)
        .map_err(outcome::take_error)?;
    if signals.came() {
        bring_back(&keeper, &taken, context)?;
        return Ok(Vec::new());
    }
    Ok(taken)
}

/// The functions of each card: a card has a lease of its own, and is returned by itself.
fn by_card(host: &Host, functions: &[Address]) -> Vec<Vec<Address>> {
    let mut cards: BTreeMap<Address, Vec<Address>> = BTreeMap::new();
    for address in functions {
        let card = host.card(*address);
        let name = card.known().map_or(*address, |card| card.address());
        cards.entry(name).or_default().push(*address);
    }
    cards.into_values().collect()
}

fn bring_back(
    keeper: &Keeper<'_>,
    taken: &[Held],
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let mut failed = None;
    for held in taken.iter().rev() {
        match keeper.give_back(held, &[]) {
            Ok(restored) => {
                for one in &restored {
                    writeln!(context.err, "interrupted: {}", outcome::restored_in_words(one))?;
                }
            }
            Err(error) => {
                if let Some(earlier) = failed.replace(outcome::take_error(error)) {
                    earlier.report(context.err);
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Says what a take would do, or fails as it would.
fn plan(
    functions: &[Address],
    user: Option<&Recipient>,
    context: &mut Context<'_>,
) -> Result<Exit, CommandError> {
    let keeper = Keeper::new(context.host, context.writer);
    let damaged = keeper.damaged().map_err(outcome::lease_error)?;
    if let Some(damaged) = damaged.iter().find(|one| one.is_about(functions)) {
        return Err(outcome::damaged(damaged));
    }
    let mut before = BTreeMap::new();
    for held in keeper.leases().map_err(outcome::lease_error)? {
        let Some(address) = functions.iter().find(|address| held.lease.holds(**address)) else {
            continue;
        };
        if held.state != State::Abandoned {
            return Err(outcome::taken(*address, &held.state));
        }
        let (card, pid) = (held.lease.card, held.lease.owner.pid);
        writeln!(context.err, "{card} would first be recovered from process {pid}, which died")?;
        before.extend(held.lease.before);
    }
    for address in functions {
        let binding = match before.remove(address) {
            Some(binding) => binding,
            None => Binding::read(context.host, *address)?,
        };
        let driver = binding.driver.as_deref().unwrap_or("no driver");
        match binding.is_vfio() {
            true => writeln!(context.out, "{address} would stay on {driver}")?,
            false => writeln!(context.out, "{address} would go from {driver} to vfio-pci")?,
        }
    }
    if let Some(user) = user {
        writeln!(context.out, "their device nodes would be given to {user}")?;
    }
    Ok(Exit::Done)
}

fn recipient(name: &str, context: &Context<'_>) -> Result<Recipient, CommandError> {
    user::find(context.host, context.runner, name).ok_or_else(|| {
        CommandError::new(Exit::Usage, format!("there is no user {name}"))
            .code("E-NO-USER")
            .hint("`getent passwd` lists the users of this host")
    })
}

/// Loads vfio-pci, unless it is there.
pub(super) fn load_vfio(context: &Context<'_>) -> Result<(), CommandError> {
    if is_known(context.host) {
        return Ok(());
    }
    let cannot = || {
        CommandError::new(Exit::HostCannot, "the kernel has no driver vfio-pci")
            .code("E-NO-VFIO-PCI")
            .hint("install the package with all modules of the running kernel")
    };
    let done = context
        .runner
        .run(&Program::new("modprobe").arg(VFIO_PCI))
        .map_err(|error| CommandError::from_source(Exit::HostCannot, error))?;
    if done.status.success() && is_known(context.host) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(said.trim().lines().fold(cannot(), |error, line| error.hint(format!("modprobe: {line}"))))
}

fn is_known(host: &Sysroot) -> bool {
    host.exists(format!("/sys/bus/pci/drivers/{VFIO_PCI}"))
}
