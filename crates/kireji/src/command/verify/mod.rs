//! `kireji verify`: whether what is reserved is so, now and at the next boot.

mod now;

use std::io::{self, Write};

use pci::Host;
use reserve::boot::Boot;
use reserve::config::Change;
use reserve::goal::Goal;
use reserve::proof::{self, Claim, Outcome};
use reserve::reservation::Standing;

use crate::{CommandError, Context, Exit};

use super::change::{self, Consent};
use super::pending;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON document
    #[arg(long, conflicts_with = "keep")]
    json: bool,
    /// Make a reservation last that holds in a trial boot, if all of it is verified there
    #[arg(long)]
    keep: bool,
}

/// Verifies the reservations of this host.
///
/// # Errors
/// What it boots with cannot be read, or the output not written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    pending::tell(context)?;
    let reservations = change::reservations(context)?;
    if reservations.functions.is_empty() && !args.json {
        writeln!(context.err, "nothing is reserved")?;
    }
    if args.keep {
        super::need_root_for("changing what this host boots with", context)?;
        change::take_back_pending(context)?;
    }
    let host = Host::read(context.host)?;
    let mut claims = now::functions(context, &host, &reservations);
    let mut goal = Goal::of(context.host, reservations, Change::default())?;
    let boot = Boot::read(context.host)?;
    claims.extend(now::boot(context, &boot, &goal)?);
    claims.extend(proof::prove(context.host, &boot, &goal)?);
    if args.json {
        super::print_json(context, Report { claims: &claims })?;
    } else {
        write_claims(context.out, &claims)?;
    }
    if !proof::is_proved(&claims) {
        return Ok(Exit::No);
    }
    if args.keep && goal.reservations.trial.is_some() {
        goal.reservations.trial = None;
        return Ok(change::reach(&goal, &Consent::given(), context)?.into());
    }
    Ok(Exit::Done)
}

#[derive(serde::Serialize)]
struct Report<'a> {
    claims: &'a [Claim],
}

/// Says where a function is that is not at its address.
pub(super) fn elsewhere(standing: &Standing) -> String {
    match standing {
        Standing::Moved { to } => {
            format!("the card moved to {to}; `kireji reserve {to}` points the reservation there")
        }
        Standing::Foreign { ids } => format!("another card is there: {ids}"),
        Standing::Absent | Standing::There { .. } => "nothing is at this address".to_owned(),
    }
}

/// Writes claims, a line each.
pub(super) fn write_claims(out: &mut dyn Write, claims: &[Claim]) -> io::Result<()> {
    for Claim { about, claim, outcome } in claims {
        let (verdict, why) = match outcome {
            Outcome::Pass(what) => ("PASS", what),
            Outcome::Fail(why) => ("FAIL", why),
            Outcome::Unmeasured(why) => ("unmeasured", why),
        };
        writeln!(out, "{verdict:<10}  {about}: {claim}: {why}")?;
    }
    Ok(())
}
