//! Taking, returning and recovering, on a fake kernel.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod killed;
mod nodes;
mod several;

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

#[test]
fn a_take_that_fails_at_its_end_is_rolled_back() {
    let kernel = kernel();
    // A link that leads to itself cannot be listed for nodes.
    let nodes = format!("{}/vfio-dev", kernel.tree.device(SOUND));
    kernel.tree.link(&nodes, &nodes);
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let before = bindings(&kernel);
    let tester = Recipient { name: None, uid: 1000, gid: 100 };
    let error = keeper.take_for(&card(), Purpose::Hold, Some(&tester)).unwrap_err();
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
