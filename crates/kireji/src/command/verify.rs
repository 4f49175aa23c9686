//! `kireji verify`: whether what is reserved is so, now and at the next boot.

use std::io::{self, Write};

use pci::Host;
use reserve::boot::Boot;
use reserve::config::Change;
use reserve::goal::Goal;
use reserve::proof::{self, Claim, Outcome};
use reserve::reservation::{Identity, Reservations};

use crate::{CommandError, Context, Exit};

use super::reserve::reservation_error;

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
    let reservations = Reservations::read(context.host).map_err(reservation_error)?;
    if reservations.functions.is_empty() && !args.json {
        writeln!(context.err, "nothing is reserved")?;
    }
    let host = Host::read(context.host)?;
    let mut claims: Vec<_> =
        reservations.functions.iter().map(|reserved| owner(&host, reserved)).collect();
    let goal = Goal { reservations, parameters: Change::default() };
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
fn owner(host: &Host, reserved: &reserve::reservation::Reserved) -> Claim {
    let address = reserved.address;
    let outcome = match host.function(address) {
        None => {
            let same = |function: &&pci::Function| Identity::of(function) == reserved.identity;
            match host.functions().find(same) {
                Some(moved) => Outcome::Fail(format!(
                    "nothing is at this address; such a card is at {}",
                    moved.address
                )),
                None => Outcome::Fail("nothing is at this address".to_owned()),
            }
        }
        Some(function) if Identity::of(function) != reserved.identity => {
            Outcome::Fail(format!("another card is there: {}", function.ids))
        }
        Some(function) => match function.driver.as_deref() {
            Some("vfio-pci") => Outcome::Pass("vfio-pci".to_owned()),
            Some(driver) => Outcome::Fail(format!(
                "{driver} has it; the kernel log says why: look for `kireji` in `dmesg`"
            )),
            None => Outcome::Fail("no driver has it".to_owned()),
        },
    };
    Claim { about: address.to_string(), claim: "vfio-pci has it", outcome }
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
