//! Tests of what root alone can do, such as making a file somebody else's. Run by others they
//! return early, and that is counted.

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::Location;

/// The variable that names the file where each test that returns early leaves a line;
/// `cargo xtask test` sets it, and counts them.
pub const SKIPPED: &str = "KIREJI_TEST_SKIPPED";

/// Whether root runs this test. Where another user does, that is noted.
///
/// # Panics
/// The file of [`SKIPPED`] cannot be written.
#[must_use]
#[track_caller]
pub fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root && let Some(path) = std::env::var_os(SKIPPED) {
        let mut file =
            OpenOptions::new().append(true).create(true).open(path).expect("the list of skips");
        let place = Location::caller();
        // In one write, for tests run at the same time.
        file.write_all(format!("{place}\n").as_bytes()).expect("the list of skips");
    }
    is_root
}
