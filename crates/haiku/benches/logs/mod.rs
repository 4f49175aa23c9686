//! What is read.

use std::fs::File;
use std::path::Path;

/// Bytes of a log, about.
const SIZE: usize = 64 << 20;

/// What a guest says without a panic, panics with all that the debugger is asked, and random bytes.
pub const LOGS: [&str; 3] = ["q35-many-devices", "edu-driver-crash-kdl-session", "garbage"];

pub fn log(name: &str) -> Vec<u8> {
    if name == "garbage" {
        return garbage();
    }
    let serial = Path::new(env!("CARGO_MANIFEST_DIR")).join("../haiku/fixtures/serial");
    let once = zstd::decode_all(File::open(serial.join(format!("{name}.log.zst"))).unwrap());
    let once = once.unwrap();
    once.repeat(SIZE / once.len())
}

/// The same bytes each time (Marsaglia, "Xorshift RNGs", 2003).
fn garbage() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes())
    };
    std::iter::from_fn(next).take(SIZE / 8).flatten().collect()
}
