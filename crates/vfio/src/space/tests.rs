use super::*;
use crate::fixture::Fixture;
use testkit::tree::Function;

type Expected = fn(&Error) -> bool;

#[test]
fn a_function_is_opened_by_its_group() {
    let fixture = Fixture::new();
    let device = fixture.open(Interface::Group).unwrap();
    assert_eq!((device.group(), device.has_reset(), device.region_count()), (7, true, 9));
    assert_eq!(
        fixture.mock.take_log(),
        [
            "open /dev/vfio/vfio",
            "VFIO_GET_API_VERSION",
            "open /dev/vfio/7",
            "VFIO_GROUP_SET_CONTAINER",
            "VFIO_SET_IOMMU 3",
            "VFIO_GROUP_GET_DEVICE_FD 0000:01:00.0",
        ]
    );
}

#[test]
fn the_older_iommu_driver_will_do() {
    let fixture = Fixture::new();
    fixture.mock.state().extensions = vec![1];
    fixture.open(Interface::Group).unwrap();
    assert!(fixture.mock.take_log().contains(&"VFIO_SET_IOMMU 1".to_owned()));
}

#[test]
fn functions_of_one_group_share_it() {
    let mut fixture = Fixture::new();
    let second = "0000:01:00.1";
    fixture.tree.add(Function::new(second, 0x8086, 0x10d3).driver("vfio-pci").group(7));
    let device = fixture.device();
    device.space().open(&fixture.host(), second.parse().unwrap()).unwrap();
    assert_eq!(fixture.mock.take_log(), ["VFIO_GROUP_GET_DEVICE_FD 0000:01:00.1"]);
    let third = "0000:02:00.0";
    fixture.tree.add(Function::new(third, 0x8086, 0x10d3).driver("vfio-pci").group(8));
    device.space().open(&fixture.host(), third.parse().unwrap()).unwrap();
    assert_eq!(
        fixture.mock.take_log(),
        ["open /dev/vfio/8", "VFIO_GROUP_SET_CONTAINER", "VFIO_GROUP_GET_DEVICE_FD 0000:02:00.0",]
    );
}

#[test]
fn a_function_is_opened_by_iommufd() {
    let fixture = Fixture::new().with_iommufd();
    let choice = Choice::of_host(&fixture.host(), fixture.address()).unwrap();
    assert_eq!(choice.interface, Interface::Iommufd);
    assert_eq!(choice.reason, "/dev/vfio/devices/vfio3 and /dev/iommu exist");
    fixture.open(choice.interface).unwrap();
    assert_eq!(
        fixture.mock.take_log(),
        [
            "open /dev/iommu",
            "IOMMU_IOAS_ALLOC",
            "open /dev/vfio/devices/vfio3",
            "VFIO_DEVICE_BIND_IOMMUFD",
            "VFIO_DEVICE_ATTACH_IOMMUFD_PT 2",
        ]
    );
}

#[test]
fn the_interface_follows_what_the_host_has() {
    let fixture = Fixture::new();
    let choice = || Choice::of_host(&fixture.host(), fixture.address()).unwrap();
    assert_eq!(choice().interface, Interface::Group);
    // As Linux 6.1 and later have it without CONFIG_VFIO_DEVICE_CDEV.
    let entry = "/sys/bus/pci/devices/0000:01:00.0/vfio-dev/vfio0";
    fixture.tree.write(&format!("{entry}/uevent"), "");
    assert_eq!(choice().interface, Interface::Group);
    fixture.tree.write(&format!("{entry}/dev"), "509:0\n");
    assert_eq!(choice().interface, Interface::Group);
    assert_eq!(choice().reason, "/dev/iommu does not exist");
}

#[test]
fn a_node_that_cannot_be_opened_is_named() {
    for (errno, expected) in [
        (Errno::NOENT, (|e| matches!(e, Error::NodeMissing { .. })) as Expected),
        (Errno::ACCESS, |e| matches!(e, Error::NodeDenied { .. }) && e.is_denied()),
        (Errno::PERM, |e| matches!(e, Error::NodeDenied { .. })),
        (Errno::BUSY, |e| e.is_busy()),
        (Errno::NXIO, |e| matches!(e, Error::Kernel { operation: "open", .. })),
    ] {
        for (interface, path) in [
            (Interface::Group, "/dev/vfio/vfio"),
            (Interface::Group, "/dev/vfio/7"),
            (Interface::Iommufd, "/dev/iommu"),
            (Interface::Iommufd, "/dev/vfio/devices/vfio3"),
        ] {
            let fixture = Fixture::new().with_iommufd();
            fixture.mock.state().missing.insert(path.to_owned(), errno);
            let error = fixture.open(interface).unwrap_err();
            assert!(expected(&error), "{path} {errno:?}: {error:?}");
            assert!(errno == Errno::NXIO || error.to_string().contains(path), "{error}");
        }
    }
}

#[test]
fn a_function_that_is_not_on_vfio_is_not_tried() {
    let fixture = Fixture::new();
    fixture.tree.bind(crate::fixture::CARD, "e1000e");
    let error = fixture.open(Interface::Group).unwrap_err();
    assert_eq!(error.to_string(), "0000:01:00.0 is not bound to vfio-pci but to e1000e");
    fixture.tree.unbind(crate::fixture::CARD);
    let error = fixture.open(Interface::Group).unwrap_err();
    assert_eq!(error.to_string(), "0000:01:00.0 is not bound to vfio-pci but to no driver");
    // Unbound between our look and the kernel's.
    let fixture = Fixture::new();
    fixture.mock.refuse("VFIO_GROUP_GET_DEVICE_FD", Errno::NODEV);
    let error = fixture.open(Interface::Group).unwrap_err();
    assert!(matches!(error, Error::NotOnVfio { driver: None, .. }));
}

#[test]
fn a_function_without_a_group_is_not_tried() {
    let mut fixture = Fixture::new();
    let alone = "0000:02:00.0";
    fixture.tree.add(Function::new(alone, 0x8086, 0x10d3));
    let space = fixture.space(Interface::Group).unwrap();
    let error = space.open(&fixture.host(), alone.parse().unwrap()).unwrap_err();
    assert!(matches!(error, Error::NoGroup { .. }));
}

#[test]
fn a_captured_host_has_no_devices() {
    let fixture = Fixture::new();
    let error = Device::open(&fixture.host(), fixture.address()).unwrap_err();
    assert!(matches!(error, Error::Captured { .. }));
}

#[test]
fn a_group_is_asked_for_without_a_function_of_it() {
    let fixture = Fixture::new();
    let kernel: Arc<dyn Kernel> = fixture.mock.clone();
    let asked = || viable(&kernel, fixture.address(), 7);
    assert!(asked().unwrap());
    assert_eq!(fixture.mock.take_log(), ["open /dev/vfio/7"]);
    fixture.mock.state().viable = false;
    assert!(!asked().unwrap());
    fixture.mock.refuse("VFIO_GROUP_GET_STATUS", Errno::IO);
    let error = asked().unwrap_err();
    assert!(matches!(&error, Error::Kernel { operation: "VFIO_GROUP_GET_STATUS", .. }), "{error}");
    for (errno, expected) in [
        (Errno::NOENT, (|error| matches!(error, Error::NodeMissing { .. })) as Expected),
        (Errno::BUSY, |error| matches!(error, Error::Busy { .. })),
        (Errno::PERM, |error| matches!(error, Error::NodeDenied { .. })),
    ] {
        fixture.mock.state().missing.insert("/dev/vfio/7".into(), errno);
        let error = asked().unwrap_err();
        assert!(expected(&error), "{errno:?}: {error}");
    }
    // A captured host has no kernel to ask.
    let error = is_group_viable(&fixture.host(), fixture.address(), 7).unwrap_err();
    assert!(matches!(error, Error::Captured { .. }), "{error}");
}

#[test]
fn a_group_that_is_not_viable_names_who_blocks_it() {
    let not_viable = |fixture: &Fixture, interface| {
        let error = fixture.open(interface).unwrap_err();
        let Error::GroupNotViable { blockers, group: 7, .. } = &error else { panic!("{error:?}") };
        assert_eq!(blockers[0].driver, "snd_hda_intel");
        assert_eq!(
            error.to_string(),
            "group 7 of 0000:01:00.0 is not viable: 0000:01:00.1 is held by snd_hda_intel"
        );
    };
    let blocked = || {
        let mut fixture = Fixture::new().with_iommufd();
        let sound = Function::new("0000:01:00.1", 0x8086, 1).class(0x04_0300);
        fixture.tree.add(sound.driver("snd_hda_intel").group(7));
        fixture
    };
    let fixture = blocked();
    fixture.mock.state().viable = false;
    not_viable(&fixture, Interface::Group);
    assert!(!fixture.mock.take_log().contains(&"VFIO_GROUP_SET_CONTAINER".to_owned()));
    for (interface, request) in [
        (Interface::Group, "VFIO_GROUP_SET_CONTAINER"),
        (Interface::Iommufd, "VFIO_DEVICE_BIND_IOMMUFD"),
    ] {
        let fixture = blocked();
        fixture.mock.refuse(request, Errno::BUSY);
        not_viable(&fixture, interface);
    }
    let fixture = Fixture::new();
    fixture.mock.state().viable = false;
    let error = fixture.open(Interface::Group).unwrap_err();
    assert!(error.to_string().ends_with("not viable: for no reason that sysfs shows"), "{error}");
}

#[test]
fn what_another_process_has_is_busy() {
    for (interface, request, errno) in [
        (Interface::Group, "VFIO_GROUP_SET_CONTAINER", Errno::BUSY),
        (Interface::Iommufd, "VFIO_DEVICE_BIND_IOMMUFD", Errno::BUSY),
        (Interface::Iommufd, "VFIO_DEVICE_BIND_IOMMUFD", Errno::INVAL),
    ] {
        let fixture = Fixture::new().with_iommufd();
        fixture.mock.refuse(request, errno);
        let error = fixture.open(interface).unwrap_err();
        assert!(error.is_busy(), "{request} {errno:?}: {error:?}");
    }
}

#[test]
fn missing_interrupt_remapping_is_told_from_other_refusals() {
    for (interface, request, parameter) in [
        (Interface::Group, "VFIO_SET_IOMMU", ALLOW_GROUP),
        (Interface::Iommufd, "VFIO_DEVICE_BIND_IOMMUFD", ALLOW_IOMMUFD),
    ] {
        let fixture = Fixture::new().with_iommufd();
        fixture.mock.refuse(request, Errno::PERM);
        let error = fixture.open(interface).unwrap_err();
        let Error::InterruptRemapping { value: None, .. } = error else { panic!("{error:?}") };
        fixture.tree.write(parameter, "N\n");
        let error = fixture.open(interface).unwrap_err();
        assert!(error.to_string().ends_with(&format!("({parameter} is N)")), "{error}");
        fixture.tree.write(parameter, "Y\n");
        let error = fixture.open(interface).unwrap_err();
        assert!(matches!(error, Error::Kernel { operation, .. } if operation == request));
    }
}

#[test]
fn memory_that_firmware_reserves_is_the_reason_where_there_is_some() {
    for (interface, request, errno) in [
        (Interface::Group, "VFIO_SET_IOMMU", Errno::PERM),
        (Interface::Group, "VFIO_GROUP_SET_CONTAINER", Errno::INVAL),
        (Interface::Iommufd, "VFIO_DEVICE_BIND_IOMMUFD", Errno::INVAL),
        (Interface::Iommufd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", Errno::PERM),
    ] {
        let fixture = Fixture::new().with_iommufd();
        let line = "0x00000000bdf6f000 0x00000000bdf7efff direct";
        fixture.tree.write(
            "/sys/kernel/iommu_groups/7/reserved_regions",
            format!("{line}\n0x00000000fee00000 0x00000000feefffff msi\n"),
        );
        fixture.mock.refuse(request, errno);
        let error = fixture.open(interface).unwrap_err();
        let Error::ReservedMemory { regions, .. } = error else { panic!("{request}: {error:?}") };
        assert_eq!(regions, [line]);
    }
}

#[test]
fn a_kernel_without_an_iommu_driver_or_of_another_age_is_told() {
    let fixture = Fixture::new();
    fixture.mock.state().extensions.clear();
    let error = fixture.open(Interface::Group).unwrap_err();
    assert!(matches!(error, Error::NoIommuDriver { .. }));
    let fixture = Fixture::new();
    fixture.mock.returns("VFIO_GET_API_VERSION", 1);
    let error = fixture.open(Interface::Group).unwrap_err();
    assert!(matches!(error, Error::Answer { operation: "VFIO_GET_API_VERSION", .. }));
}

#[test]
fn every_request_can_fail_and_is_named() {
    for (interface, requests) in [
        (
            Interface::Group,
            &[
                "VFIO_GET_API_VERSION",
                "VFIO_GROUP_GET_STATUS",
                "VFIO_GROUP_SET_CONTAINER",
                "VFIO_CHECK_EXTENSION",
                "VFIO_SET_IOMMU",
                "VFIO_GROUP_GET_DEVICE_FD",
                "VFIO_DEVICE_GET_INFO",
            ][..],
        ),
        (
            Interface::Iommufd,
            &[
                "IOMMU_IOAS_ALLOC",
                "VFIO_DEVICE_BIND_IOMMUFD",
                "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
                "VFIO_DEVICE_GET_INFO",
            ],
        ),
    ] {
        for request in requests {
            let fixture = Fixture::new().with_iommufd();
            fixture.mock.refuse(request, Errno::IO);
            let error = fixture.open(interface).unwrap_err();
            let Error::Kernel { operation, source, .. } = error else { panic!("{error:?}") };
            assert_eq!(operation, *request);
            assert_eq!(source.raw_os_error(), Some(Errno::IO.raw_os_error()));
        }
    }
}

#[test]
fn what_is_no_pci_function_or_has_countless_regions_is_refused() {
    let fixture = Fixture::new();
    fixture.mock.state().device_flags = 4;
    let error = fixture.open(Interface::Group).unwrap_err();
    assert!(matches!(error, Error::Answer { operation: "VFIO_DEVICE_GET_INFO", .. }));
    let fixture = Fixture::new();
    fixture.mock.patch("VFIO_DEVICE_GET_INFO", 8, &u32::MAX.to_ne_bytes());
    let error = fixture.open(Interface::Group).unwrap_err();
    assert!(error.to_string().ends_with("4294967295 regions"), "{error}");
}
