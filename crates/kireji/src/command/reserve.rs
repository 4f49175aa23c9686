//! `kireji reserve`: vfio-pci has a card from the next boot on.

use std::time::UNIX_EPOCH;

use host::Measured;
use pci::{Address, Host, Named};
use reserve::boot::{Boot, Clue};
use reserve::by_hand::{self, AdoptError, Adoption};
use reserve::goal::Goal;
use reserve::parameters;
use reserve::rescue;

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
    /// Take over from what reserves the card by hand already: ids on the kernel's command line or in
    /// modprobe.d, or driverctl
    #[arg(long, help_heading = "The change")]
    adopt: bool,
    /// Let it hold in one boot only: the next. `kireji verify --keep` makes it last, and a power cycle
    /// goes back
    #[arg(long, help_heading = "The change")]
    trial: bool,
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
    let adoption = by_hand(args.adopt, context, &host, &functions)?;
    let mut reservations = change::reservations(context)?
        .with(&host, &functions)
        .map_err(|why| CommandError::new(Exit::No, why).code("E-UNMEASURED"))?;
    if !args.trial {
        reservations.trial = None;
    } else if reservations.trial.is_none() {
        if !change::reservations(context)?.functions.is_empty() {
            let says = "a trial would take what is reserved already from every other boot";
            return Err(CommandError::new(Exit::Refused, says)
                .hint("reserve this card without `--trial`, or release the others first"));
        }
        reservations.trial = Some(trial_id(context));
    }
    if let Measured::Unmeasured { unmeasured } = &parameters {
        writeln!(context.err, "kernel parameters are left alone: {unmeasured}")?;
    }
    let parameters = parameters.known().cloned().unwrap_or_default();
    let goal = Goal::of(context.host, reservations, parameters)?.adopting(adoption);
    let reached = change::reach(&goal, &args.consent, context)?;
    if reached == Reached::Proved {
        let boot = Boot::read(context.host)?;
        writeln!(context.err, "\n{}", rescue::card(context.host, &boot)?)?;
        writeln!(context.err, "keep this at hand (`kireji explain rescue` shows it again);")?;
        let verify = if args.trial { "kireji verify --keep" } else { "kireji verify" };
        writeln!(context.err, "reboot now, then run `{verify}`")?;
    }
    Ok(reached.into())
}

/// What tells this trial from others: the second in which it began.
fn trial_id(context: &Context<'_>) -> String {
    let now = context.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}", now.as_secs())
}

/// What has to go of what a person reserved by hand; without their word, it is refused.
fn by_hand(
    adopts: bool,
    context: &mut Context<'_>,
    host: &Host,
    functions: &[Address],
) -> Result<Adoption, CommandError> {
    // Only root may read them, and nothing hangs on it.
    for machine in by_hand::libvirt(context.host, functions).unwrap_or_default() {
        writeln!(
            context.err,
            "libvirt gives the card to its machine {machine} too, which will find it on vfio-pci"
        )?;
    }
    if adopts {
        return Adoption::of(context.host, host, functions).map_err(|error| match error {
            AdoptError::Read(error) => error.into(),
            error => CommandError::from_source(Exit::Refused, error)
                .hint("take that apart by hand first, then `--adopt` takes over the card's part"),
        });
    }
    let clues = by_hand::find(context.host, host, functions)?;
    if clues.is_empty() {
        return Ok(Adoption::default());
    }
    let error = CommandError::new(Exit::Refused, "the card is reserved in another way already");
    let error = clues.iter().fold(error, |error, Clue { path, what, .. }| {
        error.reason(format!("{}: {what}", path.display()))
    });
    Err(error.hint(
        "two ways at once contradict each other silently; `--adopt` takes that out by the same plan",
    ))
}
