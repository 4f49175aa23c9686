//! What kireji outside tells kireji inside the reference guest: one file in the initramfs.

use host::{ReadError, Sysroot};
use serde::{Deserialize, Serialize};

/// Where the plan is, from the root of the initramfs.
pub const PLAN_PATH: &str = "/kireji-guest.json";

/// Where the kernel makes up a new UUID at each read (random(4)).
const UUID: &str = "/proc/sys/kernel/random/uuid";

/// A word that nobody in the guest can guess before it is sent: it tells lines of the report from
/// whatever else is on the serial line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(String);

impl Nonce {
    /// Returns one of the kernel's random UUIDs.
    ///
    /// # Errors
    /// The kernel gives none.
    pub fn random(host: &Sysroot) -> Result<Self, ReadError> {
        let malformed = |reason: &str| ReadError {
            path: UUID.into(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, reason),
        };
        host.text(UUID)?.replace('-', "").try_into().map_err(malformed)
    }

    /// Returns the word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Nonce {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Ok(Self(text)),
            false => Err("not 32 hexadecimal digits"),
        }
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        nonce.0
    }
}

/// What the first process of the reference guest is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plan {
    /// What marks the lines of the report.
    pub nonce: Nonce,
    /// The functions to look for.
    pub functions: Vec<Expected>,
    /// Whether a network card may ask its network for an address, to prove that it can talk.
    pub network: bool,
    /// How long to wait for a driver, and for what it makes of its card, in seconds.
    pub patience_s: u64,
}

/// A function that the guest should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expected {
    /// Its name outside: its address there, or the model of QEMU's own device.
    pub name: String,
    /// What sysfs calls `modalias`, which says all of the function's ids.
    pub modalias: String,
    /// The modules that say that they drive it, those that are built in too.
    pub drivers: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_makes_nonces_up() {
        let host = Sysroot::host().unwrap();
        let (one, two) = (Nonce::random(&host).unwrap(), Nonce::random(&host).unwrap());
        assert_ne!(one, two);
        assert_eq!(one.as_str().len(), 32);
        for bad in
            ["", "0123", "0123456789abcdef0123456789abcdeg", "0123456789abcdef0123456789abcde "]
        {
            assert!(Nonce::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
