use super::*;
use crate::Interface;
use crate::fixture::{Fixture, capability, pairs};
use proptest::prelude::*;

fn memory(size: usize) -> Arc<Memory> {
    Arc::new(Memory::anonymous(size).unwrap())
}

#[test]
fn memory_is_mapped_and_unmapped_by_both_interfaces() {
    for (interface, map, unmap) in [
        (Interface::Group, "VFIO_IOMMU_MAP_DMA 0x3", "VFIO_IOMMU_UNMAP_DMA"),
        (Interface::Iommufd, "IOMMU_IOAS_MAP 0x7", "IOMMU_IOAS_UNMAP"),
    ] {
        let fixture = Fixture::new().with_iommufd();
        let device = fixture.open(interface).unwrap();
        fixture.mock.take_log();
        let mapping = device.space().map(0x20_0000, memory(5000), Access::Both).unwrap();
        assert_eq!((mapping.iova(), mapping.size()), (0x20_0000, 8192));
        mapping.unmap().unwrap();
        let expected = [format!("{map} 0x200000+0x2000"), format!("{unmap} 0x200000+0x2000")];
        assert_eq!(fixture.mock.take_log(), expected);
    }
}

#[test]
fn what_the_card_may_do_is_passed_on() {
    for (interface, access, flags) in [
        (Interface::Group, Access::Read, "0x1"),
        (Interface::Group, Access::Write, "0x2"),
        (Interface::Iommufd, Access::Read, "0x5"),
        (Interface::Iommufd, Access::Write, "0x3"),
    ] {
        let fixture = Fixture::new().with_iommufd();
        let device = fixture.open(interface).unwrap();
        let _mapping = device.space().map(0, memory(1), access).unwrap();
        let log = fixture.mock.take_log();
        assert!(log.last().unwrap().contains(&format!(" {flags} 0x0+")), "{log:?}");
    }
}

#[test]
fn a_mapping_ends_when_it_is_dropped() {
    let fixture = Fixture::new();
    let device = fixture.device();
    let mapping = device.space().map(0, memory(1), Access::Both).unwrap();
    let again = device.space().map(0, memory(1), Access::Both).unwrap_err();
    assert!(matches!(again, Error::Kernel { operation: "VFIO_IOMMU_MAP_DMA", .. }));
    // The space outlives the device for it.
    drop(device);
    drop(mapping);
    assert!(fixture.mock.state().mapped.is_empty());
}

#[test]
fn an_unmapping_that_does_something_else_is_an_error() {
    for interface in [Interface::Group, Interface::Iommufd] {
        let fixture = Fixture::new().with_iommufd();
        let device = fixture.open(interface).unwrap();
        let mapping = device.space().map(0, memory(1), Access::Both).unwrap();
        fixture.mock.state().mapped.clear();
        let error = mapping.unmap().unwrap_err();
        assert!(error.to_string().ends_with("0 bytes unmapped of 4096"), "{error}");
    }
}

#[test]
fn the_limit_on_locked_memory_is_told() {
    let limited = rustix::process::getrlimit(Resource::Memlock).current;
    for (interface, request) in
        [(Interface::Group, "VFIO_IOMMU_MAP_DMA"), (Interface::Iommufd, "IOMMU_IOAS_MAP")]
    {
        let fixture = Fixture::new().with_iommufd();
        let device = fixture.open(interface).unwrap();
        fixture.mock.refuse(request, Errno::NOMEM);
        let error = device.space().map(0, memory(1), Access::Both).unwrap_err();
        match limited {
            Some(limit) => assert!(
                matches!(error, Error::LockedMemory { size: 4096, limit: told, .. } if told == limit)
            ),
            None => {
                assert!(matches!(error, Error::Kernel { operation, .. } if operation == request))
            }
        }
    }
}

#[test]
fn a_part_is_mapped_and_nothing_beyond_it() {
    let fixture = Fixture::new();
    let device = fixture.device();
    let space = device.space();
    let _part = space.map_part(0, memory(8192), 4096, 4096, Access::Read).unwrap();
    for (offset, size) in [(4096, 8192), (usize::MAX, 1), (0, 8193)] {
        let error = space.map_part(0x10_0000, memory(8192), offset, size, Access::Read);
        assert!(matches!(error, Err(Error::OutOfBounds { size: 8192, .. })));
    }
}

#[test]
fn the_aperture_of_a_container() {
    let fixture = Fixture::new();
    let device = fixture.device();
    let aperture = || device.space().aperture();
    let expected = Aperture { ranges: None, alignment: 4096, mappings_left: None };
    assert_eq!(aperture().unwrap(), expected);
    let ranges = pairs(2, &[[0, 0xfedf_ffff], [0xfef0_0000, 0xffff_ffff_ffff]]);
    fixture.mock.state().iommu_capabilities =
        [capability(1, 24 + 48, &ranges), capability(3, 0, &65535u32.to_ne_bytes())].concat();
    let found = aperture().unwrap();
    assert_eq!(found.mappings_left, Some(65535));
    let last = found.ranges.as_ref().unwrap()[1];
    assert_eq!(last, IovaRange { first: 0xfef0_0000, last: 0xffff_ffff_ffff });
    assert_eq!(found.place(1, 1 << 20), Some(1 << 20));
    assert_eq!(found.place(0x10_0000, 0xfed8_0000), Some(0xfef0_0000));
    assert_eq!(found.place(1, 1 << 48), None);
    assert_eq!(found.place(u64::MAX, 0), None);
    assert_eq!(found.place(0, 0), None);
    fixture.mock.state().iommu_capabilities = capability(1, 0, &pairs(9, &[[0, 1]]));
    assert!(matches!(aperture(), Err(Error::Answer { operation: GET_INFO, .. })));
    fixture.mock.patch(GET_INFO, 8, &0u64.to_ne_bytes());
    fixture.mock.state().iommu_capabilities.clear();
    assert!(matches!(aperture(), Err(Error::Answer { operation: GET_INFO, .. })));
}

#[test]
fn the_aperture_of_iommufd() {
    let fixture = Fixture::new().with_iommufd();
    let device = fixture.open(Interface::Iommufd).unwrap();
    let aperture = || device.space().aperture();
    let found = aperture().unwrap();
    assert_eq!((found.alignment, found.ranges.unwrap().len()), (4096, 2));
    // More than there is room for at first.
    fixture.mock.state().iova_ranges = (0..100).map(|n| [n << 32, (n << 32) + 0xffff]).collect();
    let ranges = aperture().unwrap().ranges.unwrap();
    assert_eq!((ranges.len(), ranges[99].first), (100, 99 << 32));
    fixture.mock.state().iova_ranges = vec![[0, 1]; 5000];
    let error = aperture().unwrap_err();
    assert!(error.to_string().ends_with("5000 ranges"), "{error}");
    fixture.mock.refuse(IOVA_RANGES, Errno::MSGSIZE);
    assert!(matches!(aperture(), Err(Error::Answer { operation: IOVA_RANGES, .. })));
}

#[test]
fn memory_of_a_file_is_shared_with_it() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(8192).unwrap();
    let memory = Memory::of_file(&file, 4096, 4096, Access::Both).unwrap();
    memory.write_bytes(3, b"shared").unwrap();
    let mut back = [0; 6];
    rustix::io::pread(&file, &mut back, 4099).unwrap();
    assert_eq!(&back, b"shared");
    for (offset, size) in [(4096, 8192), (u64::MAX, 4096)] {
        let error = Memory::of_file(&file, offset, size, Access::Both);
        assert!(matches!(error, Err(Error::OutOfBounds { size: 8192, .. })));
    }
    let unaligned = Memory::of_file(&file, 1, 4096, Access::Both);
    assert!(matches!(unaligned, Err(Error::Resource { .. })));
}

#[test]
fn memory_that_cannot_be_written_is_lent_for_reading_only() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(4096).unwrap();
    let memory = Arc::new(Memory::of_file(&file, 0, 4096, Access::Read).unwrap());
    assert!(memory.write_bytes(0, &[1]).is_err());
    let fixture = Fixture::new();
    let device = fixture.device();
    assert!(device.space().map(0, Arc::clone(&memory), Access::Both).is_err());
    device.space().map(0, memory, Access::Read).unwrap();
}

#[test]
fn too_much_memory_is_an_error() {
    assert!(matches!(Memory::anonymous(usize::MAX), Err(Error::Resource { .. })));
}

proptest! {
    #[test]
    fn bytes_come_back_as_they_were_written(
        offset in 0usize..64, bytes in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let memory = Memory::anonymous(4096).unwrap();
        memory.write_bytes(offset, &bytes).unwrap();
        let mut all = vec![0; 4096];
        memory.read_bytes(0, &mut all).unwrap();
        let mut expected = vec![0; 4096];
        expected[offset..offset + bytes.len()].copy_from_slice(&bytes);
        prop_assert_eq!(all, expected);
        let mut back = vec![0; bytes.len()];
        memory.read_bytes(offset, &mut back).unwrap();
        prop_assert_eq!(back, bytes);
    }
}
