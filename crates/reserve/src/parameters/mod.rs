//! Where kernel parameters come from, one file for each source, and which are needed at all.

mod grub;
mod need;

pub use need::needed;

use host::{ReadError, Sysroot};

use crate::boot::{Boot, Loader};
use crate::config::Change;
use crate::config::shell::EditError;
use crate::plan::Plan;

/// Parameters cannot be changed here.
#[derive(Debug, thiserror::Error)]
pub enum ParameterError {
    /// A file of the source cannot be read.
    #[error("where the kernel's parameters come from cannot be read")]
    Read(#[from] ReadError),
    /// A file cannot be edited.
    #[error("{path} cannot be edited")]
    Edit {
        /// The file.
        path: &'static str,
        /// Why.
        #[source]
        source: EditError,
    },
    /// There is no backend for this source.
    #[error("the parameters of {0} are not changed by kireji yet")]
    Unsupported(String),
}

/// Where kernel parameters come from.
pub trait Source: std::fmt::Debug {
    /// Adds to a plan what changes the parameters of all kernels, present and future.
    ///
    /// # Errors
    /// A file cannot be read or edited.
    fn plan(&self, host: &Sysroot, change: &Change, plan: &mut Plan) -> Result<(), ParameterError>;
}

/// Returns where the parameters of this host come from.
///
/// # Errors
/// It cannot be told, or there is no backend for it.
pub fn source(host: &Sysroot, boot: &Boot) -> Result<&'static dyn Source, ParameterError> {
    let unsupported = |what: &str| Err(ParameterError::Unsupported(what.to_owned()));
    match boot.loader.agreed() {
        Some(Loader::Grub) if boot.grub_uses_bls(host)? => {
            unsupported("GRUB with entries of the Boot Loader Specification")
        }
        Some(Loader::Grub) => Ok(&grub::Grub),
        Some(other) => unsupported(&other.to_string()),
        None => unsupported("a boot loader that could not be told"),
    }
}
