//! `kireji bind` and `unbind`, which in sysfs mean the opposite of each other's intention.

use pci::Named;

use crate::{CommandError, Exit};

/// Arguments of `bind` and `unbind`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The card or function
    address: Named,
}

/// Says which command is meant, and does nothing.
///
/// # Errors
/// Always.
pub fn run(args: &Args, bind: bool) -> Result<Exit, CommandError> {
    let address = args.address.address;
    let word = if bind { "bind" } else { "unbind" };
    let meaning = if bind { "attaches a driver to" } else { "takes the driver from" };
    Err(CommandError::new(
        Exit::Usage,
        format!("`{word}` is ambiguous: in sysfs it {meaning} a device, whichever driver that is"),
    )
    .hint(format!("to give the card to a guest, use `kireji take {address}`"))
    .hint(format!("to give it back to its Linux driver, use `kireji return {address}`")))
}
