//! Killed at any point, and what a dead process left in the kernel.

use super::*;

/// While a helper of a dead process writes, its card is busy and nothing is written to it.
fn assert_busy(keeper: &Keeper<'_>) {
    let held = keeper.leases().unwrap().remove(0);
    let State::HelperAtWork { work: Some(work) } = &held.state else {
        panic!("{:?}", held.state);
    };
    assert_eq!(work.pid, HELPER_PID);
    for one in keeper.recover().unwrap() {
        let error = one.outcome.unwrap_err();
        let TakeError::Taken { state, .. } = &error else { panic!("{error}") };
        assert_eq!(*state, held.state);
    }
    let again = keeper.take(&card(), Purpose::Hold).unwrap_err();
    assert!(matches!(again, TakeError::Taken { state: State::HelperAtWork { .. }, .. }), "{again}");
}

pub type Act = fn(&FakeKernel, &Keeper<'_>);

/// Killed at any point of `act`, the host is back at `before` after `recover`. Returns how often it
/// was killed at a write, and elsewhere.
fn survives_every_kill(act: Act, prepare: Act) -> [usize; 2] {
    let writes = [Kill::Before, Kill::Within, Kill::After].map(|when| kills(act, prepare, when));
    [writes.iter().sum(), kills(act, prepare, Kill::At)]
}

pub fn kills(act: Act, prepare: Act, when: fn(usize) -> Kill) -> usize {
    for number in 0.. {
        let kill = when(number);
        let kernel = kernel();
        let host = kernel.tree.sysroot();
        let keeper = Keeper::new(&host, &kernel).patience(Duration::from_millis(1));
        let before = bindings(&kernel);
        let first_owner = host.node("/dev").unwrap().uid;
        prepare(&kernel, &keeper);
        kernel.kill(Some(kill));
        let outcome = catch_unwind(AssertUnwindSafe(|| act(&kernel, &keeper)));
        kernel.kill(None);
        let killed = match outcome {
            Ok(()) => false,
            Err(payload) => {
                assert!(payload.is::<Killed>(), "{kill:?} failed otherwise");
                true
            }
        };
        kernel.be_alive(3000);
        if kernel.is_late() {
            assert_busy(&keeper);
            assert!(kernel.finish());
        }
        recovered(&keeper);
        for held in keeper.leases().unwrap() {
            // Killed after the last write, the card may already count as taken to be kept.
            assert_eq!(held.state, State::Held, "{kill:?}");
            keeper.give_back(&held, &[]).unwrap();
        }
        assert_eq!(bindings(&kernel), before, "{kill:?}");
        let owners = kernel.owners();
        let last = owners.last();
        assert!(last.is_none_or(|(_, uid, _)| *uid == first_owner), "{kill:?}: {owners:?}");
        let left = host.names("/run/kireji/leases").unwrap();
        assert!(left.iter().all(|name| name.ends_with(".helper")), "{kill:?}: {left:?}");
        if !killed {
            return number;
        }
    }
    unreachable!("the points come to an end")
}

fn take_for_a_user(_: &FakeKernel, keeper: &Keeper<'_>) {
    let tester = Recipient { name: Some("tester".into()), uid: 65_533, gid: 100 };
    keeper.take_for(&card(), Purpose::Hold, Some(&tester)).unwrap();
}

fn give_back(_: &FakeKernel, keeper: &Keeper<'_>) {
    let held = keeper.leases().unwrap().remove(0);
    keeper.give_back(&held, &[]).unwrap();
}

#[test]
fn a_take_killed_at_any_point_is_recovered() {
    // Override, unbind and probe of the one, override and probe of the other, each thrice. Four
    // points around the two journal lines of each, and of giving the node away and of the end; two
    // around the journal's beginning and two around the node's change of owner.
    assert_eq!(survives_every_kill(take_for_a_user, |_, _| {}), [5 * 3, 5 * 4 + 2 * 4 + 2 + 2]);
}

#[test]
fn a_return_killed_at_any_point_is_recovered() {
    // Unbind and override of the one; override, unbind, probe and override of the other. Four
    // points around the journal lines of each and of the beginning, two around the node's change
    // of owner, three around the end of lock and journal.
    let expected = [6 * 3, 6 * 4 + 4 + 2 + 3];
    assert_eq!(survives_every_kill(give_back, take_for_a_user), expected);
}

#[test]
fn a_recovery_killed_at_any_point_is_recovered() {
    let dies: Act = |kernel, keeper| {
        keeper.take(&card(), Purpose::Run).unwrap();
        kernel.be_alive(2000);
    };
    let recover: Act = |_, keeper| assert_eq!(recovered(keeper), 1);
    assert_eq!(survives_every_kill(recover, dies), [6 * 3, 6 * 4 + 4 + 3]);
}

#[test]
fn the_late_write_of_one_card_is_in_no_other_ones_way() {
    let kernel = kernel();
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel).patience(Duration::from_millis(1));
    let before = bindings(&kernel);
    let [nic, sound] = card()[..] else { panic!("two functions") };
    // Unbind is the second write of a take.
    kernel.kill(Some(Kill::Within(1)));
    let take = || keeper.take(&[nic], Purpose::Hold);
    assert!(catch_unwind(AssertUnwindSafe(take)).is_err());
    kernel.kill(None);
    kernel.be_alive(2000);
    let held = keeper.take(&[sound], Purpose::Hold).unwrap();
    assert_eq!(kernel.binding(SOUND).0.as_deref(), Some("vfio-pci"));
    keeper.give_back(&held, &[]).unwrap();
    assert_busy(&keeper);
    assert!(kernel.finish());
    assert_eq!(recovered(&keeper), 1);
    assert_eq!(bindings(&kernel), before);
}
