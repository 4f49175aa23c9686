//! `kireji release`: a card is its own driver's again from the next boot on.

use pci::{Address, Named};
use reserve::config::Change;
use reserve::goal::Goal;
use reserve::reservation::Reservations;

use crate::{CommandError, Context, Exit};

use super::change::{self, Consent, Reached};

/// Arguments of `release`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The card (29:00), or a function of it (29:00.0), as it was reserved
    #[arg(required = true)]
    addresses: Vec<Named>,
    /// Release the named function only, not the whole card
    #[arg(long)]
    function: bool,
    #[command(flatten)]
    consent: Consent,
}

/// Plans the release, prints the plan, and carries it out if that is wanted.
///
/// # Errors
/// Nothing of the kind is reserved, or there is no plan for this host.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    args.consent.check(context)?;
    let reservations = change::reservations(context)?;
    let mut functions = Vec::new();
    for named in &args.addresses {
        functions.extend(reserved(&reservations, named.address, args.function)?);
    }
    let goal = Goal::of(context.host, reservations.without(&functions), Change::default())?;
    let reached = change::reach(&goal, &args.consent, context)?;
    if reached == Reached::Proved {
        let functions = change::listed(functions);
        writeln!(context.err, "{functions}: its own driver has it again from the next boot on")?;
    }
    Ok(reached.into())
}

/// The reserved functions that an address means. What it was reserved as counts, since the card
/// itself may be gone.
fn reserved(
    reservations: &Reservations,
    address: Address,
    is_single: bool,
) -> Result<Vec<Address>, CommandError> {
    let all = &reservations.functions;
    let Some(meant) = all.iter().find(|one| one.address == address || one.card == address) else {
        let error = CommandError::new(Exit::Usage, format!("{address} is not reserved"));
        return Err(match all.is_empty() {
            true => error.hint("nothing is"),
            false => error.hint(format!(
                "reserved is: {}",
                change::listed(all.iter().map(|one| one.address))
            )),
        });
    };
    let is_meant = |one: &&reserve::reservation::Reserved| match is_single {
        true => one.address == address,
        false => one.card == meant.card,
    };
    Ok(all.iter().filter(is_meant).map(|one| one.address).collect())
}
