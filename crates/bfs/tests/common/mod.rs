//! What the tests of the volumes share.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A volume of `tests/data`, whole.
pub fn fixture(name: &str) -> Vec<u8> {
    let packed = std::fs::read(data(&format!("{name}.bfs.zst"))).unwrap();
    zstd::decode_all(packed.as_slice()).unwrap()
}

/// The volume whose bitmap was damaged: `std2048`, but for four blocks.
pub fn corrupt_bitmap() -> Vec<u8> {
    let mut volume = fixture("std2048");
    let packed = std::fs::read(data("corrupt-bitmap.blocks.zst")).unwrap();
    for piece in zstd::decode_all(packed.as_slice()).unwrap().chunks(8 + 2048) {
        let block = u64::from_le_bytes(piece[..8].try_into().unwrap());
        let start = usize::try_from(block * 2048).unwrap();
        volume[start..start + 2048].copy_from_slice(&piece[8..]);
    }
    volume
}

/// The rows of a table of `tests/data`, if there is one of that name.
pub fn table(name: &str) -> Option<Vec<Vec<String>>> {
    let packed = std::fs::read(data(&format!("{name}.zst"))).ok()?;
    let text = String::from_utf8(zstd::decode_all(packed.as_slice()).unwrap()).unwrap();
    Some(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The name of a type code, as Haiku's `listattr` has it.
pub fn type_name(code: u32) -> String {
    match &code.to_be_bytes() {
        b"CSTR" => "Text",
        b"LONG" => "Int-32",
        b"LLNG" => "Int-64",
        b"DBLE" => "Double",
        b"RAWT" => "Raw Data",
        other => return String::from_utf8_lossy(other).into_owned(),
    }
    .to_owned()
}
