//! The self-test of the tool, and what it must find on QEMU's cards.

use std::time::Instant;

use pci::Address;
use vfio::selftest::{self, BarMapping, Options, Outcome as Found, Report, Subject};
use vfio::{Device, Interrupt};

use super::{Outcome, Rig, said};

/// What the self-test must find on a card of QEMU (`hw/misc/edu.c`, `hw/net/e1000e.c`,
/// `hw/nvme/ctrl.c`).
struct Expected {
    ids: &'static str,
    /// Index and size of each base address register, and whether it can be mapped.
    bars: &'static [(u8, u64, bool)],
    /// Vectors of INTx, MSI and MSI-X.
    interrupts: [u32; 3],
    /// Whether it can be reset alone.
    reset: bool,
}

const EXPECTED: &[Expected] = &[
    Expected { ids: "1234:11e8", bars: &[(0, 1 << 20, true)], interrupts: [1, 1, 0], reset: false },
    Expected {
        ids: "8086:10d3",
        bars: &[(0, 0x20000, true), (1, 0x20000, true), (2, 32, false), (3, 0x4000, true)],
        interrupts: [1, 1, 5],
        reset: true,
    },
    Expected { ids: "1b36:0010", bars: &[(0, 0x4000, true)], interrupts: [1, 0, 65], reset: true },
];

pub(super) fn passes(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    rig.take(functions)?;
    for address in functions {
        let started = Instant::now();
        let report = selftest::run(&rig.host, *address, Options { reset: true });
        let took = started.elapsed().as_millis();
        rig.ok(format!("{address} self-test took {took} ms: {report:?}"));
        examine(rig, &report)?;
        // All was undone, or it would be busy.
        Device::open(&rig.host, *address).map_err(said)?;
        rig.ok(format!("{address} opens again"));
    }
    Ok(())
}

fn examine(rig: &Rig<'_>, report: &Report) -> Outcome {
    let failed: Vec<_> =
        report.checks.iter().filter(|check| matches!(check.outcome, Found::Fail(_))).collect();
    rig.same("no check failed", failed, Vec::new())?;
    rig.holds("the report says so", report.passed())?;
    let config = report.config.as_ref().ok_or("there is no configuration space")?;
    let ids = config.ids.map(|ids| ids.to_string()).unwrap_or_default();
    let Some(expected) = EXPECTED.iter().find(|expected| expected.ids == ids) else {
        return Err(format!("{ids} is no card that this scenario knows"));
    };
    let bars: Vec<_> = report
        .bars
        .iter()
        .map(|bar| (bar.index, bar.size, bar.mapping == BarMapping::Mapped))
        .collect();
    rig.same("base address registers", bars.as_slice(), expected.bars)?;
    let vectors = |kind| {
        let found = report.interrupts.iter().find(|found| found.kind == kind);
        found.map_or(0, |found| found.info.count)
    };
    let vectors = [Interrupt::Intx, Interrupt::Msi, Interrupt::Msix].map(vectors);
    rig.same("interrupt vectors", vectors, expected.interrupts)?;
    let reset = report.reset.as_ref().is_some_and(|reset| reset.alone);
    rig.same("a reset of its own", reset, expected.reset)?;
    let tried = report.checks.iter().find(|check| check.what == Subject::Reset);
    let passed = tried.is_some_and(|check| check.outcome == Found::Pass);
    rig.same("the reset was made", passed, expected.reset)?;
    let ranges = report.dma.as_ref().and_then(|dma| dma.ranges.as_ref());
    rig.holds("the aperture is known", ranges.is_some_and(|ranges| !ranges.is_empty()))
}
