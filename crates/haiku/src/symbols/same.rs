//! Whether two files are the same program, one of them perhaps stripped.

use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, SectionKind};

/// Whether two ELF files for 64 bits have the same code at the same addresses, so that what one
/// tells of an address is true of the other: by the identities of their builds where both have
/// one, else by what their sections of instructions hold.
pub fn is_same_code(one: &[u8], other: &[u8]) -> bool {
    let parse = |bytes| ElfFile64::<object::LittleEndian>::parse(bytes).ok();
    let (Some(one), Some(other)) = (parse(one), parse(other)) else { return false };
    let ids = (one.build_id().ok().flatten(), other.build_id().ok().flatten());
    if let (Some(one), Some(other)) = ids {
        return one == other;
    }
    let (one, other) = (code(&one), code(&other));
    !one.is_empty() && one == other
}

/// The sections of instructions, by their addresses.
fn code<'d>(file: &ElfFile64<'d, object::LittleEndian>) -> Vec<(u64, &'d [u8])> {
    let sections = file.sections().filter(|section| section.kind() == SectionKind::Text);
    sections.filter_map(|section| Some((section.address(), section.data().ok()?))).collect()
}
