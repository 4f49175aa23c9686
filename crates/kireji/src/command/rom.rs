//! `kireji show --rom`: the option ROM of a card, saved if it is what the card's flash holds.

use std::path::Path;

use host::Measured;
use pci::rom::{Expected, Rom, Verdict};
use pci::{Function, Region, RegionKind};
use vfio::take::{Keeper, Order, State};

use crate::signals::Signals;
use crate::{CommandError, Context, Exit};

use super::save::save;
use super::{outcome, refuse};

/// The largest ROM that a region can hold, in bytes (PCI Local Bus 3.0, 6.2.5.2).
const MOST: u64 = 16 << 20;
/// Where the firmware of a PC leaves its copy of the boot display's ROM.
const SHADOW: u64 = 0xc_0000;

/// Reads the ROM of `function`, judges it, and writes it to `file` if it is whole.
pub(super) fn save_rom(
    context: &mut Context<'_>,
    function: &Function,
    file: &Path,
) -> Result<(), CommandError> {
    super::need_root_for("reading an option ROM", context)?;
    let address = function.address;
    let regions = Region::read_all(context.host, address)?;
    let Some(region) = regions.iter().find(|region| region.kind == RegionKind::Rom) else {
        return Err(bad(format!("{address} has no option ROM")));
    };
    if region.start == SHADOW {
        return Err(bad(format!(
            "the ROM of {address} cannot be read: the kernel shows the copy that the firmware \
             left at {SHADOW:#x}"
        ))
        .hint("make another card the boot display in the firmware's menu, and read it then"));
    }
    if_free(context, function)?;
    let bytes = read(context, function)?;
    let rom = Rom::parse(&bytes)
        .map_err(|error| bad(format!("the ROM of {address} is none: {error}")).hint(TRY_AWAKE))?;
    let expected = Expected { ids: Some(function.ids), region: Some(region.size) };
    match rom.judge(&expected) {
        Verdict::Whole => {}
        Verdict::Truncated { missing } => {
            let text = format!("the ROM of {address} is cut off: {missing} bytes are missing");
            return Err(bad(text).hint(TRY_AWAKE));
        }
        Verdict::Damaged { offset } => {
            let text = format!("the ROM of {address} is damaged at byte {offset}");
            return Err(bad(text).hint(TRY_AWAKE));
        }
        Verdict::Shadowed { signs } => {
            let error = bad(format!("the ROM of {address} is not what its flash holds"));
            let error = signs.iter().fold(error, |error, sign| error.reason(sign.to_string()));
            return Err(error.hint("a card that the firmware has initialised shows a changed copy"));
        }
    }
    // What follows the last image is padding.
    let whole = &bytes[..rom.length().min(bytes.len())];
    save(context, file, whole, 0o644)?;
    let kinds: Vec<_> = rom.images.iter().map(|image| image.kind.to_string()).collect();
    writeln!(
        context.err,
        "saved {} bytes of {address}'s ROM to {}: {}",
        whole.len(),
        file.display(),
        kinds.join(", ")
    )?;
    Ok(())
}

/// What is in the ROM of `function`, or why that could not be read.
///
/// # Errors
/// Another process has the card.
pub(super) fn kinds(
    context: &Context<'_>,
    function: &Function,
) -> Result<Measured<Vec<String>>, CommandError> {
    if_free(context, function)?;
    let bytes = match read(context, function) {
        Ok(bytes) => bytes,
        Err(error) if error.exit() == Exit::Interrupted => return Err(error),
        Err(error) => return Ok(Measured::unmeasured(error.to_string())),
    };
    Ok(match Rom::parse(&bytes) {
        Ok(rom) => Measured::Known(rom.images.iter().map(|image| image.kind.to_string()).collect()),
        Err(error) => Measured::unmeasured(format!("its option ROM is none: {error}")),
    })
}

const TRY_AWAKE: &str = "read it while a driver has the card and keeps it awake";

fn bad(message: String) -> CommandError {
    CommandError::new(Exit::Image, message).code("E-ROM")
}

/// Refuses while another process has the card or changes who has it. One that was taken to be kept
/// is as free as one on its driver, unless something drives it.
fn if_free(context: &Context<'_>, function: &Function) -> Result<(), CommandError> {
    let address = function.address;
    let leases = Keeper::new(context.host, context.writer).leases();
    let leases = leases.map_err(outcome::lease_error)?;
    if let Some(held) = leases.iter().find(|held| held.lease.holds(address))
        && !matches!(held.state, State::Held | State::Unwell { .. })
    {
        return Err(outcome::taken(address, &held.state));
    }
    refuse::users_of(context, address, &[address])
}

/// The kernel shows the ROM's contents only between a 1 and a 0 written to the same attribute, of
/// which the latter takes a line of two bytes (drivers/pci/pci-sysfs.c, pci_write_rom). It decodes
/// the ROM during each read alone, so what a kill leaves behind is that root may read it.
fn read(context: &Context<'_>, function: &Function) -> Result<Vec<u8>, CommandError> {
    let path = format!("{}/rom", Function::path(function.address));
    let write = |value| {
        context
            .writer
            .write(&Order { path: &path, value, lock: None })
            .map_err(|error| CommandError::from_source(Exit::HostCannot, error))
    };
    let signals = Signals::catch()?;
    write("1\n")?;
    let bytes = context.host.read_limited(&path, MOST);
    write("0\n")?;
    if signals.came() {
        return Err(CommandError::new(Exit::Interrupted, "interrupted: nothing was saved"));
    }
    bytes.map_err(|error| {
        let code = error.source.raw_os_error();
        let error = CommandError::from(error);
        // EIO: the ROM has no signature, or the function does not answer.
        if code == Some(5) { error.hint(TRY_AWAKE) } else { error }
    })
}
