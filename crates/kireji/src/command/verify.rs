//! `kireji verify`: whether what is reserved is so, now and at the next boot.

use std::io::{self, Write};

use pci::Host;
use reserve::boot::Boot;
use reserve::config::Change;
use reserve::goal::Goal;
use reserve::proof::{self, Claim, Outcome};
use reserve::reservation::{Reservations, Reserved, Standing};

use crate::{CommandError, Context, Exit};

use super::change;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Verifies the reservations of this host.
///
/// # Errors
/// What it boots with cannot be read, or the output not written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let reservations = change::reservations(context)?;
    if reservations.functions.is_empty() && !args.json {
        writeln!(context.err, "nothing is reserved")?;
    }
    let host = Host::read(context.host)?;
    let mut claims: Vec<_> =
        reservations.functions.iter().map(|one| owner(&host, one, &reservations)).collect();
    let goal = Goal::of(context.host, reservations, Change::default())?;
    claims.extend(proof::prove(context.host, &Boot::read(context.host)?, &goal)?);
    if args.json {
        super::print_json(context, Report { claims: &claims })?;
    } else {
        write_claims(context.out, &claims)?;
    }
    Ok(if proof::is_proved(&claims) { Exit::Done } else { Exit::No })
}

#[derive(serde::Serialize)]
struct Report<'a> {
    claims: &'a [Claim],
}

/// Who has a reserved function now, and why not vfio-pci if not.
fn owner(host: &Host, reserved: &Reserved, all: &Reservations) -> Claim {
    let address = reserved.address;
    let outcome = match reserved.standing(host, all) {
        Standing::There { driver: Some(driver) } if driver == "vfio-pci" => Outcome::Pass(driver),
        Standing::There { driver: Some(driver) } => Outcome::Fail(format!(
            "{driver} has it; the kernel log says why: look for `kireji` in `dmesg`"
        )),
        Standing::There { driver: None } => Outcome::Fail("no driver has it".to_owned()),
        other => Outcome::Fail(elsewhere(&other)),
    };
    Claim { about: address.to_string(), claim: "vfio-pci has it", outcome }
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
