//! Arguments for QEMU: options, and lists of properties as their values.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The arguments of a QEMU process, in order, without its own name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments(Vec<OsString>);

impl Arguments {
    /// Adds an option without a value.
    pub(super) fn flag(&mut self, option: &str) {
        self.0.push(option.into());
    }

    /// Adds an option with its value.
    pub(super) fn option(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.push(option.into());
        self.0.push(value.into());
    }

    /// Adds arguments as they are.
    pub(super) fn extend(&mut self, arguments: &[OsString]) {
        self.0.extend_from_slice(arguments);
    }

    pub(super) fn into_vec(self) -> Vec<OsString> {
        self.0
    }
}

/// A value such as `e1000e,bus=port1,addr=00.0`.
#[derive(Clone, Debug)]
pub(super) struct Properties(Vec<u8>);

impl Properties {
    /// Starts a list with its first word, the model or driver.
    pub(super) fn new(first: &str) -> Self {
        Self(first.as_bytes().to_vec())
    }

    /// Starts a list with its first property.
    pub(super) fn of(name: &str, value: impl AsRef<OsStr>) -> Self {
        Self(Vec::new()).append(name, value)
    }

    /// Adds a property.
    pub(super) fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.push(b',');
        self.append(name, value)
    }

    // A comma in a value is written twice (qemu(1), "Introduction").
    fn append(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.extend(name.as_bytes());
        self.0.push(b'=');
        for byte in value.as_ref().as_bytes() {
            self.0.push(*byte);
            if *byte == b',' {
                self.0.push(b',');
            }
        }
        self
    }
}

impl From<Properties> for OsString {
    fn from(properties: Properties) -> Self {
        OsString::from_vec(properties.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_values_are_doubled_and_nothing_else_is_changed() {
        let value: OsString = Properties::new("raw")
            .with("file.filename", OsStr::from_bytes(b"/a,b/ =\"\xff.iso"))
            .with("offset", "0")
            .into();
        assert_eq!(value.as_bytes(), b"raw,file.filename=/a,,b/ =\"\xff.iso,offset=0");
    }
}
