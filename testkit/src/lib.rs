//! What the tests of several crates share: hosts that exist only as files.

pub mod tree;
