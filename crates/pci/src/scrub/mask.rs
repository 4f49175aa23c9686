//! Secrets become other text of the same form.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// How often other text is looked for, until it is another.
const ROUNDS: u8 = 16;

/// What is secret, and what takes its place.
#[derive(Debug)]
pub(super) struct Mask {
    /// The longest first, so that what contains another is replaced as a whole.
    secrets: Vec<String>,
    key: [u8; 32],
}

impl Mask {
    pub(super) fn new(secrets: BTreeSet<String>, key: &[u8; 32]) -> Self {
        let mut secrets: Vec<_> = secrets.into_iter().collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets, key: *key }
    }

    /// Returns other text of the same form: digits for digits, letters for letters, hexadecimal
    /// ones for hexadecimal ones. The same text always becomes the same.
    pub(super) fn of(&self, secret: &str) -> String {
        // The first round may by chance give the same; punctuation alone stays as it is.
        let round = |round| {
            let mut digits = self.stream(secret, round);
            secret.chars().map(|char| other(char, &mut digits)).collect::<String>()
        };
        (0..ROUNDS).map(round).find(|masked| masked != secret).unwrap_or_else(|| secret.to_owned())
    }

    fn stream(&self, secret: &str, round: u8) -> impl Iterator<Item = u8> {
        let (key, secret) = (self.key, secret.to_owned());
        (0u32..).flat_map(move |block| {
            let mut hash = Sha256::new();
            hash.update(key);
            hash.update([round]);
            hash.update(block.to_le_bytes());
            hash.update(secret.as_bytes());
            <[u8; 32]>::from(hash.finalize())
        })
    }

    /// Replaces in text all that is secret: what is known to be, UUIDs, and hardware addresses.
    pub(super) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = replace_words(&text, secret, &self.of(secret));
        }
        let text = self.pattern(&text, &UUID);
        let text = self.pattern(&text, &MAC);
        self.named_by_address(&text)
    }

    /// Replaces in each part of a path all that is secret.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        let Some(text) = path.to_str() else { return path.to_owned() };
        // Variables of the firmware have the UUID of whoever defined them in their name, the same
        // on every host.
        if path.starts_with("/sys/firmware") {
            return path.to_owned();
        }
        PathBuf::from(self.text(text))
    }

    /// Whether one of the known secrets is in these bytes, as a word.
    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        self.secrets.iter().any(|secret| find_word(&text, secret, 0).is_some())
    }

    /// Replaces what has a form: hexadecimal digits where the form has `h`, and else what it has.
    fn pattern(&self, text: &str, form: &Form) -> String {
        let bytes = text.as_bytes();
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        let mut at = 0;
        while at + form.text.len() <= bytes.len() {
            let end = at + form.text.len();
            let bounded = |byte: Option<&u8>| byte.is_none_or(|byte| !(form.inner)(*byte));
            let before = at.checked_sub(1).and_then(|before| bytes.get(before));
            let fits = bounded(before)
                && bounded(bytes.get(end))
                && bytes[at..end].iter().zip(form.text).all(|(byte, wanted)| match wanted {
                    b'h' => byte.is_ascii_hexdigit(),
                    other => byte == other,
                });
            if fits {
                out.push_str(&text[from..at]);
                // An address is the same in either case.
                out.push_str(&self.of(&text[at..end].to_lowercase()));
                from = end;
                at = end;
            } else {
                at += 1;
            }
        }
        out.push_str(&text[from..]);
        out
    }

    /// Replaces the hardware address in names such as `enx001122334455` (systemd.net-naming-scheme).
    fn named_by_address(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for prefix in ["enx", "wlx", "wwx"] {
            let mut at = 0;
            while let Some(found) = out[at..].find(prefix) {
                let start = at + found + prefix.len();
                let digits = out.get(start..start + 12);
                if let Some(digits) =
                    digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
                {
                    let masked = self.of(digits);
                    out.replace_range(start..start + 12, &masked);
                }
                at = start;
            }
        }
        out
    }
}

/// A form of text.
struct Form {
    text: &'static [u8],
    /// What would make it a part of something longer.
    inner: fn(u8) -> bool,
}

const UUID: Form = Form {
    text: b"hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh",
    inner: |byte| byte.is_ascii_alphanumeric(),
};
const MAC: Form =
    Form { text: b"hh:hh:hh:hh:hh:hh", inner: |byte| byte.is_ascii_alphanumeric() || byte == b':' };

fn other(char: char, digits: &mut impl Iterator<Item = u8>) -> char {
    let mut within =
        |first: u8, count: u8| char::from(first + digits.next().unwrap_or_default() % count);
    match char {
        '0'..='9' => within(b'0', 10),
        'a'..='f' => within(b'a', 6),
        'g'..='z' => within(b'g', 20),
        'A'..='F' => within(b'A', 6),
        'G'..='Z' => within(b'G', 20),
        char if char.is_alphanumeric() => 'x',
        char => char,
    }
}

/// Replaces what stands for itself: not as a part of a longer word.
fn replace_words(text: &str, secret: &str, masked: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    while let Some(at) = find_word(text, secret, from) {
        out.push_str(&text[from..at]);
        out.push_str(masked);
        from = at + secret.len();
    }
    out.push_str(&text[from..]);
    out
}

fn find_word(text: &str, secret: &str, from: usize) -> Option<usize> {
    let mut from = from;
    while let Some(found) = text.get(from..)?.find(secret) {
        let (at, end) = (from + found, from + found + secret.len());
        let inner = |char: Option<char>| char.is_some_and(char::is_alphanumeric);
        if !inner(text[..at].chars().next_back()) && !inner(text[end..].chars().next()) {
            return Some(at);
        }
        from = at + secret.chars().next().map_or(1, char::len_utf8);
    }
    None
}
