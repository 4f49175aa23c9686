//! A fault at each point of a change in turn: the disk's and the programs'.

use std::error::Error;

use super::*;

type Act = fn(&Applier<'_>, &Tree) -> Result<(), ApplyError>;

/// Runs `act` with a fault at each of its points in turn; afterwards the next command leaves the
/// tree at its start or at its end. Returns how many points there are.
fn survives(act: Act, prepare: Act, fault: Fault) -> usize {
    let end = {
        let tree = tree();
        let host = tree.sysroot();
        let machine = Machine::new(tree.root());
        let applier = Applier::new(&host, &machine, &machine);
        prepare(&applier, &tree).unwrap();
        act(&applier, &tree).unwrap();
        all(tree.root())
    };
    for point in 0.. {
        let tree = tree();
        let host = tree.sysroot();
        let machine = Machine::new(tree.root());
        let applier = Applier::new(&host, &machine, &machine);
        prepare(&applier, &tree).unwrap();
        let start = all(tree.root());
        machine.points.set(0);
        machine.fault.set(Some((point, fault)));
        let outcome = catch_unwind(AssertUnwindSafe(|| act(&applier, &tree)));
        machine.fault.set(None);
        let hit = machine.points.get() > point;
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => assert!(fault == Fault::Fail, "{fault:?} {point}: {error}"),
            Err(payload) => assert!(payload.is::<Killed>(), "{fault:?} {point}"),
        }
        // The process is gone, and its lock with it.
        let next = Machine::new(tree.root());
        Applier::new(&host, &next, &next)
            .recover()
            .unwrap_or_else(|error| panic!("{fault:?} {point}: {error}: {:?}", error.source()));
        let now = all(tree.root());
        if now != start {
            assert_eq!(now, end, "{fault:?} {point}");
        }
        let next = Applier::new(&host, &next, &next);
        assert!(!next.is_pending());
        let is_applied = host.exists("/etc/kireji/reservations");
        assert_eq!(next.records().unwrap().len(), usize::from(is_applied), "{fault:?} {point}");
        if !hit {
            return point;
        }
    }
    unreachable!("the points come to an end")
}

const FAULTS: [Fault; 4] = [Fault::KillBefore, Fault::KillAfter, Fault::KillWithin, Fault::Fail];

#[test]
fn an_apply_is_whole_or_not_at_all_whatever_happens() {
    let apply: Act = |applier, tree| applier.apply(&plan(&tree.sysroot()));
    // A directory for our state and one for the record; in that, a file for each side of each file
    // and two more, three that make it durable; then each file, the directories it needs, commands,
    // and the marks of what they built.
    let points = 2 + 7 + 3 + (3 + 4 + 5 + 2) + 2 + 3;
    for fault in FAULTS {
        assert_eq!(survives(apply, |_, _| Ok(()), fault), points, "{fault:?}");
    }
}

#[test]
fn an_undo_is_finished_whatever_happens() {
    let apply: Act = |applier, tree| applier.apply(&plan(&tree.sysroot()));
    let undo: Act = |applier, _| applier.undo().map(drop);
    // Each file, the directories that go, commands, and the record.
    let points = (3 + 2 + 2 + 3) + 3 + 2 + 2 + (8 * 2 + 1);
    for fault in FAULTS {
        assert_eq!(survives(undo, apply, fault), points, "{fault:?}");
    }
    // Where somebody else changed another line since, what becomes of it is kept, and goes.
    let points = points + 3 + 2;
    let and_others: Act = |applier, tree| {
        applier.apply(&plan(&tree.sysroot()))?;
        tree.write("/etc/default/grub", "A=2\nB=1\nC=1\nD=9\n");
        Ok(())
    };
    for fault in [Fault::KillAfter, Fault::KillWithin] {
        assert_eq!(survives(undo, and_others, fault), points, "{fault:?}");
    }
}
