//! Several cards, each with a lease of its own.

use super::killed::{Act, kills};
use super::*;

/// Two cards, of which the second is the function `SOUND` alone.
fn cards() -> [Vec<Address>; 2] {
    [card()[..1].to_vec(), card()[1..].to_vec()]
}

#[test]
fn each_card_has_a_lease_of_its_own() {
    let kernel = kernel();
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let before = bindings(&kernel);
    let tester = Recipient { name: None, uid: 65_533, gid: 100 };
    let held = keeper.take_all(&cards(), Purpose::Hold, Some(&tester)).unwrap();
    assert_eq!(keeper.leases().unwrap(), held);
    let [first, second] = &held[..] else { panic!("{held:?}") };
    keeper.give_back(first, &[]).unwrap();
    assert_eq!(kernel.binding(NIC), before[0]);
    assert_eq!(kernel.binding(SOUND).0.as_deref(), Some("vfio-pci"));
    // Both are in one group: its node stays with its user until the last of them goes.
    assert!(kernel.owners().iter().all(|(_, uid, _)| *uid == tester.uid), "{:?}", kernel.owners());
    keeper.give_back(second, &[]).unwrap();
    assert_eq!(bindings(&kernel), before);
    let first_owner = host.node("/dev").unwrap().uid;
    assert_eq!(kernel.owners().last().unwrap().1, first_owner);
}

#[test]
fn of_several_cards_all_are_taken_or_none() {
    let mut kernel = kernel();
    kernel.refuse(&format!("/sys/bus/pci/devices/{SOUND}/driver_override"), 16);
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let before = bindings(&kernel);
    let error = keeper.take_all(&cards(), Purpose::Hold, None).unwrap_err();
    assert!(matches!(error, TakeError::Step { .. }), "{error}");
    assert_eq!(bindings(&kernel), before);
    assert_eq!(keeper.leases().unwrap(), []);
}

#[test]
fn a_hanging_card_keeps_no_other_one() {
    let mut kernel = kernel();
    kernel.hang_on_unbind(NIC);
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let before = bindings(&kernel);
    let [nic, sound] = cards();
    let error = keeper.take_all(&[sound, nic], Purpose::Hold, None).unwrap_err();
    assert!(error.is_hung(), "{error}");
    assert_eq!(kernel.binding(SOUND), before[1]);
    let leases = keeper.leases().unwrap();
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].state, State::Hung { pid: HUNG_PID });
}

#[test]
fn several_cards_taken_and_killed_at_any_point_are_recovered() {
    let take: Act = |_, keeper| {
        keeper.take_all(&cards(), Purpose::Hold, None).unwrap();
    };
    for when in [Kill::Before, Kill::After, Kill::At] {
        assert!(kills(take, |_, _| {}, when) >= 5);
    }
    // Killed at the second card, the first does not count as taken.
    let kernel = kernel();
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    kernel.kill(Some(Kill::Before(3)));
    assert!(catch_unwind(AssertUnwindSafe(|| take(&kernel, &keeper))).is_err());
    kernel.kill(None);
    kernel.be_alive(2000);
    let states: Vec<_> = keeper.leases().unwrap().into_iter().map(|held| held.state).collect();
    assert_eq!(states, [State::Abandoned, State::Abandoned]);
}

/// What can lie among the leases, and what is said of it.
const DAMAGE: &[(&str, &str, &str)] = &[
    ("junk.journal", "junk\nand more\n", "is damaged at line 1"),
    ("0000:07:00.0.journal", "{\"header\":{}}\n{}\n", "is damaged at line 1"),
    ("0000:07:00.0.journal", "{\"header\":{\"schema\":2}}\n", "version 2, and this kireji knows 1"),
];

#[test]
fn a_damaged_lease_is_in_no_other_ones_way() {
    for (name, text, said) in DAMAGE {
        let kernel = kernel();
        let host = kernel.tree.sysroot();
        let keeper = Keeper::new(&host, &kernel);
        let before = bindings(&kernel);
        kernel.tree.write(&format!("/run/kireji/leases/{name}"), text);
        keeper.take(&card(), Purpose::Run).unwrap();
        kernel.be_alive(2000);
        assert_eq!(recovered(&keeper), 1, "{name}");
        assert_eq!(bindings(&kernel), before);
        let damaged = keeper.damaged().unwrap();
        assert_eq!(damaged.len(), 1);
        assert!(damaged[0].reason.contains(said), "{}", damaged[0].reason);
        assert_eq!(damaged[0].card.is_some(), name.starts_with('0'), "{name}");
    }
}

#[test]
fn the_card_of_a_damaged_lease_is_not_taken() {
    let kernel = kernel();
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let lease = format!("/run/kireji/leases/{NIC}.journal");
    // Of a lease whose layout is another, nobody knows which functions it is about.
    keeper.take(&card()[..1], Purpose::Hold).unwrap();
    let text = kernel.tree.read(&lease).replacen("\"schema\":1", "\"schema\":2", 1);
    kernel.tree.write(&lease, &text);
    let before = bindings(&kernel);
    for functions in [&card()[..], &card()[1..]] {
        let error = keeper.take(functions, Purpose::Hold).unwrap_err();
        assert!(matches!(error, TakeError::Damaged(_)), "{error}");
        assert!(error.to_string().contains("version 2"), "{error}");
    }
    assert_eq!(bindings(&kernel), before);
    // One that lies under another name is not used twice.
    kernel.tree.remove(&lease);
    let text = text.replacen("\"schema\":2", "\"schema\":1", 1);
    kernel.tree.write("/run/kireji/leases/0000:09:00.0.journal", text);
    assert_eq!(keeper.leases().unwrap(), []);
    assert!(keeper.damaged().unwrap()[0].reason.contains(NIC));
}
