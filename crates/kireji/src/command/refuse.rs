//! What stands between a card and its being taken, as the user sees and overrides it.

use std::collections::BTreeSet;

use pci::refusal::{self, Allow, Code, Options, Refusal, Target};
use pci::uses::{Scope, Uses, session_address};
use pci::{Address, Holders, Host, Named};
use vfio::take::Held;

use crate::{CommandError, Context, Exit};

/// The options that widen what is taken, or allow what would be refused.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "What may go with it")]
pub struct Allowed {
    /// Take the named function only, and what must go with it, not the whole card
    #[arg(long)]
    pub function: bool,
    /// Take all of the IOMMU group
    #[arg(long)]
    pub with_group: bool,
    /// Allow what would be refused with this code (can be repeated); `data-loss=SERIAL` allows the
    /// loss of one disk's data
    #[arg(long, value_name = "CODE")]
    pub allow: Vec<Allow>,
    /// Take a display from its native driver
    #[arg(long)]
    pub force_unbind: bool,
}

/// Returns the functions to take, if nothing forbids it.
pub(super) fn check(
    context: &mut Context<'_>,
    host: &Host,
    named: &[Named],
    allowed: &Allowed,
) -> Result<Vec<Address>, CommandError> {
    judge(context, host, named, allowed, true, &[])
}

/// Returns the functions to reserve for the next boot, if nothing forbids it. That they are in use
/// now is no matter then, nor that they are in no IOMMU group where the plan turns the IOMMU on.
pub(super) fn check_reserved(
    context: &mut Context<'_>,
    host: &Host,
    named: &[Named],
    allowed: &Allowed,
    turns_iommu_on: bool,
) -> Result<Vec<Address>, CommandError> {
    // A display changes hands at boot, when its own driver has not seen it yet.
    let changed = [Code::DisplayNative, Code::NoGroup];
    let count = if turns_iommu_on { 2 } else { 1 };
    judge(context, host, named, allowed, false, &changed[..count])
}

/// `now` says whether the functions would change hands at once; what the refusals of `changed` say
/// will be otherwise by then.
fn judge(
    context: &mut Context<'_>,
    host: &Host,
    named: &[Named],
    allowed: &Allowed,
    now: bool,
    changed: &[Code],
) -> Result<Vec<Address>, CommandError> {
    let target = |named: &Named| {
        if host.function(named.address).is_none() {
            return Err(no_function(named.address));
        }
        Ok(match allowed.function {
            true => Target::Function(named.address),
            false => Target::Card(named.address),
        })
    };
    let targets = named.iter().map(target).collect::<Result<Vec<_>, _>>()?;
    let selection = refusal::select(host, &targets, allowed.with_group);
    let session = session_address(context.host, context.vars.ssh_connection.as_deref());
    let examined = BTreeSet::from_iter(selection.functions.iter().copied());
    let uses = Uses::read(context.host, host, &Scope { examined, session });
    let storage = uses.storage.known();
    let holders =
        now.then(|| Holders::read(context.host, host, &selection.functions, storage, &[]));
    let options = Options { allow: allowed.allow.clone(), force_unbind: allowed.force_unbind };
    let mut verdict = refusal::judge(host, &selection, &uses, holders.as_ref(), &options);
    verdict.refused.retain(|refusal| !changed.contains(&refusal.code));
    if !now && let Some(displays) = uses.displays.known() {
        let headless = refusal::headless(host, &selection.functions, displays);
        match allowed.allow.contains(&Allow::Code(Code::Headless)) {
            true => verdict.allowed.extend(headless),
            false => verdict.refused.extend(headless),
        }
    }
    if !verdict.is_free() {
        return Err(refused(&verdict.refused));
    }
    for allowed in &verdict.allowed {
        writeln!(context.err, "allowed: {} [{}]", allowed.reason, allowed.code)?;
    }
    Ok(selection.functions)
}

/// The error of an address at which there is nothing.
pub(super) fn no_function(address: Address) -> CommandError {
    CommandError::new(Exit::Usage, format!("there is no PCI function {address}"))
        .hint("`kireji list` shows the functions of this host")
}

fn refused(refusals: &[Refusal]) -> CommandError {
    let in_use = |refusal: &Refusal| matches!(refusal.code, Code::InUse | Code::VfioInUse);
    let (exit, message) = if refusals.iter().all(in_use) {
        (Exit::Busy, "the card is in use")
    } else {
        (Exit::Refused, "the card is not given away")
    };
    let mut error = CommandError::new(exit, message);
    for refusal in refusals {
        error = error.reason(format!("{} [{}]", refusal.reason, refusal.code));
    }
    // The kernel refuses a function that is in no group, whatever is allowed.
    if let [only] = refusals
        && only.code != Code::NoGroup
        && let Some(option) = only.option()
    {
        error = error.hint(format!("`{option}` takes it all the same"));
    }
    error.hint(format!("`kireji explain {}` says more", refusals[0].code))
}

/// Refuses to return a card that a process drives through VFIO: the unbind would wait for it
/// without end.
pub(super) fn users(context: &Context<'_>, held: &Held) -> Result<(), CommandError> {
    let functions: Vec<_> = held.lease.before.iter().map(|(address, _)| *address).collect();
    users_of(context, held.lease.card, &functions)
        .map_err(|error| error.hint("the kernel would wait for it without end"))
}

/// Refuses what would disturb a process that drives functions of a card through VFIO.
pub(super) fn users_of(
    context: &Context<'_>,
    card: Address,
    functions: &[Address],
) -> Result<(), CommandError> {
    let host = Host::read(context.host)?;
    let holders = Holders::read(context.host, &host, functions, None, &[]);
    let mut users = holders.found.iter().filter(|holder| holder.is_vfio).peekable();
    if users.peek().is_none() {
        return Ok(());
    }
    let error = CommandError::new(Exit::Busy, format!("{card} is in use"));
    Err(users
        .fold(error, |error, user| {
            let (function, node) = (user.function, &user.node);
            error.reason(format!("{function} → {node} → process {} ({})", user.pid, user.command))
        })
        .code(Code::VfioInUse.as_str())
        .hint("end that process first"))
}
