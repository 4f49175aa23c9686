//! Taking functions from their drivers, and giving them back.
//!
//! [`Keeper`] is the one place that changes who drives a function. What it is about to do is
//! journalled under `/run/kireji` first, so that whoever comes after a crash can restore the
//! start: the former driver and the former driver override of every function.
//!
//! A journal lies in `/run` because what it describes does not outlive the boot either.

mod binding;
mod health;
mod keeper;
mod lease;
mod ledger;
mod node;
mod restore;
mod turn;
mod writer;

pub use binding::{Binding, VFIO_PCI};
pub use health::{Unwell, unwell};
pub use keeper::{Keeper, Recovery, TakeError};
pub use lease::{Damaged, Held, Lease, LeaseError, Purpose, State};
pub use node::{HandOverError, Recipient, nodes};
pub use restore::{RestoreError, Restored};
pub use turn::{Turn, Work};
pub use writer::{BEGUN, DirectWriter, HelperWriter, Order, SysfsWriter, WriteFailure, run_helper};
