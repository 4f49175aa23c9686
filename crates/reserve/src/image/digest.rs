//! Digests, by which contents are compared that are too large, or too secret, to be kept.

use std::fmt;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// The SHA-256 of some contents, as hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(String);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes a digest of what it is given.
#[derive(Debug, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Reads to the end; returns how many bytes there were.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&mut self, mut source: impl Read) -> io::Result<u64> {
        let mut buffer = vec![0; 64 << 10];
        let mut count = 0_u64;
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(count),
                Ok(more) => {
                    self.0.update(&buffer[..more]);
                    count = count.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the digest of all that was read.
    pub fn digest(self) -> Digest {
        Digest(self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
