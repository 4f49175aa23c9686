//! `kireji reserve`: vfio-pci has a card from the next boot on.

use host::Measured;
use pci::{Address, Host, Named};
use reserve::apply::{Applier, ApplyError, SystemDisk};
use reserve::boot::{Boot, Clue};
use reserve::by_hand;
use reserve::generator::Confidence;
use reserve::goal::{self, Goal, PlanError};
use reserve::parameters;
use reserve::plan::{self, Plan};
use reserve::proof;
use reserve::reservation::{ReservationError, Reservations};

use crate::{CommandError, Context, Exit};

use super::refuse::{self, Allowed};
use super::verify;

/// Arguments of `reserve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The card (29:00), or a function of it (29:00.0)
    #[arg(required = true)]
    addresses: Vec<Named>,
    #[command(flatten)]
    allowed: Allowed,
    /// Print what would change, as a patch and the commands that would run, and change nothing
    #[arg(long, required_unless_present = "yes")]
    dry_run: bool,
    /// Change it, build what is booted again, and prove it
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
}

/// Plans the reservation, prints the plan, and carries it out if that is wanted.
///
/// # Errors
/// Something would be lost, or there is no plan for this host.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    if args.yes {
        super::need_root(context)?;
    }
    let host = Host::read(context.host)?;
    let parameters = parameters::needed(context.host);
    let wants_parameters = parameters.known().is_some_and(|change| !change.is_empty());
    let functions =
        refuse::check_reserved(context, &host, &args.addresses, &args.allowed, wants_parameters)?;
    refuse_by_hand(context, &host, &functions)?;
    let boot = Boot::read(context.host)?;
    let reservations = Reservations::read(context.host)
        .map_err(reservation_error)?
        .with(&host, &functions)
        .map_err(|why| CommandError::new(Exit::No, why).code("E-UNMEASURED"))?;
    if let Measured::Unmeasured { unmeasured } = &parameters {
        writeln!(context.err, "kernel parameters are left alone: {unmeasured}")?;
    }
    let parameters = parameters.known().cloned().unwrap_or_default();
    let goal = Goal { reservations, parameters };
    let plan = goal::plan(context.host, &boot, &goal).map_err(plan_error)?;
    show(context, &boot, &plan)?;
    if !args.yes {
        return Ok(Exit::Done);
    }
    Applier::new(context.host, &SystemDisk, context.runner).apply(&plan).map_err(apply_error)?;
    let boot = Boot::read(context.host)?;
    let claims = proof::prove(context.host, &boot, &goal)?;
    verify::write_claims(context.err, &claims)?;
    if !proof::is_proved(&claims) {
        writeln!(
            context.err,
            "it is not proved: do not reboot before it is; `kireji undo` reverts it"
        )?;
        return Ok(Exit::Unproven);
    }
    writeln!(context.err, "reboot now, then run `kireji verify`")?;
    writeln!(
        context.err,
        "one boot goes without it with `kireji.off` on the kernel's command line"
    )?;
    Ok(Exit::Done)
}

/// An error of carrying a plan out or taking it back.
pub(super) fn apply_error(error: ApplyError) -> CommandError {
    let exit = match &error {
        ApplyError::Read(error) if error.is_denied() => Exit::Permission,
        ApplyError::Locked => Exit::Busy,
        ApplyError::Disk { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            Exit::NoSpace
        }
        ApplyError::Nothing => Exit::Usage,
        _ => Exit::HostCannot,
    };
    CommandError::from_source(exit, error)
}

fn show(context: &mut Context<'_>, boot: &Boot, plan: &Plan) -> Result<(), CommandError> {
    if plan.is_empty() {
        writeln!(context.err, "it is reserved already: nothing would change")?;
        return Ok(());
    }
    plan::write_diff(plan, context.out)?;
    let generator = goal::generator(boot).map_err(plan_error)?;
    let known = match generator.confidence() {
        Confidence::Hearsay => "is known by hearsay",
        Confidence::Source => "was read at its source",
        Confidence::RealTool => "was run on what is written here",
        Confidence::Lab => "was rebooted with",
    };
    writeln!(context.err, "{} builds the images of this host; it {known}", generator.builder())?;
    Ok(())
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

pub(super) fn reservation_error(error: ReservationError) -> CommandError {
    CommandError::from_source(Exit::HostCannot, error)
}

fn plan_error(error: PlanError) -> CommandError {
    let exit = match &error {
        PlanError::Read(error) if error.is_denied() => Exit::Permission,
        PlanError::Unmeasured { .. } => Exit::No,
        _ => Exit::HostCannot,
    };
    let clues = match &error {
        PlanError::Disagreed { clues } => clues.clone(),
        _ => Vec::new(),
    };
    clues.iter().fold(CommandError::from_source(exit, error), |error, clue| {
        error.reason(format!("{}: {} says {}", clue.path.display(), clue.what, clue.says))
    })
}
