//! Taking, returning and recovering, on a fake kernel.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use pci::Address;
use testkit::fake_kernel::{FakeKernel, HELPER_PID, HUNG_PID, Kill, Killed};
use testkit::tree::{Function, Port, Tree};
use vfio::take::{
    Keeper, Order, Purpose, Recipient, RestoreError, Restored, State, SysfsWriter, TakeError,
    Unwell, WriteFailure,
};

const NIC: &str = "0000:01:00.0";
const SOUND: &str = "0000:01:00.1";

/// A card of two functions, one with a driver that matches by ids, one with an override and none.
fn kernel() -> FakeKernel {
    let mut tree = Tree::new();
    tree.add(Function::port("0000:00:1c.0", Port::Root, 1).slot().driver("pcieport").group(1));
    let below = |address, class| {
        Function::new(address, 0x8086, 0x10d3).class(class).below("0000:00:1c.0").group(2)
    };
    // A capability list with power management alone, at 0xc8.
    let nic = below(NIC, 0x02_0000).config(0x06, &[0x10]).config(0x34, &[0xc8]);
    tree.add(nic.config(0xc8, &[0x01, 0]).driver("e1000e"));
    tree.add(below(SOUND, 0x04_0300).attribute("driver_override", "none-yet\n"));
    let mut kernel = FakeKernel::new(tree);
    kernel.natural(NIC, "e1000e");
    kernel
}

fn card() -> Vec<Address> {
    [NIC, SOUND].iter().map(|text| text.parse().unwrap()).collect()
}

type Bindings = [(Option<String>, String); 2];

fn bindings(kernel: &FakeKernel) -> Bindings {
    [kernel.binding(NIC), kernel.binding(SOUND)]
}

/// How many cards `recover` restores; it is an error if one stays.
fn recovered(keeper: &Keeper<'_>) -> usize {
    let all = keeper.recover().unwrap();
    all.iter().filter(|one| one.outcome.as_ref().unwrap().len() == one.lease.before.len()).count()
}

#[test]
fn a_card_goes_and_comes_back_exactly() {
    let kernel = kernel();
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let before = bindings(&kernel);

    let held = keeper.take(&card(), Purpose::Hold).unwrap();
    assert_eq!(held.state, State::Held);
    for address in [NIC, SOUND] {
        assert_eq!(kernel.binding(address), (Some("vfio-pci".into()), "vfio-pci".into()));
    }
    assert_eq!(keeper.leases().unwrap(), std::slice::from_ref(&held));

    let restored = keeper.give_back(&held, &[]).unwrap();
    assert!(restored.iter().all(|one| matches!(one, Restored::Back(..))), "{restored:?}");
    assert_eq!(bindings(&kernel), before);
    assert_eq!(keeper.leases().unwrap(), []);
}

#[test]
fn the_order_of_writes_is_override_unbind_probe() {
    let kernel = kernel();
    let host = kernel.tree.sysroot();
    kernel.kill(None);
    Keeper::new(&host, &kernel).take(&card()[..1], Purpose::Hold).unwrap();
    let device = format!("/sys/bus/pci/devices/{NIC}");
    let expected = [
        (format!("{device}/driver_override"), "vfio-pci".to_owned()),
        (format!("{device}/driver/unbind"), NIC.to_owned()),
        ("/sys/bus/pci/drivers_probe".to_owned(), NIC.to_owned()),
    ];
    assert_eq!(kernel.writes(), expected);
}

#[test]
fn without_an_iommu_the_silent_refusal_is_seen_and_rolled_back() {
    let mut tree = Tree::new();
    tree.add(Function::new(NIC, 0x8086, 0x10d3).driver("e1000e"));
    let mut kernel = FakeKernel::new(tree);
    kernel.natural(NIC, "e1000e");
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let error = keeper.take(&card()[..1], Purpose::Hold).unwrap_err();
    assert!(matches!(error, TakeError::NotBound { got: None, .. }), "{error}");
    assert_eq!(kernel.binding(NIC), (Some("e1000e".into()), "(null)".into()));
    assert_eq!(keeper.leases().unwrap(), []);
}

#[test]
fn a_refused_write_is_rolled_back() {
    let mut kernel = kernel();
    // EBUSY.
    kernel.refuse(&format!("/sys/bus/pci/devices/{SOUND}/driver_override"), 16);
    let host = kernel.tree.sysroot();
    let before = bindings(&kernel);
    let error = Keeper::new(&host, &kernel).take(&card(), Purpose::Hold).unwrap_err();
    assert!(matches!(error, TakeError::Step { .. }), "{error}");
    assert_eq!(bindings(&kernel), before);
}

#[test]
fn a_hanging_unbind_is_told_and_never_tried_again() {
    let mut kernel = kernel();
    kernel.hang_on_unbind(NIC);
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let error = keeper.take(&card(), Purpose::Hold).unwrap_err();
    assert!(error.is_hung(), "{error}");
    let leases = keeper.leases().unwrap();
    assert_eq!(leases[0].state, State::Hung { pid: HUNG_PID });
    kernel.be_alive(2000);
    kernel.kill(None);
    assert_eq!(recovered(&keeper), 0);
    assert!(matches!(keeper.give_back(&leases[0], &[]), Err(TakeError::Taken { .. })));
    assert_eq!(kernel.writes(), []);
}

#[test]
fn a_write_that_hung_and_ended_after_all_is_recovered() {
    let mut kernel = kernel();
    kernel.hang_on_unbind(NIC);
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let before = bindings(&kernel);
    assert!(keeper.take(&card(), Purpose::Hold).unwrap_err().is_hung());
    assert!(kernel.finish());
    // The process that was told of it has not ended yet, and may be doing what it does then.
    assert!(matches!(keeper.leases().unwrap()[0].state, State::Busy { .. }));
    kernel.be_alive(2000);
    assert_eq!(keeper.leases().unwrap()[0].state, State::Abandoned);
    assert_eq!(recovered(&keeper), 1);
    assert_eq!(bindings(&kernel), before);
}

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
    let yui = Recipient { name: None, uid: 65_533, gid: 100 };
    let held = keeper.take_all(&cards(), Purpose::Hold, Some(&yui)).unwrap();
    assert_eq!(keeper.leases().unwrap(), held);
    let [first, second] = &held[..] else { panic!("{held:?}") };
    keeper.give_back(first, &[]).unwrap();
    assert_eq!(kernel.binding(NIC), before[0]);
    assert_eq!(kernel.binding(SOUND).0.as_deref(), Some("vfio-pci"));
    // Both are in one group: its node stays with its user until the last of them goes.
    assert!(kernel.owners().iter().all(|(_, uid, _)| *uid == yui.uid), "{:?}", kernel.owners());
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

#[test]
fn a_take_that_fails_at_its_end_is_rolled_back() {
    let kernel = kernel();
    // A link that leads to itself cannot be listed for nodes.
    let nodes = format!("{}/vfio-dev", kernel.tree.device(SOUND));
    kernel.tree.link(&nodes, &nodes);
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let before = bindings(&kernel);
    let yui = Recipient { name: None, uid: 1000, gid: 100 };
    let error = keeper.take_for(&card(), Purpose::Hold, Some(&yui)).unwrap_err();
    assert!(matches!(error, TakeError::Read(_)), "{error}");
    assert_eq!(bindings(&kernel), before);
    assert_eq!(keeper.leases().unwrap(), []);
}

#[test]
fn two_at_once_is_busy() {
    let kernel = kernel();
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    keeper.take(&card(), Purpose::Run).unwrap();
    let error = keeper.take(&card()[1..], Purpose::Hold).unwrap_err();
    assert!(
        matches!(error, TakeError::Taken { state: State::Busy { .. }, .. }),
        "a function of another lease: {error}"
    );
}

#[test]
fn a_run_that_died_is_recovered_and_a_held_card_is_not() {
    let kernel = kernel();
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let before = bindings(&kernel);
    keeper.take(&card(), Purpose::Run).unwrap();
    assert_eq!(recovered(&keeper), 0, "its process lives");
    kernel.be_alive(2000);
    assert_eq!(keeper.leases().unwrap()[0].state, State::Abandoned);
    assert_eq!(recovered(&keeper), 1);
    assert_eq!(bindings(&kernel), before);

    keeper.take(&card(), Purpose::Hold).unwrap();
    kernel.be_alive(3000);
    assert_eq!(recovered(&keeper), 0);
    assert_eq!(keeper.leases().unwrap()[0].state, State::Held);
}

#[test]
fn an_unwell_card_stays_on_vfio_until_it_is_well() {
    let kernel = kernel();
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let before = bindings(&kernel);
    let held = keeper.take(&card(), Purpose::Hold).unwrap();
    let config = format!("{}/config", kernel.tree.device(NIC));
    let asleep = kernel.tree.read(&format!("{}/power/runtime_status", kernel.tree.device(NIC)));
    assert_eq!(asleep, "suspended\n", "as every card that nobody uses");
    let well = std::fs::read(kernel.tree.locate(&config)).unwrap();
    kernel.tree.write(&config, vec![0xff; well.len()]);
    let restored = keeper.give_back(&held, &[]).unwrap();
    assert_eq!(restored, [Restored::Unwell(Unwell::AllOnes(NIC.parse().unwrap()))]);
    assert_eq!(kernel.binding(NIC).0.as_deref(), Some("vfio-pci"));
    assert!(matches!(keeper.leases().unwrap()[0].state, State::Unwell { .. }));

    kernel.tree.write(&config, well);
    let held = keeper.leases().unwrap().remove(0);
    keeper.give_back(&held, &[]).unwrap();
    assert_eq!(bindings(&kernel), before);
}

#[test]
fn a_card_that_does_not_leave_d3_goes_back_to_vfio() {
    let mut kernel = kernel();
    kernel.stick_in_d3(NIC);
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let held = keeper.take(&card(), Purpose::Hold).unwrap();
    let nic = NIC.parse().unwrap();
    assert_eq!(vfio::take::unwell(&host, nic).unwrap(), None, "asleep in good order");
    let restored = keeper.give_back(&held, &[]).unwrap();
    assert_eq!(restored.first(), Some(&Restored::Unwell(Unwell::StuckInD3(nic))));
    assert_eq!(kernel.binding(NIC), (Some("vfio-pci".into()), "vfio-pci".into()));
    let held = keeper.leases().unwrap().remove(0);
    assert!(matches!(held.state, State::Unwell { .. }), "{:?}", held.state);
}

#[test]
fn what_is_rolled_back_stays_on_vfio_too_where_it_is_unwell() {
    let mut kernel = kernel();
    kernel.stick_in_d3(NIC);
    kernel.refuse(&format!("/sys/bus/pci/devices/{SOUND}/driver_override"), 16);
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let error = keeper.take(&card(), Purpose::Hold).unwrap_err();
    let TakeError::NotRolledBack { source: RestoreError::Unwell(_), .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(kernel.binding(NIC).0.as_deref(), Some("vfio-pci"));
    let held = keeper.leases().unwrap().remove(0);
    assert!(matches!(held.state, State::Unwell { .. }), "{:?}", held.state);
}

#[test]
fn a_card_that_somebody_else_bound_is_left_alone() {
    let kernel = kernel();
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let held = keeper.take(&card(), Purpose::Hold).unwrap();
    kernel.tree.bind(NIC, "igb");
    let restored = keeper.give_back(&held, &[]).unwrap();
    assert_eq!(restored[0], Restored::Foreign(NIC.parse().unwrap(), "igb".into()));
    assert_eq!(kernel.binding(NIC).0.as_deref(), Some("igb"));
}

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

type Act = fn(&FakeKernel, &Keeper<'_>);

/// Killed at any point of `act`, the host is back at `before` after `recover`. Returns how often it
/// was killed at a write, and elsewhere.
fn survives_every_kill(act: Act, prepare: Act) -> [usize; 2] {
    let writes = [Kill::Before, Kill::Within, Kill::After].map(|when| kills(act, prepare, when));
    [writes.iter().sum(), kills(act, prepare, Kill::At)]
}

fn kills(act: Act, prepare: Act, when: fn(usize) -> Kill) -> usize {
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

fn take_for_yui(_: &FakeKernel, keeper: &Keeper<'_>) {
    let yui = Recipient { name: Some("yui".into()), uid: 65_533, gid: 100 };
    keeper.take_for(&card(), Purpose::Hold, Some(&yui)).unwrap();
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
    assert_eq!(survives_every_kill(take_for_yui, |_, _| {}), [5 * 3, 5 * 4 + 2 * 4 + 2 + 2]);
}

#[test]
fn a_return_killed_at_any_point_is_recovered() {
    // Unbind and override of the one; override, unbind, probe and override of the other. Four
    // points around the journal lines of each and of the beginning, two around the node's change
    // of owner, three around the end of lock and journal.
    let expected = [6 * 3, 6 * 4 + 4 + 2 + 3];
    assert_eq!(survives_every_kill(give_back, take_for_yui), expected);
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

#[test]
fn nodes_are_given_to_a_user_and_taken_back() {
    let kernel = kernel();
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let yui = Recipient { name: Some("yui".into()), uid: 1000, gid: 100 };
    let held = keeper.take_for(&card(), Purpose::Hold, Some(&yui)).unwrap();
    let given = ("/dev/vfio/2".to_owned(), 1000, 100);
    assert_eq!(kernel.owners(), std::slice::from_ref(&given));
    assert_eq!(keeper.leases().unwrap(), std::slice::from_ref(&held));
    assert_eq!(held.lease.user, Some(yui.clone()));
    // Given again, as to a run, it still goes back to its first owner.
    let mori = Recipient { name: None, uid: 1001, gid: 100 };
    keeper.hand_over(&held, &mori).unwrap();
    keeper.give_back(&held, &[]).unwrap();
    let node = host.node("/dev").unwrap();
    let (uid, gid) = (node.uid, node.gid);
    let expected =
        [given, ("/dev/vfio/2".to_owned(), 1001, 100), ("/dev/vfio/2".to_owned(), uid, gid)];
    assert_eq!(kernel.owners(), expected);
    assert!(!host.exists("/dev/vfio/2"), "its node is gone with the last function");
}

#[test]
fn a_node_that_cannot_be_given_away_undoes_the_take() {
    let kernel = kernel();
    let host = kernel.tree.sysroot();
    let before = bindings(&kernel);
    let denied = Denied(&kernel);
    let keeper = Keeper::new(&host, &denied);
    let yui = Recipient { name: None, uid: 1000, gid: 100 };
    let error = keeper.take_for(&card(), Purpose::Hold, Some(&yui)).unwrap_err();
    let TakeError::Step { source: RestoreError::HandOver(_), .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(bindings(&kernel), before);
    assert_eq!(keeper.leases().unwrap(), []);
}

/// A kernel that lets nobody give files away.
struct Denied<'a>(&'a FakeKernel);

impl SysfsWriter for Denied<'_> {
    fn write(&self, order: &Order<'_>) -> Result<(), WriteFailure> {
        self.0.write(order)
    }

    fn chown(&self, _: &Path, _: u32, _: u32) -> std::io::Result<()> {
        Err(std::io::ErrorKind::PermissionDenied.into())
    }
}

#[test]
fn a_function_on_a_variant_of_vfio_pci_stays_there() {
    let mut kernel = kernel();
    kernel.tree.bind(NIC, "e1000e_vfio_pci");
    kernel.natural(NIC, "e1000e_vfio_pci");
    kernel.tree.directory(&format!("/sys/bus/pci/devices/{NIC}/vfio-dev/vfio0"));
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    kernel.kill(None);
    let held = keeper.take(&card()[..1], Purpose::Run).unwrap();
    assert!(held.lease.before[0].1.is_vfio());
    // It may even be unwell: no native driver is let at it.
    let config = format!("{}/config", kernel.tree.device(NIC));
    kernel.tree.write(&config, [0xff; 64]);
    let restored = keeper.give_back(&held, &[]).unwrap();
    assert!(matches!(&restored[..], [Restored::Back(..)]), "{restored:?}");
    assert_eq!(kernel.binding(NIC).0.as_deref(), Some("e1000e_vfio_pci"));
    assert_eq!(kernel.writes(), []);
}
