//! A fault at each call by which the journal is written, put in by strace(1) into a process of its
//! own, since the journal has no seam.

use std::process::{Command, Output};

use super::*;

/// The tree of the process, and what it does there.
const TREE: &str = "KIREJI_TEST_FAULTS_TREE";
const ACT: &str = "KIREJI_TEST_FAULTS_ACT";

/// How a journal is written: `Journal`'s calls on its file and the one that it is before it has its
/// name (syscalls(2)).
const CALLS: [&str; 7] =
    ["openat", "write", "fdatasync", "link,linkat", "unlink,unlinkat", "ftruncate", "lseek"];

/// What the process does, where the variables say that this is it.
#[test]
fn the_process_that_faults_are_put_into() {
    let (Some(root), Ok(act)) = (std::env::var_os(TREE), std::env::var(ACT)) else { return };
    let host = Sysroot::at(Path::new(&root)).unwrap();
    let machine = Machine::new(Path::new(&root));
    let applier = Applier::new(&host, &SystemDisk, &machine);
    match &*act {
        "apply" => applier.apply(&plan(&host)).unwrap(),
        "undo" => drop(applier.undo().unwrap()),
        _ => assert!(applier.recover().unwrap()),
    }
}

/// Runs it with a fault at the nth of some calls on the journal.
fn faulty(tree: &Tree, act: &str, calls: &str, fault: &str, nth: usize) -> Output {
    let name = "apply::tests::journal::the_process_that_faults_are_put_into";
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={calls}:{fault}:when={nth}")]);
    for path in [JOURNAL.to_owned(), format!("{JOURNAL}.new")] {
        command.arg("-P").arg(tree.locate(&path));
    }
    command.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--test-threads=1"]);
    command.env(TREE, tree.root()).env(ACT, act).output().expect("strace")
}

/// Has `act` fail or killed at each call, behind `prepare`; afterwards the next command leaves the
/// tree at its start or at its end. Returns how many calls there are.
fn survives(act: &str, prepare: &[&str], fault: &str) -> usize {
    let run = |tree: &Tree, act: &str| {
        let host = tree.sysroot();
        let machine = Machine::new(tree.root());
        let applier = Applier::new(&host, &machine, &machine);
        match act {
            "apply" => applier.apply(&plan(&host)).unwrap(),
            "undo" => drop(applier.undo().unwrap()),
            // What is cut off in the middle.
            _ => {
                machine.fault.set(Some((25, Fault::KillAfter)));
                let apply = || applier.apply(&plan(&host));
                catch_unwind(AssertUnwindSafe(apply)).unwrap_err();
            }
        }
    };
    let prepared = || {
        let tree = tree();
        prepare.iter().for_each(|act| run(&tree, act));
        tree
    };
    let end = {
        let tree = prepared();
        let host = tree.sysroot();
        let machine = Machine::new(tree.root());
        match act {
            "recover" => drop(Applier::new(&host, &machine, &machine).recover().unwrap()),
            act => run(&tree, act),
        }
        all(tree.root())
    };
    let mut hits = 0;
    for calls in CALLS {
        for nth in 1.. {
            let tree = prepared();
            let start = all(tree.root());
            let done = faulty(&tree, act, calls, fault, nth);
            let trace = String::from_utf8_lossy(&done.stderr);
            let is_hit = trace.contains("(INJECTED)") || trace.contains("killed by SIGKILL");
            let about = format!("{act}: {calls} {nth}: {trace}");
            assert!(is_hit || done.status.success(), "{about}");
            let host = tree.sysroot();
            let next = Machine::new(tree.root());
            let applier = Applier::new(&host, &next, &next);
            applier.recover().unwrap_or_else(|error| panic!("{about}: {error}"));
            let now = all(tree.root());
            assert!(now == start || now == end, "{about}");
            assert!(!applier.is_pending(), "{about}");
            if !is_hit {
                break;
            }
            hits += 1;
        }
    }
    hits
}

#[test]
fn a_journal_that_fails_at_any_call_loses_nothing() {
    for fault in ["error=ENOSPC", "signal=KILL"] {
        // A header and the intent and end of each of four files and two commands.
        let apply = survives("apply", &[], fault);
        assert!(apply > 2 * 13, "{fault}: {apply}");
        let undo = survives("undo", &["apply"], fault);
        assert!(undo > 2 * 5, "{fault}: {undo}");
        let recover = survives("recover", &["cut off"], fault);
        assert!(recover > 2, "{fault}: {recover}");
    }
}
