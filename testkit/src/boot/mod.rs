//! How a host boots, as files, and the distributions' programs that build what is booted.
//!
//! The programs do with the files of a tree what the real ones do with those of a host, as far as
//! it can be seen in what they build: which of the planned files they take into an image, and
//! where they put it. What each of them reads and writes is said with it.

mod builders;

pub use builders::Builders;

/// Returns an archive of the `newc` kind, not packed
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
///
/// # Panics
/// A file is too large for a test.
pub fn archive<'a>(files: impl IntoIterator<Item = (&'a str, u32, &'a [u8])>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, mode, contents) in files {
        member(&mut bytes, name, mode, contents);
    }
    member(&mut bytes, "TRAILER!!!", 0, &[]);
    bytes
}

fn member(bytes: &mut Vec<u8>, name: &str, mode: u32, contents: &[u8]) {
    let (size, length) = (contents.len(), name.len() + 1);
    bytes.extend(format!("070701{:08X}{mode:08X}", 0).bytes());
    bytes.extend("00000000".repeat(4).bytes());
    bytes.extend(format!("{size:08X}").bytes());
    bytes.extend("00000000".repeat(4).bytes());
    bytes.extend(format!("{length:08X}{:08X}", 0).bytes());
    bytes.extend(name.bytes());
    bytes.push(0);
    pad(bytes);
    bytes.extend(contents);
    pad(bytes);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
