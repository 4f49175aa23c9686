//! What the kernel answers to VFIO's questions.

use vfio::{Aperture, RegionInfo};

/// An answer with its chain of capabilities: the first byte says to which question.
pub fn vfio_answer(data: &[u8]) {
    let Some((question, answer)) = data.split_first() else { return };
    if question & 1 == 0 {
        region(answer);
    } else {
        aperture(answer);
    }
}

fn region(answer: &[u8]) {
    let Ok(info) = RegionInfo::parse(answer) else { return };
    assert!(info.offset.checked_add(info.size).is_some(), "{info:?}");
    assert!(!info.why_not_mappable().is_empty());
    // A list is not longer than the answer that it came in.
    assert!(info.sparse.iter().all(|areas| areas.len() <= answer.len() / 16), "{info:?}");
}

fn aperture(answer: &[u8]) {
    let Ok(aperture) = Aperture::parse(answer) else { return };
    assert!(aperture.alignment.is_power_of_two(), "{aperture:?}");
    for (size, above) in [(1, 0), (4096, 1 << 20), (1 << 40, 1), (u64::MAX, 0), (0, u64::MAX)] {
        let Some(start) = aperture.place(size, above) else { continue };
        let last = start.checked_add(size - 1).expect("within the addresses");
        assert!(start >= above && start % aperture.alignment == 0, "{start:#x} of {aperture:?}");
        let inside = |ranges: &Vec<vfio::IovaRange>| {
            ranges.iter().any(|range| range.first <= start && last <= range.last)
        };
        assert!(aperture.ranges.as_ref().is_none_or(inside), "{start:#x} of {aperture:?}");
    }
}
