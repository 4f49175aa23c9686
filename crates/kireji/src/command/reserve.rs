//! `kireji reserve`: vfio-pci has a card from the next boot on.

use host::Measured;
use pci::{Address, Host, Named};
use reserve::boot::Clue;
use reserve::by_hand;
use reserve::goal::Goal;
use reserve::parameters;

use crate::{CommandError, Context, Exit};

use super::change::{self, Consent, Reached};
use super::refuse::{self, Allowed};

/// Arguments of `reserve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The card (29:00), or a function of it (29:00.0)
    #[arg(required = true)]
    addresses: Vec<Named>,
    #[command(flatten)]
    allowed: Allowed,
    #[command(flatten)]
    consent: Consent,
}

/// Plans the reservation, prints the plan, and carries it out if that is wanted.
///
/// # Errors
/// Something would be lost, or there is no plan for this host.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    args.consent.check(context)?;
    let host = Host::read(context.host)?;
    let parameters = parameters::needed(context.host);
    let wants_parameters = parameters.known().is_some_and(|change| !change.is_empty());
    let functions =
        refuse::check_reserved(context, &host, &args.addresses, &args.allowed, wants_parameters)?;
    refuse_by_hand(context, &host, &functions)?;
    let reservations = change::reservations(context)?
        .with(&host, &functions)
        .map_err(|why| CommandError::new(Exit::No, why).code("E-UNMEASURED"))?;
    if let Measured::Unmeasured { unmeasured } = &parameters {
        writeln!(context.err, "kernel parameters are left alone: {unmeasured}")?;
    }
    let parameters = parameters.known().cloned().unwrap_or_default();
    let goal = Goal::of(context.host, reservations, parameters)?;
    let reached = change::reach(&goal, args.consent, context)?;
    if reached == Reached::Proved {
        writeln!(context.err, "reboot now, then run `kireji verify`")?;
        writeln!(
            context.err,
            "one boot goes without it with `kireji.off` on the kernel's command line"
        )?;
    }
    Ok(reached.into())
}

fn refuse_by_hand(
    context: &Context<'_>,
    host: &Host,
    functions: &[Address],
) -> Result<(), CommandError> {
    let clues = by_hand::find(context.host, host, functions)?;
    if clues.is_empty() {
        return Ok(());
    }
    let error = CommandError::new(Exit::Refused, "the card is reserved in another way already");
    let error = clues.iter().fold(error, |error, Clue { path, what, .. }| {
        error.reason(format!("{}: {what}", path.display()))
    });
    Err(error.hint("take that out first: two ways at once contradict each other silently"))
}
