//! `kireji return`: a card goes back to its former driver.

use pci::{Address, Host, Named};
use vfio::take::{Keeper, Restored, TakeError};

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

/// Returns cards that [`super::take::hold`] took, the last first. What goes wrong with one is no
/// reason to keep another; of several errors the last is returned, and the others are told.
///
/// # Errors
/// As [`run`].
pub(super) fn cards(cards: &[Address], context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let mut ended: Result<_, CommandError> = Ok(Exit::Done);
    for card in cards.iter().rev() {
        let one = restore(Named { address: *card, has_function: false }, context);
        let one = one.map(|restored| {
            for one in &restored {
                // That nobody reads it is no reason either.
                drop(writeln!(context.err, "{}", outcome::restored_in_words(one)));
            }
            outcome::restored_exit(&restored)
        });
        ended = match (ended, one) {
            (Err(first), Err(error)) => {
                first.report(context.err);
                Err(error)
            }
            (Ok(Exit::Done), one) => one,
            (ended, Ok(_)) => ended,
            (Ok(_), Err(error)) => Err(error),
        };
    }
    ended
}

/// Returns the card.
///
/// # Errors
/// The card is not held, is in use, or did not go back.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let restored = restore(args.address, context)?;
    outcome::tell(&restored, args.json, context)?;
    Ok(outcome::restored_exit(&restored))
}

fn restore(named: Named, context: &mut Context<'_>) -> Result<Vec<Restored>, CommandError> {
    super::need_root(context)?;
    recover::first(context)?;
    let keeper = Keeper::new(context.host, context.writer);
    let leases = keeper.leases().map_err(outcome::lease_error)?;
    let address = named.address;
    let is_meant = |held: &&vfio::take::Held| {
        held.lease.holds(address) || (!named.has_function && held.lease.card == address)
    };
    let Some(held) = leases.iter().find(is_meant) else {
        let damaged = keeper.damaged().map_err(outcome::lease_error)?;
        if let Some(damaged) = damaged.iter().find(|one| one.is_about(&[address])) {
            return Err(outcome::damaged(damaged));
        }
        return Err(not_held(context, address)?);
    };
    refuse::users(context, held)?;
    // What is begun is brought to its end, which is near.
    let _signals = Signals::catch()?;
    keeper.give_back(held, &[]).map_err(|error| match error {
        TakeError::Step { .. } => outcome::take_error(error)
            .hint("the lease stays: `kireji return` tries again, `kireji status` shows it"),
        other => outcome::take_error(other),
    })
}

fn not_held(context: &Context<'_>, address: Address) -> Result<CommandError, CommandError> {
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
