//! What is tried inside a rig, on the real kernel and QEMU's own cards, without a guest.
//!
//! Each scenario takes the functions that it needs from their drivers, tries one thing, and reports
//! each check by a line of its own. The first check that fails ends it.

mod binding;
mod command;
mod edu;
mod lease;
mod moments;
mod proof;
mod qtest;
mod reference;
mod refusals;
mod resets;
mod rom;
mod run;
mod selftest;
mod unwell;
mod user;
mod watch;

use std::fmt::{Debug, Display};

use host::Sysroot;
use pci::Address;

/// A scenario's result: `Err` says which check failed, and how.
pub type Outcome = Result<(), String>;

type Scenario = fn(&Rig<'_>, &[Address]) -> Outcome;

/// The scenarios, with what each is called.
const SCENARIOS: &[(&str, Scenario)] = &[
    ("selftest", selftest::passes),
    ("edu", edu::works),
    ("shared-group", refusals::shared_group),
    ("busy", refusals::busy),
    ("no-iommu", refusals::no_iommu),
    ("no-remapping", refusals::no_remapping),
    ("locked-memory", refusals::locked_memory),
    ("denied", refusals::denied),
    ("not-on-vfio", refusals::not_on_vfio),
    ("comes-back", lease::comes_back),
    ("disk-data", lease::disk_data),
    ("rolls-back", lease::rolls_back),
    ("probe-is-silent", lease::probe_is_silent),
    ("stays-while-unwell", unwell::stays),
    ("twins", lease::twins),
    ("shared", lease::shared),
    ("user-is-named", lease::user_is_named),
    ("abandon", lease::abandon),
    ("is-interrupted", lease::is_interrupted),
    ("hung-and-ended", lease::hung_and_ended),
    ("late-write", lease::late_write),
    ("rom", rom::saved),
    ("runs-and-returns", run::runs_and_returns),
    ("tells-a-fault", run::tells_a_fault),
    ("resets-are-limited", resets::are_limited),
    ("resets-of-a-run", resets::of_a_run),
    ("resets-between-guests", resets::between_guests),
    ("watch-holds", watch::holds),
    ("runs-as-user", user::runs_as_user),
    ("survives-qemus-death", run::survives_qemus_death),
    ("survives-its-own-death", run::survives_its_own_death),
    ("stops-on-a-signal", run::stops_on_a_signal),
    ("survives-random-kills", run::survives_random_kills),
    ("survives-kills", lease::survives_kills),
    ("whole-card", proof::whole_card),
    ("proof-in-one-command", proof::in_one_command),
    ("proof-without-remapping", proof::without_remapping),
    ("inner-machine", qtest::works),
    ("inner-linux", reference::works),
];

/// The rig that we are in.
struct Rig<'a> {
    host: Sysroot,
    say: &'a dyn Fn(&str),
}

impl Rig<'_> {
    /// Says that a check passed.
    fn ok(&self, what: impl Display) {
        (self.say)(&format!("ok {what}"));
    }

    /// Checks that `found` is what it must be.
    fn same<T: PartialEq + Debug>(&self, what: &str, found: T, expected: T) -> Outcome {
        if found == expected {
            self.ok(what);
            Ok(())
        } else {
            Err(format!("{what}: {found:x?}, expected {expected:x?}"))
        }
    }

    /// Checks a condition.
    fn holds(&self, what: &str, holds: bool) -> Outcome {
        self.same(what, holds, true)
    }
}

/// Runs the scenario `name` on functions of this rig, and gives each line of its report to `say`.
///
/// # Errors
/// There is no such scenario, or a check failed.
pub fn run(name: &str, functions: &[String], say: &dyn Fn(&str)) -> Outcome {
    let scenario = SCENARIOS.iter().find(|(known, _)| *known == name);
    let Some((_, scenario)) = scenario else {
        let names: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no scenario `{name}`, only {}", names.join(", ")));
    };
    let functions: Result<Vec<Address>, _> = functions.iter().map(|text| text.parse()).collect();
    let functions = functions.map_err(said)?;
    let rig = Rig { host: Sysroot::host().map_err(said)?, say };
    scenario(&rig, &functions)
}

/// An error with all that is behind it.
fn said(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The one function that a scenario is for.
fn one(functions: &[Address]) -> Result<Address, String> {
    match functions {
        [address] => Ok(*address),
        _ => Err("this scenario takes one function".to_owned()),
    }
}
