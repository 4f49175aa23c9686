//! The lines of a report on the serial line.
//!
//! A line is `kireji-report NONCE CHECK JSON`. Kernel messages may come before, after and within
//! it; the nonce keeps them from being taken for one, and the check sum, which covers nonce and
//! record, from changing one.

use sha2::{Digest, Sha256};

use super::plan::Nonce;
use super::report::Record;

const MARK: &str = "kireji-report";

/// Bytes of the SHA-256 that make the check sum.
const CHECK_BYTES: usize = 8;

/// What a line holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A record, whole.
    Record(Record),
    /// The remains of a record.
    Damaged,
    /// Something else.
    Other,
}

/// Returns the line for a record, with an end of line before it too: something may have been left
/// unfinished.
pub(super) fn encode(nonce: &Nonce, record: &Record) -> serde_json::Result<String> {
    let json = serde_json::to_string(record)?;
    Ok(format!("\n{MARK} {} {} {json}\n", nonce.as_str(), check(nonce, &json)))
}

/// Reads one line, without its end.
pub(super) fn decode(nonce: &Nonce, line: &[u8]) -> Line {
    let line = String::from_utf8_lossy(line);
    let Some((_, rest)) = line.split_once(&format!("{MARK} {} ", nonce.as_str())) else {
        return Line::Other;
    };
    let record = rest
        .split_once(' ')
        .filter(|(sum, json)| *sum == check(nonce, json))
        .and_then(|(_, json)| serde_json::from_str(json).ok());
    record.map_or(Line::Damaged, Line::Record)
}

fn check(nonce: &Nonce, json: &str) -> String {
    let sum = Sha256::new().chain_update(nonce.as_str()).chain_update(json).finalize();
    hex(&sum[..CHECK_BYTES])
}

/// Returns bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce() -> Nonce {
        Nonce::try_from("0123456789abcdef0123456789abcdef".to_owned()).unwrap()
    }

    #[test]
    fn a_record_survives_and_a_changed_one_does_not() {
        let record = Record::Failed { reason: "odd \"words\"\n\u{1b}[31m é".into() };
        let text = encode(&nonce(), &record).unwrap();
        let line = text.trim_matches('\n').as_bytes();
        assert!(!line.contains(&b'\n') && !line.contains(&0x1b));
        assert_eq!(decode(&nonce(), line), Line::Record(record.clone()));
        let prefixed = [b"[    1.0] half a message ", line].concat();
        assert_eq!(decode(&nonce(), &prefixed), Line::Record(record));
        let start = line.len() - 20;
        for at in start..line.len() {
            let mut changed = line.to_vec();
            changed[at] ^= 1;
            assert_eq!(decode(&nonce(), &changed), Line::Damaged, "{at}");
            assert_eq!(decode(&nonce(), &line[..at]), Line::Damaged, "{at}");
        }
        let mut other = line.to_vec();
        other[MARK.len() + 3] ^= 1;
        assert_eq!(decode(&nonce(), &other), Line::Other);
    }
}
