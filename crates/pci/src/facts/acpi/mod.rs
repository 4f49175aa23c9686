//! The ACPI tables by which firmware describes IOMMUs. Their bytes are not to be trusted.

mod dmar;
mod ivrs;

use serde::Serialize;

use crate::Address;

pub use dmar::{Dmar, DmarScope, DmarUnit, ReservedMemory, ScopeKind};
pub use ivrs::{Ivrs, IvrsMemory, IvrsUnit};

/// Length of the header that all tables begin with, in bytes (ACPI 6.5, 5.2.6).
pub(crate) const HEADER: usize = 36;
/// Where it says how long the table is.
const LENGTH: usize = 4;
/// The longest table that is read, in bytes; those of large servers hold a few thousand.
const MOST: usize = 1 << 20;

/// Bytes that are no such table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub enum TableError {
    /// It does not begin with its signature.
    #[error("the table does not begin with its signature")]
    Signature,
    /// It ends before its header does, or before the length that the header gives.
    #[error("the table is cut off after {0} bytes")]
    CutOff(usize),
    /// An entry is shorter than its kind, or reaches past the end.
    #[error("the entry at byte {0} of the table has a length that cannot be")]
    EntryLength(usize),
}

/// Returns a table without what follows it, if it is whole.
fn table<'a>(bytes: &'a [u8], signature: &[u8; 4]) -> Result<&'a [u8], TableError> {
    if !bytes.starts_with(signature) {
        return Err(TableError::Signature);
    }
    let cut_off = TableError::CutOff(bytes.len());
    let length = usize::try_from(u32_at(bytes, LENGTH).ok_or(cut_off)?).map_err(|_| cut_off)?;
    if !(HEADER..=MOST).contains(&length) {
        return Err(cut_off);
    }
    bytes.get(..length).ok_or(cut_off)
}

fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Returns the address that a requester id of a segment stands for: bus, then device and function.
fn requester(segment: u16, id: u16) -> Option<Address> {
    let [devfn, bus] = id.to_le_bytes();
    Address::new(u32::from(segment), bus, devfn >> 3, devfn & 7)
}
