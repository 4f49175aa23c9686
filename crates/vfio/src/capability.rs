//! Chains of capabilities in the kernel's answers (`struct vfio_info_cap_header`).

use vfio_bindings::bindings::vfio::vfio_info_cap_header;

/// An answer of the kernel that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer makes no sense: {0}")]
pub struct Nonsense(pub(crate) String);

impl From<String> for Nonsense {
    fn from(what: String) -> Self {
        Self(what)
    }
}

impl Nonsense {
    pub(crate) fn short(answer: &[u8]) -> Self {
        Self(format!("{} bytes", answer.len()))
    }
}

/// The most bytes that an answer with its capabilities may have.
pub(crate) const MOST_BYTES: usize = 1 << 20;
/// The most capabilities that an answer may have; the kernel knows a handful.
const MOST: usize = 64;

/// One capability: its id, and its bytes from its header to the end of the answer.
pub(crate) type Capability<'a> = (u16, &'a [u8]);

/// Follows the chain that begins at `first` (0: there is none).
///
/// # Errors
/// The chain leaves the answer, or loops.
pub(crate) fn chain(answer: &[u8], first: u32) -> Result<Vec<Capability<'_>>, String> {
    let mut found = Vec::new();
    let mut at = first;
    while at != 0 {
        let offset = usize::try_from(at).unwrap_or(usize::MAX);
        let bytes = answer.get(offset..).unwrap_or_default();
        let id = u16_at(bytes, std::mem::offset_of!(vfio_info_cap_header, id));
        let next = u32_at(bytes, std::mem::offset_of!(vfio_info_cap_header, next));
        let (Some(id), Some(next)) = (id, next) else {
            return Err(format!("a capability at {at:#x} of {} bytes", answer.len()));
        };
        if found.len() == MOST {
            return Err(format!("more than {MOST} capabilities"));
        }
        found.push((id, bytes));
        at = next;
    }
    Ok(found)
}

/// Reads an array of pairs of 64-bit numbers: its length is at `count_at`, it begins at `first`.
pub(crate) fn pairs(bytes: &[u8], count_at: usize, first: usize) -> Result<Vec<[u64; 2]>, String> {
    let count = u32_at(bytes, count_at).ok_or("a capability that is cut short")?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let rest = bytes.get(first..).unwrap_or_default();
    if count > rest.len() / 16 {
        return Err(format!("a list of {count} in {} bytes", rest.len()));
    }
    let number = |bytes: &[u8], at| u64_at(bytes, at).unwrap_or_default();
    Ok(rest.chunks_exact(16).take(count).map(|pair| [number(pair, 0), number(pair, 8)]).collect())
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(id: u16, next: u32) -> Vec<u8> {
        [&id.to_ne_bytes()[..], &1u16.to_ne_bytes(), &next.to_ne_bytes()].concat()
    }

    #[test]
    fn follows_a_chain_to_its_end() {
        let answer = [vec![0; 32], header(3, 40), header(1, 0), vec![9; 4]].concat();
        let found = chain(&answer, 32).unwrap();
        let ids: Vec<_> = found.iter().map(|(id, bytes)| (*id, bytes.len())).collect();
        assert_eq!(ids, [(3, 20), (1, 12)]);
        assert!(chain(&answer, 0).unwrap().is_empty());
    }

    #[test]
    fn a_chain_that_loops_or_leaves_is_refused() {
        let answer = [vec![0; 32], header(3, 40), header(1, 32)].concat();
        assert_eq!(chain(&answer, 32).unwrap_err(), "more than 64 capabilities");
        let answer = [vec![0; 32], header(3, 4096)].concat();
        assert_eq!(chain(&answer, 32).unwrap_err(), "a capability at 0x1000 of 40 bytes");
        assert!(chain(&answer, u32::MAX).is_err());
    }

    #[test]
    fn a_list_longer_than_its_answer_is_refused() {
        let bytes = [header(1, 0), 2u32.to_ne_bytes().to_vec(), vec![0; 20]].concat();
        assert_eq!(pairs(&bytes, 8, 16).unwrap_err(), "a list of 2 in 16 bytes");
        assert!(pairs(&bytes[..9], 8, 16).is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_followed_within_bounds(
            answer in proptest::collection::vec(any::<u8>(), 0..200), first in 0u32..300,
        ) {
            for (_, bytes) in chain(&answer, first).unwrap_or_default() {
                let _ = pairs(bytes, 8, 16);
            }
        }
    }
}
