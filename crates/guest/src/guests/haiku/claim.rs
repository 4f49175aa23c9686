//! What a line says of a function of the guest: whose line it is, which function it names, and
//! whether it takes that function or denies it.

use haiku::loading::{Numbers, Place, event};

use super::goal::{Driver, Found, Quote};

/// First words of lines of the kernel and of its parts for buses, which tell of every card. They
/// are no driver's own for being the beginning of its name.
const KERNELS: [&str; 16] = [
    "acpi", "apic", "ata", "could", "device", "found", "kernel", "loaded", "loading", "module",
    "msi", "pci", "publish", "scsi", "smp", "usb",
];
/// Words of a line that names a card and does not take it.
const DENIALS: [&str; 13] = [
    "absent", "cannot", "denied", "error", "ignored", "ignoring", "missing", "no", "none", "not",
    "nothing", "unable", "wrong",
];
/// Beginnings of further such words.
const DENYING: [&str; 6] = ["fail", "refus", "reject", "skip", "unknown", "unsupported"];
/// The longest name of who speaks.
const SPEAKER: usize = 64;

/// What was last said of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The first line that takes it, since it was last denied.
    Takes(Quote),
    /// The first line that denies it, since it was last taken.
    Denies(Quote),
}

impl Word {
    /// What is known after another line.
    pub(super) fn or(before: Option<Self>, denies: bool, quote: Quote) -> Self {
        match (before, denies) {
            (Some(word @ Self::Takes(_)), false) | (Some(word @ Self::Denies(_)), true) => word,
            (_, false) => Self::Takes(quote),
            (_, true) => Self::Denies(quote),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Whether the kernel says a line of its own: of loading, or of the functions that it found
/// (src/add-ons/kernel/bus_managers/pci/pci_info.cpp).
fn is_kernels(line: &str) -> bool {
    line.starts_with("PCI:  ") || line.starts_with("PCI: [dom ") || event(line).is_some()
}

/// The word that a line begins with.
fn first_word(line: &[u8]) -> &str {
    let length = line.iter().take_while(|byte| is_word(char::from(**byte))).count();
    str::from_utf8(&line[..length]).unwrap_or_default()
}

/// Whether a word is a driver's name, or the name goes on after it, or it after the name.
fn is_name(word: &str, name: &str) -> bool {
    let is_end = |rest: &str| rest.is_empty() || rest.starts_with(['_', '-']);
    let is_longer = without(word, name)
        .is_some_and(|rest| is_end(rest) || rest.starts_with(|c: char| c.is_ascii_digit()));
    let is_part = || word.len() >= 3 && without(name, word).is_some_and(is_end);
    is_longer || is_part() && !is_kernels_word(word)
}

/// What follows on a beginning, in large or small letters.
fn without<'a>(text: &'a str, beginning: &str) -> Option<&'a str> {
    let (first, rest) = text.split_at_checked(beginning.len())?;
    first.eq_ignore_ascii_case(beginning).then_some(rest)
}

fn is_kernels_word(word: &str) -> bool {
    KERNELS.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// Whether some driver may have begun a line with this word and `: `.
fn is_speaker(word: &str) -> bool {
    (3..=SPEAKER).contains(&word.len()) && !is_kernels_word(word)
}

/// Whether a line may be of one of these drivers or of another, by how it begins.
pub(super) fn may_be_said(line: &[u8], drivers: &[Driver]) -> bool {
    let word = first_word(line);
    let is_said = || line[word.len()..].starts_with(b": ") && is_speaker(word);
    !word.is_empty() && (drivers.iter().any(|driver| is_name(word, &driver.name)) || is_said())
}

/// Whether a line is the own of the driver of this name: its first word is the name, or the name
/// goes on after it, or it after the name.
pub(super) fn is_own(line: &str, name: &str) -> bool {
    is_name(first_word(line.as_bytes()), name) && !is_kernels(line)
}

/// Who says a line that some driver may have said: it begins with who speaks, and that is not the
/// kernel.
pub(super) fn speaker(line: &str) -> Option<&str> {
    let (speaker, _) = line.split_once(": ")?;
    let is_driver = speaker == first_word(line.as_bytes()) && is_speaker(speaker);
    (is_driver && !is_kernels(line)).then_some(speaker)
}

/// Whether a line denies what it names.
pub(super) fn denies(line: &str) -> bool {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '\'').any(|word| {
        let word = word.to_ascii_lowercase();
        DENIALS.contains(&&*word)
            || word.ends_with("n't")
            || DENYING.iter().any(|beginning| word.starts_with(beginning))
    })
}

/// The function that a line names, by its place or else by an address of its registers. A line can
/// be read as several functions, for its numbers may be decimal or hexadecimal; it names none then.
pub(super) fn named(line: &str, functions: &[Found]) -> Option<Place> {
    let only = |is: &dyn Fn(&Found) -> bool| {
        let mut places = functions.iter().filter(|found| is(found)).map(|found| found.place);
        let first = places.next()?;
        Some(places.all(|place| place == first).then_some(first))
    };
    let numbers = Numbers::of(line);
    only(&|found| numbers.name_place(found.place))
        .or_else(|| only(&|found| found.regions.iter().any(|at| numbers.name_address(*at))))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drivers_own_lines_are_known_by_their_first_word() {
        for (name, line) in [
            ("edu_test", "edu_test: hello"),
            ("edu_test", "EDU: hello"),
            ("edu_test", "edu_test_irq(3): hello"),
            ("edu_test", "edu_test0: hello"),
            ("edu_test", "edu_test"),
            ("pci_edu", "pci_edu: at 0:2.0"),
            ("pci", "pci: at 0:2.0"),
        ] {
            assert!(is_own(line, name), "{line}");
        }
        let scan = "PCI: [dom 0, bus  0] bus   0, device  2, function  0: vendor 1234, \
                    device 11e8, revision 10";
        for (name, line) in [
            ("edu_test", ""),
            ("edu_test", ": x"),
            ("edu_test", "ed: x"),
            ("edu_test", "edu_t: x"),
            ("edu_test", "edu_tester: x"),
            ("edu_test", "edu-x: hello"),
            ("edu_test", "loaded driver /boot/x/edu_test"),
            ("loaded_edu", "loaded driver /boot/x/edu_test at 0:2.0"),
            ("pci_edu", scan),
            ("pci", scan),
            ("pci", "PCI:   base reg 0: host 00000000, pci 00000000, size 00000000, flags 00"),
            ("pci_edu", "PCI: 0:2.0 found"),
            ("usb_edu", "usb: 0:2.0 found"),
        ] {
            assert!(!is_own(line, name), "{name}: {line}");
        }
    }

    #[test]
    fn lines_that_deny_are_no_claims() {
        for line in [
            "legacy: 0:2.0 is not mine, skipped",
            "legacy: no driver for 0:2.0",
            "legacy: 0:2.0 isn't supported",
            "legacy: Failed to map 0:2.0",
        ] {
            assert!(denies(line), "{line}");
        }
        for line in ["legacy: found at 0:2.0, registers at 0xc1000000", "legacy: 0:2.0 released"] {
            assert!(!denies(line), "{line}");
        }
    }

    #[test]
    fn what_was_said_last_counts() {
        let quote = |line| Quote { line, text: String::new() };
        let taken = Word::or(None, false, quote(1));
        assert_eq!(Word::or(Some(taken.clone()), false, quote(2)), taken);
        let denied = Word::or(Some(taken), true, quote(3));
        assert_eq!(denied, Word::Denies(quote(3)));
        assert_eq!(Word::or(Some(denied), false, quote(4)), Word::Takes(quote(4)));
    }

    #[test]
    fn a_line_that_can_be_read_as_two_functions_names_none() {
        let found = |device, region| Found {
            place: Place { bus: 0, device, function: 0 },
            regions: vec![region],
        };
        let functions = [found(2, 0xc100_0000), found(10, 0xc200_0000), found(16, 0xc300_0000)];
        for (line, device) in [
            ("x: at 0:2.0", Some(2)),
            ("x: at 0:16.0", Some(16)),
            // Decimal 10, or hexadecimal 16.
            ("x: at 0:10.0", None),
            ("x: at 0:2.0, not 0:16.0", None),
            ("x: at 0:3.0", None),
            ("x: registers at 0xc3000000", Some(16)),
            ("x: at 0:2.0 behind 0xc3000000", Some(2)),
        ] {
            assert_eq!(named(line, &functions).map(|place| place.device), device, "{line}");
        }
        let alone = named("x: at 0:10.0", &functions[2..]);
        assert_eq!(alone.map(|place| place.device), Some(16));
    }

    #[test]
    fn who_speaks_is_told_from_the_kernel() {
        assert_eq!(speaker("other: found at 0:2.0"), Some("other"));
        for line in
            ["PCI: 0:2.0", "found at 0:2.0", "a b: 0:2.0", "x", "publish device: node 0:2.0"]
        {
            assert_eq!(speaker(line), None, "{line}");
        }
    }
}
