//! `kireji status`: which cards are held.

use reserve::reservation::{Reserved, Standing};
use serde::Serialize;
use vfio::take::{Damaged, Held, Keeper, Purpose, Recipient, State};

use crate::table::Table;
use crate::{CommandError, Context, Exit};

use super::{change, outcome, pending, verify};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    leases: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged: Vec<Damaged>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reserved: Vec<AtBoot>,
}

/// A function that is reserved at boot.
#[derive(Serialize)]
struct AtBoot {
    card: pci::Address,
    address: pci::Address,
    #[serde(flatten)]
    standing: Standing,
}

/// A lease, for programs.
#[derive(Serialize)]
pub(super) struct Row {
    card: pci::Address,
    functions: Vec<pci::Address>,
    purpose: Purpose,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Recipient>,
    #[serde(flatten)]
    state: State,
    drivers_before: Vec<Option<String>>,
}

/// Shows the leases of this host.
///
/// # Errors
/// The leases cannot be listed, or the output not written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let keeper = Keeper::new(context.host, context.writer);
    let leases = keeper.leases().map_err(outcome::lease_error)?;
    let damaged = keeper.damaged().map_err(outcome::lease_error)?;
    pending::tell(context)?;
    let reserved = at_boot(context)?;
    if args.json {
        let leases = leases.iter().map(row).collect();
        super::print_json(context, Report { leases, damaged, reserved })?;
        return Ok(Exit::Done);
    }
    if leases.is_empty() && damaged.is_empty() {
        writeln!(context.out, "No card is held.")?;
    } else {
        held_table(&leases, &damaged).write(context.out, context.width)?;
    }
    if !reserved.is_empty() {
        let mut table = Table::new(["RESERVED AT BOOT", "CARD", "NOW"]);
        for one in &reserved {
            table.row([one.address.to_string(), one.card.to_string(), now(&one.standing)]);
        }
        writeln!(context.out)?;
        table.write(context.out, context.width)?;
    }
    Ok(Exit::Done)
}

/// What is reserved at boot, and what is so there now.
fn at_boot(context: &Context<'_>) -> Result<Vec<AtBoot>, CommandError> {
    let reservations = change::reservations(context)?;
    if reservations.functions.is_empty() {
        return Ok(Vec::new());
    }
    let host = pci::Host::read(context.host)?;
    let stand = |one: &Reserved| AtBoot {
        card: one.card,
        address: one.address,
        standing: one.standing(&host, &reservations),
    };
    Ok(reservations.functions.iter().map(stand).collect())
}

fn now(standing: &Standing) -> String {
    match standing {
        Standing::There { driver: Some(driver) } if driver == "vfio-pci" => {
            "vfio-pci has it".to_owned()
        }
        Standing::There { driver: Some(driver) } => {
            format!("{driver} has it; `kireji verify` says more")
        }
        Standing::There { driver: None } => {
            "no driver has it; `kireji verify` says more".to_owned()
        }
        other => verify::elsewhere(other),
    }
}

fn held_table(leases: &[Held], damaged: &[Damaged]) -> Table {
    let mut table = Table::new(["CARD", "FUNCTIONS", "FORMER DRIVER", "STATE"]);
    for held in leases {
        let before = held.lease.before.iter();
        let functions: Vec<_> = before.clone().map(|(address, _)| address.to_string()).collect();
        let drivers: Vec<_> =
            before.map(|(_, binding)| binding.driver.as_deref().unwrap_or("none")).collect();
        table.row([
            held.lease.card.to_string(),
            functions.join(" "),
            drivers.join(" "),
            in_words(held),
        ]);
    }
    for one in damaged {
        let name = match one.card {
            Some(card) => card.to_string(),
            None => one.path.display().to_string(),
        };
        let unknown = || "?".to_owned();
        table.row([name, unknown(), unknown(), format!("cannot be used: {}", one.reason)]);
    }
    table
}

pub(super) fn row(held: &Held) -> Row {
    let before = held.lease.before.iter();
    Row {
        card: held.lease.card,
        functions: before.clone().map(|(address, _)| *address).collect(),
        purpose: held.lease.purpose,
        user: held.lease.user.clone(),
        state: held.state.clone(),
        drivers_before: before.map(|(_, binding)| binding.driver.clone()).collect(),
    }
}

/// Says how a lease stands.
pub(super) fn in_words(held: &Held) -> String {
    match &held.state {
        State::Held => match &held.lease.user {
            Some(user) => format!("held for {user} until `kireji return`"),
            None => "held until `kireji return`".to_owned(),
        },
        State::Busy { pid } => match held.lease.purpose {
            Purpose::Hold => format!("being taken or returned by process {pid}"),
            Purpose::Run => format!("in use by the run of process {pid}"),
        },
        State::Abandoned => {
            format!("left behind by process {}: run `kireji recover`", held.lease.owner.pid)
        }
        State::HelperAtWork { work } => {
            let what = work.as_ref().map(outcome::work_in_words);
            let what = what.map(|what| format!(": {what}")).unwrap_or_default();
            format!(
                "left behind by process {}, whose helper still writes{what}",
                held.lease.owner.pid
            )
        }
        State::Unwell { reason } => format!("stays on vfio-pci: {reason}"),
        State::Hung { pid } => {
            format!("a write hangs in the kernel (pid {pid}): reboot, do not retry")
        }
    }
}
