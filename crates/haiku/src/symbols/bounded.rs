//! Whether debug information is of a size that a compiler makes.
//!
//! `addr2line` follows inlined functions in others by recursion, and keeps what a list of addresses
//! holds for every function that names it. Both are small in what compilers make, and without bound
//! in a file that was made to do harm. So all of it is walked through once before, in the same order
//! and without recursion.

use gimli::{Dwarf, UnitRef};

use super::file::Reader;

/// Functions put into others, one in the other; compilers come to some thirty.
const DEEPEST: usize = 200;
/// Ranges of addresses, units and bytes of tables of lines, all together; those of Haiku's kernel are
/// some five million.
const MOST: usize = 1 << 24;

/// Whether it can be followed.
pub(super) fn is_bounded(dwarf: &Dwarf<Reader>) -> bool {
    let mut left = MOST;
    let mut headers = dwarf.units();
    // What is damaged ends the reading of a unit, here and there alike.
    while let Ok(Some(header)) = headers.next() {
        if !spend(&mut left, 1) {
            return false;
        }
        let Ok(unit) = dwarf.unit(header) else { continue };
        let lines = unit.line_program.as_ref();
        let lines = lines.map_or(0, |program| program.header().unit_length());
        if !spend(&mut left, lines) {
            return false;
        }
        if walk(unit.unit_ref(dwarf), &mut left) == Ok(false) {
            return false;
        }
    }
    true
}

fn walk(unit: UnitRef<'_, Reader>, left: &mut usize) -> Result<bool, gimli::Error> {
    let mut entries = unit.entries_raw(None)?;
    // The depths of the inlined functions that the entry at hand is in.
    let mut inlined: Vec<isize> = Vec::new();
    while !entries.is_empty() {
        let depth = entries.next_depth();
        let Some(abbreviation) = entries.read_abbreviation()? else { continue };
        while inlined.last().is_some_and(|last| *last >= depth) {
            inlined.pop();
        }
        if abbreviation.tag() == gimli::DW_TAG_inlined_subroutine {
            inlined.push(depth);
        }
        if inlined.len() > DEEPEST {
            return Ok(false);
        }
        for attribute in abbreviation.attributes() {
            let attribute = entries.read_attribute(*attribute)?;
            if attribute.name() == gimli::DW_AT_ranges
                && let Ok(Some(offset)) = unit.attr_ranges_offset(attribute.value())
                && !count(unit, offset, left)
            {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn count(unit: UnitRef<'_, Reader>, at: gimli::RangeListsOffset, left: &mut usize) -> bool {
    let Ok(mut ranges) = unit.ranges(at) else { return true };
    while let Ok(Some(_)) = ranges.next() {
        if !spend(left, 1) {
            return false;
        }
    }
    true
}

fn spend(left: &mut usize, count: usize) -> bool {
    *left = left.saturating_sub(count);
    *left > 0
}
