use super::*;
use crate::Interface;
use crate::fixture::Fixture;

#[test]
fn a_function_is_reset_if_it_can_be() {
    let fixture = Fixture::new();
    fixture.device().reset().unwrap();
    assert_eq!(fixture.mock.take_log(), ["VFIO_DEVICE_RESET"]);
    fixture.mock.refuse("VFIO_DEVICE_RESET", Errno::AGAIN);
    let error = fixture.device().reset().unwrap_err();
    assert!(matches!(error, Error::Kernel { operation: "VFIO_DEVICE_RESET", .. }));
    fixture.mock.state().device_flags = 2;
    assert!(matches!(fixture.device().reset(), Err(Error::NoReset { .. })));
    assert!(fixture.mock.take_log().is_empty());
}

#[test]
fn a_bus_reset_needs_all_that_it_touches() {
    let fixture = Fixture::new();
    let device = fixture.device();
    let scope = device.bus_reset_scope().unwrap().unwrap();
    let alone = Dependent { address: fixture.address(), group: Some(7), owned: None };
    assert_eq!(scope, [alone]);
    device.bus_reset().unwrap();
    assert_eq!(fixture.mock.take_log(), ["VFIO_DEVICE_PCI_HOT_RESET with 1 groups"]);
    fixture.mock.state().bus = Some(vec![(0, 1, 0, 7), (0, 1, 1, 7), (0, 1, 8, 9)]);
    let error = device.bus_reset().unwrap_err();
    assert_eq!(error.to_string(), "a bus reset of 0000:01:00.0 would also reset 0000:01:01.0");
    assert!(fixture.mock.take_log().is_empty());
}

#[test]
fn with_iommufd_the_kernel_knows_what_is_ours() {
    let fixture = Fixture::new().with_iommufd();
    let device = fixture.open(Interface::Iommufd).unwrap();
    fixture.mock.state().bus = Some(vec![(0, 1, 0, 1), (0, 1, 1, 0)]);
    device.bus_reset().unwrap();
    let log = fixture.mock.take_log();
    assert_eq!(log.last().unwrap(), "VFIO_DEVICE_PCI_HOT_RESET with 0 groups");
    fixture.mock.state().bus = Some(vec![(0, 1, 0, 1), (0, 1, 1, u32::MAX)]);
    let error = device.bus_reset().unwrap_err();
    assert!(matches!(error, Error::ResetTouches { others, .. } if others.len() == 1));
    assert!(fixture.mock.take_log().is_empty());
}

#[test]
fn where_there_is_no_bus_reset_none_is_made() {
    let fixture = Fixture::new();
    fixture.mock.state().bus = None;
    let device = fixture.device();
    assert_eq!(device.bus_reset_scope().unwrap(), None);
    assert!(matches!(device.bus_reset(), Err(Error::NoReset { .. })));
}

#[test]
fn a_full_bus_is_listed_and_an_endless_one_refused() {
    let fixture = Fixture::new();
    let device = fixture.device();
    fixture.mock.state().bus = Some((0..=255).map(|function| (0, 1, function, 7)).collect());
    assert_eq!(device.bus_reset_scope().unwrap().unwrap().len(), 256);
    fixture.mock.patch(HOT_RESET_INFO, 8, &u32::MAX.to_ne_bytes());
    let error = device.bus_reset_scope().unwrap_err();
    assert!(error.to_string().contains("4294967295 functions"), "{error}");
    let fixture = Fixture::new();
    let device = fixture.device();
    fixture.mock.refuse(HOT_RESET_INFO, Errno::NOSPC);
    assert!(matches!(device.bus_reset_scope(), Err(Error::Answer { .. })));
    fixture.mock.refuse(HOT_RESET_INFO, Errno::PERM);
    assert!(matches!(device.bus_reset_scope(), Err(Error::Kernel { .. })));
}
