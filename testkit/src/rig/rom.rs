//! The option ROM of a card, read from the real attribute.

use pci::rom::Rom;
use pci::{Address, Function};
use vfio::Device;

use super::{Outcome, Rig, said};

/// The first function's ROM is saved whole, and VFIO shows the same; the second has none, which is told.
pub(super) fn saved(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let [with, without] = functions else { return Err("this takes two functions".to_owned()) };
    let file = "/tmp/saved.rom";
    rig.expect(&format!("show {with} --rom {file}"), 0)?;
    let bytes = std::fs::read(file).map_err(said)?;
    let attribute = std::fs::read(format!("{}/rom", Function::path(*with)));
    let code = attribute.err().and_then(|error| error.raw_os_error());
    rig.same("the kernel shows it no longer", code, Some(22))?;
    let rom = Rom::parse(&bytes).map_err(said)?;
    rig.same("its length", rom.length(), bytes.len())?;
    // The doctor looks into it only when it is asked to.
    let shut = rig.kireji(&format!("doctor {with} --verbose"))?;
    rig.holds("the ROM is left alone", !shut.out.contains("option ROM"))?;
    let open = rig.kireji(&format!("doctor {with} --rom --verbose"))?;
    rig.says(&open.out, "its option ROM")?;
    // VFIO shows the same, once it has the card.
    rig.expect(&format!("take {with}"), 0)?;
    let through_vfio = Device::open(&rig.host, *with).and_then(|device| device.option_rom());
    rig.expect(&format!("return {with}"), 0)?;
    let through_vfio = through_vfio.map_err(said)?.ok_or("VFIO shows no ROM")?;
    rig.holds("VFIO shows the same", through_vfio == bytes)?;
    let refused = rig.expect(&format!("show {without} --rom /tmp/none.rom"), 15)?;
    rig.says(&refused.err, "E-ROM")?;
    rig.holds("nothing was written", !std::path::Path::new("/tmp/none.rom").exists())
}
