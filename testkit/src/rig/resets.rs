//! The ways in which a card is reset: limited while it is taken, and restored with it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use host::SystemRunner;
use pci::{Address, Function};
use rustix::process::{Pid, Signal, kill_process};
use vfio::selftest::{self, Options, Outcome as Found, Subject};
use vfio::take::{HelperWriter, Keeper, Purpose, TakeError};
use vfio::{BAR0, Device, Width};

use super::command::command;
use super::{Outcome, Rig, one, run, said};
use crate::image::Then;

impl Rig<'_> {
    /// The ways in which the kernel may reset a function, first to last.
    fn methods(&self, address: Address) -> Result<String, String> {
        self.host.text(format!("{}/reset_method", Function::path(address))).map_err(said)
    }

    /// Resets a function as the self-test does, and tells whether that was possible.
    fn resets(&self, address: Address) -> Result<bool, String> {
        let report = selftest::run(&self.host, address, Options { reset: true });
        let check = report.checks.iter().find(|check| check.what == Subject::Reset);
        match check.map(|check| &check.outcome) {
            Some(Found::Pass) => Ok(true),
            Some(Found::Unmeasured(_)) => Ok(false),
            other => Err(format!("the reset: {other:?}, {:?}", report.refusal)),
        }
    }
}

/// The kernel's file is limited to one way, a reset works by it, none works without any, and the
/// former ways are there again once the card is returned.
pub(super) fn are_limited(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.bindings(functions)?;
    let all = rig.methods(address)?;
    rig.holds(&format!("there are several ways: {all}"), all.contains(' '))?;

    let writer = HelperWriter {
        runner: &SystemRunner,
        executable: PathBuf::from("/bin/kireji"),
        args: vec![
            "internal".to_owned(),
            "write-sysfs".to_owned(),
            format!("--parent={}", std::process::id()),
        ],
        limit: Duration::from_secs(30),
    };
    let keeper = Keeper::new(&rig.host, &writer);
    // The last way, through the port, does not work on QEMU's: the link stays down.
    let (method, _) = all.split_once(' ').ok_or("one way only")?;
    let held = keeper.take(functions, Purpose::Run).map_err(said)?;
    keeper.limit_resets(&held, method).map_err(said)?;
    rig.same("the kernel has this way only", rig.methods(address)?, method.to_owned())?;
    rig.holds(&format!("a reset by {method}"), rig.resets(address)?)?;
    keeper.give_back(&held, &[]).map_err(said)?;
    rig.same("all are as they were", rig.bindings(functions)?, before.clone())?;

    let held = keeper.take(functions, Purpose::Run).map_err(said)?;
    keeper.limit_resets(&held, "").map_err(said)?;
    rig.same("the kernel has none", rig.methods(address)?, String::new())?;
    rig.holds("so it has no reset", !rig.resets(address)?)?;
    let unknown = keeper.limit_resets(&held, "af_flr");
    rig.holds("a way that it has not", matches!(unknown, Err(TakeError::NoSuchReset { .. })))?;
    keeper.give_back(&held, &[]).map_err(said)?;
    rig.same("all are as they were", rig.bindings(functions)?, before.clone())?;
    rig.same("the methods in their order", rig.methods(address)?, all)
}

/// The same by `run --reset`, while the guest runs.
pub(super) fn of_a_run(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.bindings(functions)?;
    let all = rig.methods(address)?;
    let has = |method: &str| all.split_whitespace().any(|one| one == method);
    let (first, missing) = if has("flr") { ("flr", "pm") } else { ("pm", "flr") };
    rig.holds(&format!("of {all}, {first} is there and {missing} is not"), !has(missing))?;
    let words = run::words(address, &run::image("reset", Then::Halt));
    for (option, methods) in [(first, first), ("none", "")] {
        let mut child = command(&format!("{words} --reset {option}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(said)?;
        rig.settles("the kernel's file is limited", || Ok(rig.methods(address)? == methods))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
        kill_process(pid, Signal::TERM).map_err(said)?;
        let code = child.wait().map_err(said)?.code();
        rig.same("the exit code of the run", code, Some(130))?;
        rig.same("all are as they were", rig.bindings(functions)?, before.clone())?;
    }
    let unknown = rig.expect(&format!("{words} --reset {missing}"), 11)?;
    rig.says(&unknown.err, &format!("cannot reset the card in the way `{missing}`"))?;
    rig.same("all are as they were", rig.bindings(functions)?, before)
}

/// A register in the first region of a card of QEMU that keeps what is written into it. A reset
/// leaves zero in each.
struct Keeping {
    ids: &'static str,
    register: u64,
    written: u64,
    /// What is read then.
    kept: u64,
    /// Whether the kernel has a reset of this function.
    has_reset: bool,
    /// Whether it clears the register.
    clears: bool,
}

const KEEPING: &[Keeping] = &[
    // INTMS, the mask of interrupts (NVM Express Base Specification 2.0, 3.1.3.3); a function level
    // reset.
    Keeping {
        ids: "1b36:0010",
        register: 0x0c,
        written: 0x5,
        kept: 0x5,
        has_reset: true,
        clears: true,
    },
    // RDBAL0, the base of the receive descriptors (Intel 82574 datasheet, 10.2.5.5). The kernel takes
    // the way to D3hot and back for a reset (drivers/pci/pci.c, pci_pm_reset); QEMU's card changes
    // nothing but its power state by that.
    Keeping {
        ids: "8086:10d3",
        register: 0x2800,
        written: 0x1234_5670,
        kept: 0x1234_5670,
        has_reset: true,
        clears: false,
    },
    // Liveness: the inverse of what was written (docs/specs/edu.rst of QEMU).
    Keeping {
        ids: "1234:11e8",
        register: 0x04,
        written: 0x1234_5678,
        kept: 0xedcb_a987,
        has_reset: false,
        clears: false,
    },
];

/// VFIO resets a card that can be reset when it is opened and closed (vfio_pci_core_enable and
/// vfio_pci_core_disable in drivers/vfio/pci/vfio_pci_core.c), so one guest does not find what another
/// left; of a card that cannot, it finds all. The card is on vfio-pci all the while.
pub(super) fn between_guests(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    rig.take(functions)?;
    let taken = rig.bindings(functions)?;
    for address in functions {
        let ids = Function::read(&rig.host, *address).map_err(said)?.ids.to_string();
        let Some(card) = KEEPING.iter().find(|card| card.ids == ids) else {
            return Err(format!("{ids} is no card that this scenario knows"));
        };
        let open = || Device::open(&rig.host, *address).map_err(said);
        let read = |device: &Device| device.read(BAR0, card.register, Width::Double).map_err(said);
        let first = open()?;
        rig.same(&format!("{address} has a reset"), first.has_reset(), card.has_reset)?;
        rig.same("the first guest finds a register clear", read(&first)?, 0)?;
        first.write(BAR0, card.register, Width::Double, card.written).map_err(said)?;
        rig.same("it keeps what is written", read(&first)?, card.kept)?;
        drop(first);
        rig.same("the card stays on vfio-pci", rig.bindings(functions)?, taken.clone())?;
        let (what, left) = match card.clears {
            true => ("the second guest finds it clear", 0),
            false => ("the second guest finds what the first left", card.kept),
        };
        rig.same(what, read(&open()?)?, left)?;
    }
    Ok(())
}
