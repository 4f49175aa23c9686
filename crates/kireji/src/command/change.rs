//! How what the host boots with is changed: the plan shown, agreed to, carried out and proved.

use std::io;

use pci::{Address, Host};
use reserve::apply::{Applier, ApplyError, Conflict, SystemDisk};
use reserve::boot::{Boot, Clue};
use reserve::goal::{self, Goal, PlanError};
use reserve::instructions::{self, Told};
use reserve::parameters::ParameterError;
use reserve::plan::{self, Plan};
use reserve::proof;
use reserve::reservation::{ReservationError, Reservations};
use reserve::risk::{self, Kind, Risk};

use crate::{CommandError, Context, Exit};

use super::{pending, verify};

/// Whether a plan is only shown, or carried out and on whose word.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The change")]
pub struct Consent {
    /// Print what would change, as a patch and the commands that would run, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before the change
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Accept a risk that the plan names: `sealed`, with the volume's recovery key at hand;
    /// `signature`; or `space` (can be repeated)
    #[arg(long, value_name = "RISK", value_parser = ["sealed", "signature", "space"])]
    accept: Vec<String>,
}

impl Consent {
    /// Consent to what was agreed to before, without its risks.
    pub(super) fn given() -> Self {
        Self { dry_run: false, yes: true, accept: Vec::new() }
    }

    /// Sees, before anything is read, that a change which is wanted can be made: by whom it is
    /// called and how. What an earlier one left half done is taken back first.
    pub(super) fn check(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        if self.dry_run {
            return pending::tell(context);
        }
        super::need_root_for("changing what this host boots with", context)?;
        if !self.yes && context.vars.answer.is_none() {
            return Err(CommandError::new(Exit::Usage, "there is no terminal to ask on")
                .hint("`--dry-run` shows what would change, and `--yes` changes it"));
        }
        take_back_pending(context)
    }

    /// Asks the person, unless they agreed beforehand.
    fn is_given(&self, context: &mut Context<'_>) -> Result<bool, CommandError> {
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
    consent: &Consent,
    context: &mut Context<'_>,
) -> Result<Reached, CommandError> {
    let boot = Boot::read(context.host)?;
    if let Some(told) = instructions::told(context.host, &boot) {
        return tell(told, goal, consent, context);
    }
    let is_root = context.vars.is_root;
    let plan = goal::plan(context.host, &boot, goal).map_err(|error| plan_error(error, is_root))?;
    let plan = fitted(plan, context)?;
    show(context, &plan)?;
    let risks = if plan.is_empty() { Vec::new() } else { risk::find(context.host, &boot)? };
    for Risk { kind, reason, remedy } in &risks {
        writeln!(context.err, "risk ({}): {reason}; {remedy}", kind.name())?;
    }
    if consent.dry_run {
        return Ok(Reached::Shown);
    }
    if !plan.is_empty() {
        refuse_risks(&risks, consent)?;
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
            .map_err(|error| apply_error(error, context))?;
    }
    prove(goal, context)
}

/// Prints what a person has to do on a system that is not changed from outside.
fn tell(
    told: Told,
    goal: &Goal,
    consent: &Consent,
    context: &mut Context<'_>,
) -> Result<Reached, CommandError> {
    let host = Host::read(context.host)?;
    let text = instructions::instructions(told, &host, goal)
        .map_err(|error| CommandError::from_source(Exit::Refused, error))?;
    write!(context.out, "{text}")?;
    context.out.flush()?;
    match consent.dry_run {
        true => Ok(Reached::Shown),
        false => {
            Err(CommandError::new(Exit::HostCannot, "this system is not changed from outside")
                .hint("do what is printed above, reboot, and run `kireji list`"))
        }
    }
}

/// Refuses what could break more than it should, unless the person accepts it.
fn refuse_risks(risks: &[Risk], consent: &Consent) -> Result<(), CommandError> {
    let is_accepted = |risk: &&Risk| consent.accept.iter().any(|name| name == risk.kind.name());
    let left: Vec<_> = risks.iter().filter(|risk| !is_accepted(risk)).collect();
    let Some(first) = left.first() else { return Ok(()) };
    let exit = match left.iter().all(|risk| risk.kind == Kind::Space) {
        true => Exit::NoSpace,
        false => Exit::Refused,
    };
    let error = CommandError::new(exit, "the change could break more than it should");
    let error = left.iter().fold(error, |error, risk| error.reason(risk.reason.clone()));
    Err(error
        .hint(first.remedy)
        .hint(format!("`--accept {}` changes it all the same", first.kind.name())))
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

/// Whether a change was cut off, and waits to be taken back; only root sees that.
pub(super) fn is_pending(context: &Context<'_>) -> bool {
    Applier::new(context.host, &SystemDisk, context.runner).is_pending()
}

/// Takes back what was cut off, on the way to another change.
pub(super) fn take_back_pending(context: &mut Context<'_>) -> Result<(), CommandError> {
    let applier = Applier::new(context.host, &SystemDisk, context.runner);
    if applier.is_pending() {
        writeln!(context.err, "a change of what this host boots with was cut off: taking it back")?;
        applier.recover().map_err(|error| apply_error(error, context))?;
    }
    Ok(())
}

/// Returns the plan with what somebody else changed since in files that kireji wrote.
fn fitted(plan: Plan, context: &mut Context<'_>) -> Result<Plan, CommandError> {
    // What was applied may be read by root alone, who alone can carry a plan out.
    if !context.vars.is_root {
        return Ok(plan);
    }
    let applier = Applier::new(context.host, &SystemDisk, context.runner);
    applier.fit(plan).map_err(|error| apply_error(error, context))
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

/// An error of carrying a plan out or taking it back. Where two changed the same, both are shown.
pub(super) fn apply_error(error: ApplyError, context: &mut Context<'_>) -> CommandError {
    if let ApplyError::Foreign(conflict) = &error
        && let Err(error) = write_conflict(conflict, context.err)
    {
        return error.into();
    }
    let exit = match &error {
        ApplyError::Read(error) if error.is_denied() => Exit::Permission,
        ApplyError::Foreign(_) => Exit::Refused,
        ApplyError::Locked | ApplyError::Running { .. } => Exit::Busy,
        ApplyError::Disk { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            Exit::NoSpace
        }
        ApplyError::Nothing => Exit::Usage,
        _ => Exit::HostCannot,
    };
    let hint = match &error {
        ApplyError::Foreign(_) => {
            Some("bring the two together by hand, as kireji left it or as it wants it")
        }
        ApplyError::Running { .. } => {
            Some("when it has ended, `kireji recover` takes the change back")
        }
        _ => None,
    };
    let error = CommandError::from_source(exit, error);
    hint.into_iter().fold(error, CommandError::hint)
}

fn write_conflict(conflict: &Conflict, out: &mut dyn io::Write) -> io::Result<()> {
    let path = conflict.path.display();
    writeln!(out, "what somebody else changed in {path}:")?;
    plan::write_change(&conflict.theirs(), out)?;
    writeln!(out, "what kireji would change in it:")?;
    plan::write_change(&conflict.ours(), out)
}

fn reservation_error(error: ReservationError) -> CommandError {
    let is_damaged = matches!(error, ReservationError::Line { .. });
    let error = CommandError::from_source(Exit::HostCannot, error);
    match is_damaged {
        true => error.hint("mend or remove that line by hand"),
        false => error,
    }
}

fn plan_error(error: PlanError, is_root: bool) -> CommandError {
    let exit = match &error {
        PlanError::Read(error) if error.is_denied() => Exit::Permission,
        PlanError::Unmeasured { .. } => Exit::No,
        _ => Exit::HostCannot,
    };
    let reasons = match &error {
        PlanError::Disagreed { clues } => clues.iter().map(said).collect(),
        PlanError::Loaders { clues } => clues.iter().map(said).collect(),
        _ => Vec::new(),
    };
    let is_untraced = matches!(error, PlanError::Parameters(ParameterError::Untraced { .. }));
    // Of images that root alone may read, others cannot tell who built them.
    let is_hidden = matches!(error, PlanError::Unmeasured { .. }) && !is_root;
    let error = CommandError::from_source(exit, error);
    let error = reasons.into_iter().fold(error, CommandError::reason);
    match (is_hidden, is_untraced) {
        (true, _) => error.hint("as root, all images can be read"),
        (_, true) => error.hint(
            "take it out by hand; if it is in no file any more, build the boot loader's menu again",
        ),
        _ => error,
    }
}

/// What speaks for one of several, and what it says.
fn said<T: std::fmt::Display>(clue: &Clue<T>) -> String {
    format!("{}: {} says {}", clue.path.display(), clue.what, clue.says)
}
