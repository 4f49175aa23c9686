//! Logs that somebody recorded, sent or quoted: each line may have something before it.
//!
//! What that is, is judged on evidence, for a log's own lines begin alike too. Lines that are known
//! well ([`KNOWN`]) say where a line of Haiku's begins; what stands before them in most, and before
//! most of the lines that follow, is the recorder's.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

use super::{Event, Reader};

/// Bytes that are judged together: a log may be made of several.
const BLOCK: usize = 256 << 10;
/// Bytes after those that are looked at too, for what begins at their end.
const AHEAD: usize = 32 << 10;
/// The longest prefix, in bytes.
const LONGEST: usize = 96;
/// Known lines of a block that are looked at for each beginning, and prefixes that are compared.
const MOST_HITS: usize = 256;
const MOST_SHAPES: usize = 32;
/// Lines after the first known one that are compared with a prefix, and how many have to have it.
const COMPARED: usize = 200;
const ENOUGH: usize = 3;

/// How lines of Haiku's begin that are hardly ever in the middle of another
/// (src/system/kernel/debug/debug.cpp, src/system/kernel/arch/x86/arch_debug.cpp,
/// src/system/kernel/main.cpp, src/system/boot/loader/main.cpp,
/// src/add-ons/kernel/bus_managers/pci/pci_info.cpp, src/system/kernel/device_manager/legacy_drivers.cpp).
static KNOWN: LazyLock<[Finder<'static>; 9]> = LazyLock::new(|| {
    [
        "PANIC: ",
        "Double Fault!",
        "Welcome to Kernel Debugging Land...",
        "Welcome to kernel debugger output!",
        "Welcome to the Haiku boot loader!",
        "stack trace for thread ",
        "kdebug> ",
        "PCI: [dom ",
        "loaded driver /",
    ]
    .map(Finder::new)
});

/// A part of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Digits, with the blanks that pad them.
    Number,
    /// A month or a day of the week, by three letters.
    Name,
    /// Any blanks.
    Blank,
    /// This byte.
    Byte(u8),
}

/// What stands before each line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Prefix {
    parts: Vec<Part>,
    /// Blanks at its end, exactly: what follows may begin with some of its own.
    blanks: usize,
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn is_name(bytes: &[u8]) -> bool {
    const NAMES: [&[u8; 3]; 19] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun",
    ];
    NAMES.iter().any(|name| bytes.starts_with(*name))
}

/// Returns the part that bytes begin with, and its length.
fn part(bytes: &[u8]) -> Option<(Part, usize)> {
    let blanks = bytes.iter().take_while(|byte| is_blank(**byte)).count();
    let digits = bytes.iter().skip(blanks).take_while(|byte| byte.is_ascii_digit()).count();
    Some(match (blanks, digits, *bytes.first()?) {
        (_, 1.., _) => (Part::Number, blanks + digits),
        (1.., 0, _) => (Part::Blank, blanks),
        _ if is_name(bytes) => (Part::Name, 3),
        (_, _, byte) => (Part::Byte(byte), 1),
    })
}

impl Prefix {
    /// The prefix that these bytes are an example of.
    fn of(bytes: &[u8]) -> Self {
        let blanks = bytes.iter().rev().take_while(|byte| is_blank(**byte)).count();
        let (mut rest, mut parts) = (&bytes[..bytes.len() - blanks], Vec::new());
        while let Some((part, length)) = part(rest) {
            parts.push(part);
            rest = &rest[length..];
        }
        Self { parts, blanks }
    }

    /// How many bytes of a line are the prefix, if it has it.
    fn length(&self, line: &[u8]) -> Option<usize> {
        let mut at = 0;
        for wanted in &self.parts {
            let (found, length) = part(line.get(at..)?)?;
            if found != *wanted || at + length > LONGEST {
                return None;
            }
            at += length;
        }
        let blanks = line.get(at..at + self.blanks)?;
        blanks.iter().all(|byte| is_blank(*byte)).then_some(at + self.blanks)
    }

    /// Judges a part of a log: whether its lines have a prefix. Nothing is known where no line is.
    fn judge(log: &[u8]) -> Option<Option<Self>> {
        let (mut shapes, mut plain, mut first) = (Vec::<(Self, usize)>::new(), 0, log.len());
        for finder in &*KNOWN {
            for at in finder.find_iter(log).take(MOST_HITS) {
                let from = at.saturating_sub(LONGEST + 1);
                let begin = match log[from..at].iter().rposition(|byte| is_end(*byte)) {
                    Some(end) => from + end + 1,
                    None if from == 0 => 0,
                    None => continue,
                };
                first = first.min(begin);
                if begin == at {
                    plain += 1;
                    continue;
                }
                let shape = Self::of(&log[begin..at]);
                match shapes.iter().position(|(known, _)| *known == shape) {
                    Some(index) => shapes[index].1 += 1,
                    None if shapes.len() < MOST_SHAPES => shapes.push((shape, 1)),
                    None => {}
                }
            }
        }
        let (shape, count) = match shapes.into_iter().max_by_key(|(_, count)| *count) {
            Some(best) => best,
            None => return (plain > 0).then_some(None),
        };
        let lines = log[first..].split(|byte| is_end(*byte));
        let lines = lines.filter(|line| !line.trim_ascii().is_empty()).take(COMPARED);
        let (mut all, mut with) = (0, 0);
        for line in lines {
            all += 1;
            with += usize::from(shape.length(line).is_some());
        }
        Some((count > plain && with >= ENOUGH && 2 * with > all).then_some(shape))
    }
}

/// Reads panics from a log of any size as [`Reader`] does from a serial line, without what a
/// recorder or a letter put before each line.
#[derive(Debug, Default)]
pub struct LogReader {
    reader: Reader,
    prefix: Option<Prefix>,
    /// What was not judged yet.
    waiting: Vec<u8>,
    /// Whether that begins in the middle of a line.
    is_within: bool,
}

impl LogReader {
    /// Takes bytes, and says what they tell. It does not matter in what pieces they come.
    pub fn push(&mut self, bytes: &[u8], mut show: impl FnMut(Event<'_>)) {
        for piece in bytes.chunks(BLOCK) {
            self.waiting.extend_from_slice(piece);
            if self.waiting.len() >= BLOCK + AHEAD {
                self.read(BLOCK, &mut show);
            }
        }
    }

    /// Ends the log.
    pub fn finish(&mut self, mut show: impl FnMut(Event<'_>)) {
        self.read(self.waiting.len(), &mut show);
        self.reader.finish(&mut show);
        *self = Self::default();
    }

    /// Judges what waits, and reads about so much of it: to the end of a line, where one ends.
    fn read(&mut self, length: usize, show: &mut impl FnMut(Event<'_>)) {
        if let Some(prefix) = Prefix::judge(&self.waiting) {
            self.prefix = prefix;
        }
        let end = match memrchr(b'\n', &self.waiting[..length]) {
            Some(at) if length < self.waiting.len() => at + 1,
            _ => length,
        };
        let mut rest = &self.waiting[..end];
        match &self.prefix {
            None => self.reader.push(rest, show),
            Some(prefix) => {
                while !rest.is_empty() {
                    let length = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                    let (line, more) = rest.split_at(length);
                    let skipped = if self.is_within { None } else { prefix.length(line) };
                    self.reader.push(&line[skipped.unwrap_or_default()..], &mut *show);
                    self.is_within = false;
                    rest = more;
                }
            }
        }
        self.is_within = end > 0 && self.waiting.get(end - 1) != Some(&b'\n');
        self.waiting.drain(..end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kdl::Panic;
    use crate::kdl::tests::{logs, panics};

    fn recorded(log: &[u8], size: usize) -> Vec<Panic> {
        let (mut found, mut reader) = (Vec::new(), LogReader::default());
        let mut keep = |event: Event<'_>| {
            if let Event::Complete(panic) = event {
                found.push(*panic);
            }
        };
        log.chunks(size).for_each(|piece| reader.push(piece, &mut keep));
        reader.finish(&mut keep);
        found
    }

    /// The log with a prefix before each line, `N` for numbers that grow.
    fn with(prefix: &str, log: &[u8]) -> Vec<u8> {
        let mut lines: Vec<_> = log.split(|byte| *byte == b'\n').collect();
        if lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
        let line = |(number, line): (usize, &&[u8])| {
            let prefix = prefix.replace('N', &format!("{:02}", 7 + number / 9));
            [prefix.as_bytes(), line, b"\n"].concat()
        };
        lines.iter().enumerate().flat_map(line).collect()
    }

    #[test]
    fn a_log_that_was_not_recorded_is_read_as_it_is() {
        for (name, log) in logs() {
            assert_eq!(recorded(&log, 4096), panics(&log), "{name}");
        }
    }

    #[test]
    fn what_recorders_put_before_lines_is_left_out() {
        for (name, log) in logs() {
            let expected = panics(&log);
            if expected.is_empty() {
                continue;
            }
            for prefix in [
                "    ",
                "\t",
                "> ",
                "> > ",
                ">>",
                "| ",
                "[   N.345678] ",
                "> [   N.345678] ",
                "[2026-11-22 12:00:N] ",
                "[2026-11-22T12:00:N.123] ",
                "[12:00:N.123] ",
                "[Sun Nov N 12:00:00 2026] ",
                "Nov N 12:00:00 ",
                "Nov N 12:00:00 host serial[812]: ",
                "2026-11-22T12:00:N+01:00 ",
                "00:00:N ",
                "N.250000 ",
                "N:",
                "  N\t",
                "KERN: ",
                "2026-11-22 12:00:N KERN: ",
            ] {
                assert_eq!(recorded(&with(prefix, &log), 4096), expected, "{name}: {prefix:?}");
            }
        }
    }

    #[test]
    fn a_prefix_is_one_part_of_a_log_and_another_of_another() {
        let log = &logs()["kdl-null"];
        let padding = "From: somebody\n\nthis is what it said:\n".repeat(9000);
        let letter = [padding.as_bytes(), &with("> ", log), padding.as_bytes(), log].concat();
        let twice = [panics(log), panics(log)].concat();
        let found = recorded(&letter, 1000);
        let titles = |panics: &[Panic]| panics.iter().map(|p| p.title.clone()).collect::<Vec<_>>();
        assert_eq!(titles(&found), titles(&twice));
        assert!(found.iter().all(|panic| panic.guilty == twice[0].guilty));
    }

    #[test]
    fn what_lines_have_in_common_by_themselves_is_no_prefix() {
        for (log, expected) in [
            (&b"half a linePANIC: x\nabc\ndef\nghi\n"[..], Some(None)),
            (b"PANIC: x\nabc\n", Some(None)),
            (b"abc\nabd\nabe\n", None),
            (b"  PANIC: x\n  abc\n  def\n", Some(Some(Prefix { parts: vec![], blanks: 2 }))),
            // Two machines on one line.
            (b"A PANIC: x\nB abc\nB abc\nB abc\nA d\n", Some(None)),
        ] {
            assert_eq!(Prefix::judge(log), expected, "{}", log.escape_ascii());
        }
        let prefix = Prefix::of(b"[   12.5] ");
        for (line, length) in
            [("[12345.6] x", Some(10)), ("[ 1.2]  0 f", Some(7)), ("[1.2]x", None), ("[1", None)]
        {
            assert_eq!(prefix.length(line.as_bytes()), length, "{line}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn pieces_do_not_matter(sizes in prop::collection::vec(1_usize..700_000, 1..5)) {
            let log = with("[12:N] ", &logs()["kdl-null"].repeat(12));
            let whole = recorded(&log, usize::MAX);
            let (mut found, mut reader, mut rest) = (0, LogReader::default(), &log[..]);
            let mut count = |event: Event<'_>| found += usize::from(matches!(event, Event::Complete(_)));
            for size in sizes.iter().cycle() {
                let (piece, more) = rest.split_at(rest.len().min(*size));
                reader.push(piece, &mut count);
                rest = more;
                if rest.is_empty() {
                    break;
                }
            }
            reader.finish(&mut count);
            prop_assert_eq!(found, whole.len());
        }

        #[test]
        fn what_is_lost_blames_no_other_frame(
            prefix in prop::sample::select(vec!["    ", "> ", "[12:N] ", "Nov N 12:00:00 ", "N:"]),
            cuts in prop::collection::vec((0.0..1.0_f64, 1_usize..200), 1..4),
        ) {
            let log = &logs()["kdl-null"];
            let known: Vec<_> = panics(log).iter().filter_map(|p| p.guilty.clone()).collect();
            let mut log = with(prefix, log);
            for (place, length) in cuts {
                #[expect(
                    clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
                    reason = "any place will do"
                )]
                let at = (place * log.len() as f64) as usize;
                let end = (at + length).min(log.len());
                log.drain(at..end);
            }
            for panic in recorded(&log, 4096) {
                let address = panic.guilty.as_ref().map(|frame| frame.address);
                let is_right = known.iter().any(|frame| Some(frame.address) == address);
                prop_assert!(panic.corrupted || is_right, "{:?}", panic.guilty);
            }
        }
    }
}
