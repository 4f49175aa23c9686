//! What the tests of the volumes share.

#![expect(
    clippy::unwrap_used,
    dead_code,
    reason = "a test fails by panicking; no test uses all of it"
)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use bfs::{Access, MakeOptions, Options, Volume, check};
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

/// The sizes of blocks that there are.
pub const SIZES: [u32; 4] = [1024, 2048, 4096, 8192];

/// Makes an empty volume in memory.
pub fn make(block_size: u32, size: usize) -> Volume<Vec<u8>> {
    let options = MakeOptions { block_size, ..MakeOptions::new("Test") };
    Volume::make(vec![0xe5; size], &options).unwrap()
}

/// Checks a volume, and gives it back opened anew.
pub fn sound(volume: Volume<Vec<u8>>) -> Volume<Vec<u8>> {
    let mut bytes = volume.into_storage();
    let report = check(&mut bytes).unwrap();
    let findings: Vec<_> = report.findings.iter().take(10).map(ToString::to_string).collect();
    assert!(report.is_clean(), "{findings:#?}");
    assert_eq!(report.shared_blocks, 0);
    Volume::open(bytes, &Options { access: Access::WriteClean, ..Options::default() }).unwrap()
}

/// Bytes that do not repeat soon.
pub fn pattern(length: usize, seed: usize) -> Vec<u8> {
    let mut state = u32::try_from(seed).unwrap_or_default() + 1;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    (0..length).map(next).collect()
}

/// Makes the log of an empty volume as small as a few blocks, so that little fits into it.
pub fn with_small_log(bytes: Vec<u8>, blocks: u16) -> Vec<u8> {
    // log_blocks.length, log_start and log_end of disk_super_block (Haiku, .../bfs/bfs.h).
    const LENGTH: usize = 512 + 94;
    const START: usize = 512 + 96;
    let mut bytes = bytes;
    bytes[LENGTH..LENGTH + 2].copy_from_slice(&blocks.to_le_bytes());
    bytes[START..START + 16].fill(0);
    bfs::repair(&mut bytes, &Options::default()).unwrap();
    assert!(check(&mut bytes).unwrap().is_clean());
    bytes
}
