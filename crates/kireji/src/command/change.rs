//! How what the host boots with is changed: the plan shown, agreed to, carried out and proved.

use pci::Address;
use reserve::apply::{Applier, ApplyError, SystemDisk};
use reserve::boot::Boot;
use reserve::goal::{self, Goal, PlanError};
use reserve::plan::{self, Plan};
use reserve::proof;
use reserve::reservation::{ReservationError, Reservations};

use crate::{CommandError, Context, Exit};

use super::verify;

/// Whether a plan is only shown, or carried out and on whose word.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Consent {
    /// Print what would change, as a patch and the commands that would run, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before the change
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
}

impl Consent {
    /// Sees, before anything is read, that a change which is wanted can be made: by whom it is
    /// called and how. What an earlier one left half done is taken back first.
    pub(super) fn check(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        if self.dry_run {
            return Ok(());
        }
        super::need_root_for("changing what this host boots with", context)?;
        if !self.yes && context.vars.answer.is_none() {
            return Err(CommandError::new(Exit::Usage, "there is no terminal to ask on")
                .hint("`--dry-run` shows what would change, and `--yes` changes it"));
        }
        take_back_pending(context)
    }

    /// Asks the person, unless they agreed beforehand.
    fn is_given(self, context: &mut Context<'_>) -> Result<bool, CommandError> {
        if self.yes {
            return Ok(true);
        }
        write!(context.err, "change this, and build what is booted again? [y/N] ")?;
        context.err.flush()?;
        let Some(answer) = context.vars.answer else { return Ok(false) };
        let answer = answer()?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

/// Gets the host to a goal, as far as the person agrees; returns whether it is there and proved.
pub(super) fn reach(
    goal: &Goal,
    consent: Consent,
    context: &mut Context<'_>,
) -> Result<Reached, CommandError> {
    let boot = Boot::read(context.host)?;
    let plan = goal::plan(context.host, &boot, goal).map_err(plan_error)?;
    show(context, &plan)?;
    if consent.dry_run {
        return Ok(Reached::Shown);
    }
    if !plan.is_empty() {
        if let Some(known) = plan.hearsay() {
            let says = format!("{} is {}, and not changed", known.backend, known.confidence);
            return Err(CommandError::new(Exit::HostCannot, says).hint(
                "the plan above says what to do by hand; `kireji verify` looks at the result",
            ));
        }
        if !consent.is_given(context)? {
            writeln!(context.err, "nothing was changed")?;
            return Ok(Reached::Declined);
        }
        Applier::new(context.host, &SystemDisk, context.runner)
            .apply(&plan)
            .map_err(apply_error)?;
    }
    prove(goal, context)
}

/// How far a host got to a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// The plan was shown, and no more was wanted.
    Shown,
    /// The person did not agree.
    Declined,
    /// It is there, and that is proved.
    Proved,
    /// It is there, but something speaks against it.
    Unproven,
}

impl From<Reached> for Exit {
    fn from(reached: Reached) -> Self {
        match reached {
            Reached::Shown | Reached::Proved => Self::Done,
            Reached::Declined => Self::No,
            Reached::Unproven => Self::Unproven,
        }
    }
}

/// Proves from what was built that the host is at a goal, and says so.
pub(super) fn prove(goal: &Goal, context: &mut Context<'_>) -> Result<Reached, CommandError> {
    let boot = Boot::read(context.host)?;
    let claims = proof::prove(context.host, &boot, goal)?;
    verify::write_claims(context.err, &claims)?;
    if proof::is_proved(&claims) {
        return Ok(Reached::Proved);
    }
    writeln!(
        context.err,
        "it is not proved: do not reboot before it is; `kireji undo` reverts it"
    )?;
    Ok(Reached::Unproven)
}

/// Takes back what was cut off, on the way to another change.
pub(super) fn take_back_pending(context: &mut Context<'_>) -> Result<(), CommandError> {
    let applier = Applier::new(context.host, &SystemDisk, context.runner);
    if applier.is_pending() {
        writeln!(context.err, "a change of what this host boots with was cut off: taking it back")?;
        applier.recover().map_err(apply_error)?;
    }
    Ok(())
}

fn show(context: &mut Context<'_>, plan: &Plan) -> Result<(), CommandError> {
    if plan.is_empty() {
        writeln!(context.err, "it is so already: nothing would change")?;
        return Ok(());
    }
    plan::write_diff(plan, context.out)?;
    context.out.flush()?;
    for known in &plan.knowledge {
        writeln!(context.err, "{}: {}", known.backend, known.confidence)?;
    }
    Ok(())
}

/// Reads what is reserved.
pub(super) fn reservations(context: &Context<'_>) -> Result<Reservations, CommandError> {
    Reservations::read(context.host).map_err(reservation_error)
}

/// Addresses in one text.
pub(super) fn listed(addresses: impl IntoIterator<Item = Address>) -> String {
    let texts: Vec<_> = addresses.into_iter().map(|address| address.to_string()).collect();
    texts.join(" ")
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

fn reservation_error(error: ReservationError) -> CommandError {
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
