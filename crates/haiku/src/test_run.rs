//! A command that runs in the guest, and what comes back of it over the serial line.
//!
//! [`Test::files`] are put into the volume: a job that the launch daemon runs at boot, and a script
//! that runs the command and writes its output and exit code to `/dev/dprintf`, which the kernel
//! sends over the serial line. Lines of the kernel come between, and at times within: so every line
//! has a marker and a number, the whole has a length and a checksum, and all of it comes twice.
//! [`Reader`] puts it together again.
//!
//! That the launch daemon runs such a job, and what tools the script finds, are readings of Haiku's
//! sources (src/servers/launch, `data/launch`), not tried with an official image.

use std::collections::BTreeMap;

/// Directory of jobs (src/servers/launch/LaunchDaemon.cpp).
const JOB: &str = "system/settings/launch/kireji-test";
const SCRIPT: &str = "home/kireji-test.sh";
const COMMAND: &str = "home/kireji-test.command";
/// Bytes of output that come back; what is longer is cut by the script.
pub const LARGEST: usize = 1 << 20;
/// Letters of base64 in a line.
const WIDTH: usize = 76;
/// How often everything comes.
const COPIES: usize = 2;
/// Lines that are kept of a copy.
const LINES: usize = LARGEST.div_ceil(WIDTH / 4 * 3);

/// A command to run in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// The command, as a shell takes it.
    pub command: String,
    /// Letters and digits that nobody else in the guest knows.
    pub marker: String,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard output and standard error.
    pub output: Vec<u8>,
}

impl Test {
    /// Returns what is to be put into the volume: paths from its root, with what they hold.
    pub fn files(&self) -> Vec<(String, String)> {
        let marker = &self.marker;
        let script = format!(
            "#!/bin/sh\n\
             # Written by kireji: runs a command and sends what it says over the serial line.\n\
             out=/tmp/kireji-test.out\n\
             /bin/sh /boot/{COMMAND} > $out.whole 2>&1 < /dev/null\n\
             code=$?\n\
             head -c {LARGEST} $out.whole > $out\n\
             sum=$({{ cat $out; printf %s $code; }} | cksum)\n\
             for copy in 0 1; do\n\
             \tnumber=0\n\
             \tbase64 -w {WIDTH} < $out | while read -r line; do\n\
             \t\techo \"{marker} $copy $number $line\" > /dev/dprintf\n\
             \t\tnumber=$((number + 1))\n\
             \tdone\n\
             \techo \"{marker} $copy end $code $sum\" > /dev/dprintf\n\
             done\n"
        );
        let job = format!("job kireji-test {{\n\tlaunch /bin/sh /boot/{SCRIPT}\n}}\n");
        let command = format!("{}\n", self.command);
        [(JOB, job), (SCRIPT, script), (COMMAND, command)]
            .map(|(path, content)| (path.to_owned(), content))
            .to_vec()
    }
}

/// Puts what a command wrote together, line by line.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    marker: String,
    copies: [BTreeMap<usize, String>; COPIES],
    ends: usize,
}

/// What a line did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// It has nothing to do with the command, or more is to come.
    More,
    /// The command has ended.
    Ended(Tested),
    /// The command has ended, and what came back is damaged in every copy.
    Damaged,
}

impl Reader {
    /// Returns a reader for what has this marker.
    pub fn new(marker: &str) -> Self {
        Self { marker: marker.to_owned(), ..Self::default() }
    }

    /// Takes a line, without its end.
    pub fn line(&mut self, line: &str) -> Read {
        // Another line may have been begun before it.
        let Some((_, rest)) = line.split_once(&self.marker) else { return Read::More };
        let mut words = rest.split_whitespace();
        let copy = words.next().and_then(|word| word.parse::<usize>().ok());
        let Some(copy) = copy.filter(|copy| *copy < COPIES) else { return Read::More };
        match words.next() {
            Some("end") => {
                let mut number = || words.next().and_then(|word| word.parse().ok());
                let (Some(code), Some(sum), Some(length)) = (number(), number(), number()) else {
                    return Read::More;
                };
                self.end(copy, code, sum, length)
            }
            Some(number) => {
                let (number, data) = (number.parse(), words.next());
                if let (Ok(number), Some(data)) = (number, data)
                    && number < LINES
                    && data.len() <= WIDTH
                    && let Some(lines) = self.copies.get_mut(copy)
                {
                    lines.insert(number, data.to_owned());
                }
                Read::More
            }
            None => Read::More,
        }
    }

    fn end(&mut self, copy: usize, code: i64, sum: i64, length: i64) -> Read {
        self.ends += 1;
        let (Ok(code), Ok(length)) = (i32::try_from(code), usize::try_from(length)) else {
            return Read::More;
        };
        // The exit code is a part of what the checksum is of.
        let digits = code.to_string();
        let Some(length) = length.checked_sub(digits.len()) else { return Read::More };
        let is_whole =
            |output: &Vec<u8>| i64::from(cksum(&[output, digits.as_bytes()].concat())) == sum;
        if length <= LARGEST {
            for first in [copy, 1 - copy] {
                let output = self.joined(first, length);
                if let Some(output) = output.filter(is_whole) {
                    return Read::Ended(Tested { code, output });
                }
            }
        }
        if self.ends < COPIES { Read::More } else { Read::Damaged }
    }

    /// The bytes of a copy; lines of it that are damaged are taken of the other.
    fn joined(&self, copy: usize, length: usize) -> Option<Vec<u8>> {
        let (lines, others) = (self.copies.get(copy)?, self.copies.get(1 - copy)?);
        let mut output = Vec::with_capacity(length);
        for number in 0..length.div_ceil(WIDTH / 4 * 3) {
            let expected = (length - output.len()).min(WIDTH / 4 * 3);
            let fitting = |lines: &BTreeMap<usize, String>| {
                decode(lines.get(&number)?).filter(|bytes| bytes.len() == expected)
            };
            output.extend(fitting(lines).or_else(|| fitting(others))?);
        }
        Some(output)
    }
}

/// Decodes base64 (RFC 4648, section 4).
fn decode(text: &str) -> Option<Vec<u8>> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let letters = text.trim_end_matches('=');
    if text.len() - letters.len() > 2 {
        return None;
    }
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for letter in letters.bytes() {
        held = held << 6 | u32::from(value(letter)?);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits).to_le_bytes()[0]);
        }
    }
    Some(bytes)
}

/// The checksum of the utility `cksum` (POSIX.1-2017, XCU, cksum).
fn cksum(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: u8| {
        let mut sum = sum ^ u32::from(byte) << 24;
        for _ in 0..8 {
            sum = if sum >> 31 == 1 { sum << 1 ^ 0x04c1_1db7 } else { sum << 1 };
        }
        sum
    };
    let mut sum = bytes.iter().fold(0, |sum, byte| step(sum, *byte));
    let mut length = bytes.len();
    while length > 0 {
        sum = step(sum, length.to_le_bytes()[0]);
        length >>= 8;
    }
    !sum
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn test() -> Test {
        Test { command: "echo hello".into(), marker: "kireji-00ff".into() }
    }

    /// Runs the script itself, with its paths in a directory of ours.
    fn run(command: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        std::fs::write(path("dprintf"), "").unwrap();
        let files = Test { command: command.into(), ..test() }.files();
        let script = files[1]
            .1
            .replace("/tmp/", &path(""))
            .replace("> /dev/dprintf", &format!(">> {}", path("dprintf")));
        let script = script.replace(&format!("/boot/{COMMAND}"), &path("command"));
        std::fs::write(path("command"), &files[2].1).unwrap();
        let ended = Command::new("/bin/sh").args(["-c", &script]).status().unwrap();
        assert!(ended.success());
        let sent = std::fs::read_to_string(path("dprintf")).unwrap();
        (dir, sent)
    }

    fn read(lines: &str) -> Option<Read> {
        let mut reader = Reader::new(&test().marker);
        lines.lines().map(|line| reader.line(line)).find(|read| *read != Read::More)
    }

    #[test]
    fn what_the_script_sends_is_what_the_command_wrote() {
        for (command, code, output) in [
            ("echo hello", 0, "hello\n".to_owned()),
            ("printf x; echo y >&2; exit 7", 7, "xy\n".to_owned()),
            ("true", 0, String::new()),
            ("seq 1 400", 0, (1..=400).map(|number| format!("{number}\n")).collect()),
            ("echo 'kireji-00ff 0 0 x'", 0, "kireji-00ff 0 0 x\n".to_owned()),
        ] {
            let (_dir, sent) = run(command);
            let expected = Tested { code, output: output.into_bytes() };
            assert_eq!(read(&sent), Some(Read::Ended(expected)), "{command}");
        }
    }

    #[test]
    fn lines_between_and_within_do_no_harm() {
        let (_dir, sent) = run("seq 1 100");
        let (first, second) = sent.split_at(sent.len() / 2);
        // The first copy loses a line and has another torn; its end may be torn as well.
        let mut torn: Vec<String> = first.lines().map(str::to_owned).collect();
        torn.remove(1);
        torn[0].insert_str(40, "KERN: usb: device attached");
        let kernel = "PCI: line of the kernel\nvm: another kireji-\n";
        let whole = format!("{kernel}{}\n{kernel}{second}", torn.join(kernel));
        let output: String = (1..=100).map(|number| format!("{number}\n")).collect();
        let expected = Tested { code: 0, output: output.into_bytes() };
        assert_eq!(read(&whole), Some(Read::Ended(expected)));
    }

    #[test]
    fn what_is_damaged_in_every_copy_is_told_and_never_taken() {
        let sent = "kireji-00ff 0 0 aGVsbG8K\nkireji-00ff 0 end 0 1 6\n\
                    kireji-00ff 1 0 aGVsbG8K\nkireji-00ff 1 end 0 1 6\n";
        assert_eq!(read(sent), Some(Read::Damaged));
        assert_eq!(read("kireji-00ff 0 end 0 1\nkireji-00ff 7 end 0 0 0\nkireji-00ff"), None);
        let huge = "kireji-00ff 0 end 0 1 99999999999\n".repeat(2);
        assert_eq!(read(&huge), Some(Read::Damaged));
    }

    #[test]
    fn checksums_and_base64_are_those_of_the_standards() {
        // What cksum(1) says of the digits 1 to 9.
        assert_eq!(cksum(b"123456789"), 930_766_865);
        assert_eq!(cksum(b""), 4_294_967_295);
        for (text, expected) in
            [("", Some("")), ("Zg==", Some("f")), ("Zm9vYmFy", Some("foobar")), ("Zg=", None)]
        {
            assert_eq!(decode(text), expected.map(|text| text.as_bytes().to_vec()), "{text}");
        }
        assert_eq!(decode("===="), None);
        assert_eq!(decode("Zm9*"), None);
    }

    fn encoded(output: &[u8], copy: usize) -> Vec<String> {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut lines = Vec::new();
        for (number, piece) in output.chunks(WIDTH / 4 * 3).enumerate() {
            let mut text = String::new();
            for three in piece.chunks(3) {
                let byte = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
                let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
                for place in 0..4 {
                    let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
                    text.push(if place <= three.len() { char::from(letter) } else { '=' });
                }
            }
            lines.push(format!("kireji-00ff {copy} {number} {text}"));
        }
        let whole = [output, b"3"].concat();
        let (sum, length) = (cksum(&whole), whole.len());
        lines.push(format!("kireji-00ff {copy} end 3 {sum} {length}"));
        lines
    }

    proptest! {
        #[test]
        fn damage_is_never_taken_for_output(
            output in prop::collection::vec(any::<u8>(), 0..400),
            damage in prop::collection::vec((any::<usize>(), any::<usize>(), "[ -~]{0,9}"), 0..6),
            drop in prop::collection::vec(any::<usize>(), 0..3),
        ) {
            let mut lines: Vec<_> = (0..COPIES).flat_map(|copy| encoded(&output, copy)).collect();
            for (line, at, text) in damage {
                let count = lines.len();
                let line = &mut lines[line % count];
                let at = at % (line.len() + 1);
                line.insert_str(at, &text);
            }
            for index in drop {
                let count = lines.len();
                lines.remove(index % count);
                if lines.is_empty() {
                    break;
                }
            }
            if let Some(Read::Ended(tested)) = read(&lines.join("\n")) {
                prop_assert_eq!(tested, Tested { code: 3, output });
            }
        }

        #[test]
        fn one_whole_copy_is_enough(
            output in prop::collection::vec(any::<u8>(), 0..400),
            noise in prop::collection::vec("[ -~]{0,60}", 0..8),
            whole in 0_usize..COPIES,
        ) {
            let mut lines = noise.clone();
            for copy in 0..COPIES {
                let mut copied = encoded(&output, copy);
                if copy != whole {
                    copied.iter_mut().for_each(|line| line.truncate(line.len() / 2));
                }
                lines.extend(copied.into_iter().flat_map(|line| [line, noise.join(" ")]));
            }
            prop_assert_eq!(read(&lines.join("\n")), Some(Read::Ended(Tested { code: 3, output })));
        }
    }
}
