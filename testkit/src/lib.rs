//! What the tests of several crates share: hosts that exist only as files, and a kernel over them.

pub mod fake_kernel;
pub mod tree;
