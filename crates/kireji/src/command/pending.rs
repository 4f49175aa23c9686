//! What a command that looks leaves undone, and says.

use pci::Address;
use vfio::take::{Keeper, State};

use crate::{CommandError, Context};

use super::change;

/// Says in one line what awaits a command that may write, if anything does.
pub(super) fn tell(context: &mut Context<'_>) -> Result<(), CommandError> {
    let keeper = Keeper::new(context.host, context.writer);
    // What cannot be told is in the way of no command that is about something else.
    let leases = keeper.leases().unwrap_or_default();
    let damaged = keeper.damaged().unwrap_or_default();
    let left = leases
        .iter()
        .filter(|held| matches!(held.state, State::Abandoned | State::HelperAtWork { .. }));
    let left: Vec<_> = left.map(|held| held.lease.card.to_string()).collect();
    let mut parts = Vec::new();
    if !left.is_empty() {
        parts.push(format!(
            "processes that died left {} behind, which `kireji recover` restores",
            left.join(" and ")
        ));
    }
    if change::is_pending(context) {
        parts.push(
            "a change of what this host boots with was cut off, which `kireji recover` takes back"
                .to_owned(),
        );
    }
    if !damaged.is_empty() {
        let names = damaged.iter().map(|one| match one.card.as_ref().map(Address::to_string) {
            Some(card) => format!("the lease of {card}"),
            None => one.path.display().to_string(),
        });
        let names = names.collect::<Vec<_>>().join(" and ");
        parts.push(format!("{names} cannot be used, as `kireji status` explains"));
    }
    if !parts.is_empty() {
        writeln!(context.err, "pending: {}", parts.join("; "))?;
    }
    Ok(())
}
