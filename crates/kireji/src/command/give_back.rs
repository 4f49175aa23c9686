//! `kireji return`: a card goes back to its former driver.

use pci::{Host, Named};
use vfio::take::{Keeper, TakeError};

use crate::signals::Signals;
use crate::{CommandError, Context, Exit};

use super::{outcome, recover, refuse};

/// Arguments of `return`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The card, or a function of it
    address: Named,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Returns a card that [`super::take::hold`] took.
///
/// # Errors
/// As [`run`].
pub(super) fn card(address: Named, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    run(&Args { address, json: false }, context)
}

/// Returns the card.
///
/// # Errors
/// The card is not held, is in use, or did not go back.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    super::need_root(context)?;
    recover::first(context)?;
    let keeper = Keeper::new(context.host, context.writer);
    let leases = keeper.leases().map_err(outcome::lease_error)?;
    let address = args.address.address;
    let named = |held: &&vfio::take::Held| {
        held.lease.holds(address) || (!args.address.has_function && held.lease.card == address)
    };
    let Some(held) = leases.iter().find(named) else {
        let damaged = keeper.damaged().map_err(outcome::lease_error)?;
        if let Some(damaged) = damaged.iter().find(|one| one.is_about(&[address])) {
            return Err(outcome::damaged(damaged));
        }
        return Err(not_held(context, address)?);
    };
    refuse::users(context, held)?;
    // What is begun is brought to its end, which is near.
    let _signals = Signals::catch()?;
    let restored = keeper.give_back(held, &[]).map_err(|error| match error {
        TakeError::Step { .. } => outcome::take_error(error)
            .hint("the lease stays: `kireji return` tries again, `kireji status` shows it"),
        other => outcome::take_error(other),
    })?;
    outcome::tell(&restored, args.json, context)?;
    Ok(outcome::restored_exit(&restored))
}

fn not_held(context: &Context<'_>, address: pci::Address) -> Result<CommandError, CommandError> {
    let host = Host::read(context.host)?;
    let driver = host.function(address).map(|function| function.driver.clone());
    let error = CommandError::new(Exit::HostCannot, format!("{address} is not held by kireji"))
        .code("E-NOT-HELD");
    Ok(match driver {
        None => error.hint("there is no such function: `kireji list` shows them"),
        Some(Some(driver)) => error.hint(format!("it is on its driver {driver}")),
        Some(None) => error.hint("it has no driver; if another tool took it, that tool returns it"),
    })
}
