//! How hosts of many distributions boot, as files, and the programs that build what is booted.
//!
//! The programs do with the files of a tree what the real ones do with those of a host, as far as
//! it can be seen in what they build: which of the planned files they take into an image, and
//! where they put it. What each of them reads and writes is said with it.

mod builders;
mod distributions;
mod formats;

pub use builders::Builders;
pub use distributions::{ALL, CARD, Distribution};
pub use formats::{archive, pe};
