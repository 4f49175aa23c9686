use super::*;
use crate::fixture::{Fixture, capability, pairs};
use crate::sys::mock::MockRegion;

fn set(fixture: &Fixture, flags: u32, size: u64, capabilities: Vec<u8>) {
    fixture.mock.state().regions.insert(0, MockRegion { flags, size, capabilities });
}

#[test]
fn a_region_is_read_and_written_as_the_card_has_it() {
    let device = Fixture::new().device();
    assert_eq!(device.read(CONFIG, 0, Width::Double).unwrap(), 0x10d3_8086);
    assert_eq!(device.read(CONFIG, 2, Width::Word).unwrap(), 0x10d3);
    device.write(CONFIG, 0x10, Width::Quad, 0x1122_3344_5566_7788).unwrap();
    let mut bytes = [0; 4];
    device.read_bytes(CONFIG, 0x10, &mut bytes).unwrap();
    assert_eq!(bytes, [0x88, 0x77, 0x66, 0x55]);
}

#[test]
fn nothing_is_transferred_outside_a_region() {
    let device = Fixture::new().device();
    for (offset, width) in [(256, Width::Byte), (253, Width::Double), (u64::MAX, Width::Word)] {
        let error = device.read(CONFIG, offset, width).unwrap_err();
        assert!(matches!(error, Error::OutOfBounds { size: 256, .. }), "{error:?}");
        assert!(device.write(CONFIG, offset, width, 0).is_err());
    }
    for absent in [8, 9, u32::MAX] {
        let error = device.read(absent, 0, Width::Byte).unwrap_err();
        assert!(matches!(error, Error::Absent { .. }), "{error:?}");
    }
    assert!(matches!(device.read(5, 0, Width::Byte), Err(Error::OutOfBounds { size: 0, .. })));
}

#[test]
fn a_short_transfer_is_an_error() {
    let fixture = Fixture::new();
    // The kernel claims 4096 bytes and gives what it has.
    fixture.mock.patch("VFIO_DEVICE_GET_REGION_INFO", 16, &4096u64.to_ne_bytes());
    let device = fixture.device();
    let error = device.read(CONFIG, 254, Width::Double).unwrap_err();
    assert_eq!(
        error.to_string(),
        "read of 4 bytes at 0xfe of region 7 of 0000:01:00.0 transferred 2"
    );
    let error = device.read(CONFIG, 4000, Width::Byte).unwrap_err();
    assert!(matches!(error, Error::Short { done: 0, .. }));
}

#[test]
fn a_region_is_asked_for_once() {
    let fixture = Fixture::new();
    let device = fixture.device();
    device.region(0).unwrap();
    fixture.mock.refuse("VFIO_DEVICE_GET_REGION_INFO", Errno::IO);
    device.region(0).unwrap();
    let error = device.region(1).unwrap_err();
    assert!(matches!(error, Error::Kernel { operation: GET_REGION_INFO, .. }));
}

#[test]
fn capabilities_of_a_region_are_read() {
    let fixture = Fixture::new();
    let sparse = [vec![], pairs(2, &[[0, 0x1000], [0x3000, 0x1000]])].concat();
    let chain = [
        capability(3, 40, &[]),
        capability(1, 32 + 8 + 8 + 8 + 32, &sparse),
        capability(2, 0, &[1, 0, 0, 0, 2, 0, 0, 0]),
    ];
    set(&fixture, 7, 0x8000, chain.concat());
    let device = fixture.device();
    let info = device.region(0).unwrap();
    assert!(info.msix_mappable && info.read && info.write && info.map);
    let areas = [(0, 0x1000), (0x3000, 0x1000)].map(|(offset, size)| Area { offset, size });
    assert_eq!(info.sparse.as_deref(), Some(&areas[..]));
    assert_eq!(info.kind, Some((1, 2)));
    device.map_region(0, 0x3000, 0x1000).unwrap();
    for (offset, length) in [(0x1000, 0x1000), (0, 0x2000), (0x3000, 0x2000)] {
        let error = device.map_region(0, offset, length).unwrap_err();
        assert!(matches!(error, Error::NotMappable { .. }), "{error:?}");
    }
}

#[test]
fn hostile_answers_are_bounded() {
    let looping = [capability(3, 40, &[]), capability(3, 32, &[])].concat();
    let endless = capability(1, 0, &pairs(u32::MAX, &[[0, 1]]));
    let leaving = capability(3, 4096, &[]);
    for (capabilities, expected) in [
        (looping, "more than 64 capabilities"),
        (endless, "a list of 4294967295 in 16 bytes"),
        (leaving, "a capability at 0x1000 of 40 bytes"),
    ] {
        let fixture = Fixture::new();
        set(&fixture, 7, 0x8000, capabilities);
        let error = fixture.device().region(0).unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
    }
    let fixture = Fixture::new();
    set(&fixture, 7, 0x8000, capability(3, 0, &[]));
    fixture.mock.patch("VFIO_DEVICE_GET_REGION_INFO", 0, &u32::MAX.to_ne_bytes());
    let error = fixture.device().region(0).unwrap_err();
    assert!(error.to_string().ends_with("4294967295 bytes of capabilities"), "{error}");
    let fixture = Fixture::new();
    fixture.mock.patch("VFIO_DEVICE_GET_REGION_INFO", 24, &u64::MAX.to_ne_bytes());
    let error = fixture.device().region(0).unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error:?}");
}

#[test]
fn a_mapping_reaches_the_region_and_no_further() {
    let device = Fixture::new().device();
    let mapped = device.map_region(0, 0x1000, 0x1000).unwrap();
    device.write(0, 0x1004, Width::Double, 0xdead_beef).unwrap();
    assert_eq!(mapped.read(4, Width::Double).unwrap(), 0xdead_beef);
    mapped.write(8, Width::Word, 0xaabb_ccdd).unwrap();
    assert_eq!(device.read(0, 0x1008, Width::Quad).unwrap(), 0xccdd);
    for (offset, width) in [(0x1000, Width::Byte), (0xffc, Width::Quad), (2, Width::Double)] {
        let error = mapped.read(offset, width).unwrap_err();
        assert!(matches!(error, Error::OutOfBounds { size: 0x1000, .. }), "{error:?}");
        assert!(mapped.write(offset, width, 0).is_err());
    }
}

#[test]
fn what_cannot_be_mapped_says_why() {
    let fixture = Fixture::new();
    let device = fixture.device();
    for (region, offset, length, expected) in [
        (1, 0, 0x1000, "shares its page"),
        (2, 0, 0x1000, "the function does not have it"),
        (CONFIG, 0, 0x1000, "the kernel maps only BARs"),
        (0, 0x800, 0x1000, "does not begin and end at a page"),
        (0, 0, 0, "does not begin and end at a page"),
        (0, 0, 100, "does not begin and end at a page"),
        (0, 0x1_f000, 0x2000, "outside the 131072 bytes"),
        (0, 0x1000u64.wrapping_neg(), 0x1000, "outside the 131072 bytes"),
    ] {
        let error = device.map_region(region, offset, length).unwrap_err();
        assert!(error.to_string().contains(expected), "{region} {offset:#x}: {error}");
    }
}

#[test]
fn a_bar_smaller_than_a_page_is_mapped_where_the_kernel_offers_it() {
    let fixture = Fixture::new();
    set(&fixture, 7, 256, Vec::new());
    let mapped = fixture.device().map_region(0, 0, 4096).unwrap();
    assert_eq!(mapped.size(), 4096);
}
