//! Nodes that are given to a user, and variants of vfio-pci.

use super::*;

#[test]
fn nodes_are_given_to_a_user_and_taken_back() {
    let kernel = kernel();
    let host = kernel.tree.sysroot();
    let keeper = Keeper::new(&host, &kernel);
    let tester = Recipient { name: Some("tester".into()), uid: 1000, gid: 100 };
    let held = keeper.take_for(&card(), Purpose::Hold, Some(&tester)).unwrap();
    let given = ("/dev/vfio/2".to_owned(), 1000, 100);
    assert_eq!(kernel.owners(), std::slice::from_ref(&given));
    assert_eq!(keeper.leases().unwrap(), std::slice::from_ref(&held));
    assert_eq!(held.lease.user, Some(tester.clone()));
    // Given again, as to a run, it still goes back to its first owner.
    let another = Recipient { name: None, uid: 1001, gid: 100 };
    keeper.hand_over(&held, &another).unwrap();
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
    let tester = Recipient { name: None, uid: 1000, gid: 100 };
    let error = keeper.take_for(&card(), Purpose::Hold, Some(&tester)).unwrap_err();
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
