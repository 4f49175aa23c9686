//! What an address that was touched says about the defect.

use std::collections::BTreeMap;

use super::cards::Cards;
use super::parse::hex;
use super::report::Kind;

/// A page: what is below is reached through a null pointer.
const PAGE: u64 = 0x1000;
/// What the kernel's heap writes over memory that was freed, and over memory that is given out
/// (src/system/kernel/slab/slab_private.h, `fill_freed_block`, `fill_allocated_block`); in a kernel
/// without debugging it does neither.
const PATTERNS: [(u64, &str); 2] = [
    (
        0xdead_beef,
        "what the kernel's heap writes over freed memory: it was used after it was freed",
    ),
    (0xcccc_cccc, "what the kernel's heap writes over new memory: it was used before it was set"),
];

/// An area of memory with its name, as the debugger lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) name: String,
    pub(super) start: u64,
    pub(super) size: u64,
}

/// The address that a message says was touched.
pub(super) fn touched(message: &str) -> Option<u64> {
    number_after(
        message,
        &["page fault in kernel space at 0x", "ouching address 0x", "fault at 0x"],
    )
}

/// The address of the instruction that a message names.
pub(super) fn instruction(message: &str) -> Option<u64> {
    number_after(message, &[", ip 0x", "from ip 0x", " at ip 0x"])
}

fn number_after(message: &str, words: &[&str]) -> Option<u64> {
    let rest = words.iter().find_map(|words| message.split_once(words))?.1;
    let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
    hex(&rest[..end])
}

/// What is to be said, in sentences.
pub(super) fn explain(
    kind: Kind,
    message: Option<&str>,
    registers: &BTreeMap<String, u64>,
    cards: &Cards,
    areas: &[Area],
) -> Vec<String> {
    let mut sentences = Vec::new();
    let message = message.unwrap_or_default();
    if let Some(address) = touched(message) {
        let jumped = instruction(message) == Some(address);
        sentences.extend(of_address(address, jumped, cards, areas));
    }
    if kind == Kind::GeneralProtection {
        for (name, value) in registers {
            if let Some(what) = pattern(*value) {
                sentences.push(format!("register {name} holds {value:#x}, {what}"));
            }
        }
    }
    sentences
}

fn of_address(address: u64, jumped: bool, cards: &Cards, areas: &[Area]) -> Option<String> {
    if jumped {
        let what = if address < PAGE { "a null pointer" } else { "a pointer to no code" };
        return Some(format!("a function was called through {what}, {address:#x}"));
    }
    if address == 0 {
        return Some("address 0 is a null pointer".to_owned());
    }
    if address < PAGE {
        return Some(format!(
            "address {address:#x} is a null pointer and {address} bytes: a member of a structure \
             that is not there"
        ));
    }
    if let Some(what) = pattern(address) {
        return Some(format!("address {address:#x} is {what}"));
    }
    if let Some(region) = cards.find(address) {
        return Some(format!(
            "address {address:#x} is the physical address of {}, which is not mapped there: it is \
             to be used through the address that `map_physical_memory` gives",
            region.of
        ));
    }
    if let Some(area) = areas.iter().find(|area| area.holds(address)) {
        return Some(format!(
            "address {address:#x} is in the area `{}`, which does not allow such an access",
            area.name
        ));
    }
    let behind =
        |area: &&Area| area.end().is_some_and(|end| end <= address && address - end < PAGE);
    areas
        .iter()
        .find(behind)
        .map(|area| format!("address {address:#x} is behind the end of the area `{}`", area.name))
}

impl Area {
    pub(super) fn holds(&self, address: u64) -> bool {
        address.checked_sub(self.start).is_some_and(|at| at < self.size)
    }

    fn end(&self) -> Option<u64> {
        self.start.checked_add(self.size)
    }
}

/// What a number is that is near a pattern, of 32 bits or twice those.
fn pattern(value: u64) -> Option<&'static str> {
    let near = |pattern: u64| {
        [pattern, pattern << 32 | pattern].iter().any(|base| value.abs_diff(*base) < PAGE)
    };
    PATTERNS.iter().find(|(pattern, _)| near(*pattern)).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(address: u64, ip: u64) -> Vec<String> {
        let mut cards = Cards::default();
        cards.line(
            "PCI: [dom 0, bus  0] bus   0, device  4, function  0: vendor 1234, device 11e8,",
        );
        cards.line("PCI:   base reg 0: host fea00000, pci fea00000, size 00100000, flags 00");
        let areas = [Area { name: "edu regs".into(), start: 0xffff_ffff_8208_6000, size: 0x1000 }];
        let message = format!(
            "vm_page_fault: unhandled page fault in kernel space at {address:#x}, ip {ip:#x}"
        );
        explain(Kind::PageFault, Some(&message), &BTreeMap::new(), &cards, &areas)
    }

    #[test]
    fn an_address_that_was_touched_is_explained() {
        for (address, ip, words) in [
            (0x10, 5, "a null pointer and 16 bytes"),
            (0, 5, "address 0 is a null pointer"),
            (0, 0, "was called through a null pointer"),
            (0xdead_beef_dead_bef7, 5, "used after it was freed"),
            (0xcccc_cccc, 5, "used before it was set"),
            (0xfea0_0004, 5, "base register 0 of the card 1234:11e8 at 00:04.0"),
            (0xffff_ffff_8208_6004, 5, "in the area `edu regs`"),
            (0xffff_ffff_8208_7004, 5, "behind the end of the area `edu regs`"),
        ] {
            let said = fault(address, ip);
            assert!(said.len() == 1 && said[0].contains(words), "{address:#x}: {said:?}");
        }
        assert_eq!(fault(0xffff_ffff_9000_0000, 5), [""; 0]);
    }

    #[test]
    fn registers_tell_what_a_protection_fault_does_not() {
        let registers = BTreeMap::from([("rax".to_owned(), 0xdead_beef_dead_beef)]);
        let message = "Unexpected exception \"General Protection Exception\"";
        let said =
            explain(Kind::GeneralProtection, Some(message), &registers, &Cards::default(), &[]);
        assert!(said[0].starts_with("register rax holds 0xdeadbeefdeadbeef, what"), "{said:?}");
    }

    #[test]
    fn messages_name_addresses() {
        let message = "page fault, but interrupts were disabled. Touching address \
                       0x0000000000000018 from ip 0xffffffff8164feec\n";
        assert_eq!(touched(message), Some(0x18));
        assert_eq!(instruction(message), Some(0xffff_ffff_8164_feec));
        assert_eq!(touched("a panic"), None);
    }
}
