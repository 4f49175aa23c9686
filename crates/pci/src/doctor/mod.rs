//! Whether a host can give a card away: pure functions from facts to findings.
//!
//! A finding is one condition with its code, what was found, where it was read, and the remedy in
//! the user's own terms. It passes, fails, or is unmeasured; nothing is guessed.

mod card;
mod finding;
mod group;
mod inventory;
mod iommu;
mod kernel;
mod machine;
mod remap;

#[cfg(test)]
mod tests;

pub use card::{CardCase, check_card};
pub use finding::{Evidence, Finding, Readiness, Status, Subject, readiness};
pub use group::{Slot, free_slots};
pub use inventory::{Candidate, inventory};

use crate::Host;
use crate::facts::Facts;

/// Judges the host as a whole.
pub fn check_host(host: &Host, facts: &Facts) -> Vec<Finding> {
    let mut findings = machine::check(facts);
    findings.extend(iommu::check(host, facts));
    findings.extend(remap::check(facts));
    findings.extend(kernel::check(facts));
    findings.extend(machine::check_access(facts));
    findings
}
