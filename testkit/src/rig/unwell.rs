//! A card that stops answering while vfio-pci has it.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use pci::config::{Capability, ConfigSpace};
use pci::{Address, Function};
use vfio::take::VFIO_PCI;

use super::{Outcome, Rig, one, said};

/// The slot control register, from the capability, and the bit that cuts the slot's power
/// (PCI Express Base 6.0, 7.5.3.10, Power Controller Control).
const SLOT_CONTROL: u16 = 0x18;
const POWER_OFF: u16 = 1 << 10;

/// Without power the card reads as all ones, and stays on vfio-pci; with it, it goes back.
pub(super) fn stays(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.bindings(functions)?;
    let function = Function::read(&rig.host, address).map_err(said)?;
    let port = function.parent.ok_or("it is below no port")?;
    rig.expect(&format!("take {address}"), 0)?;
    let path = Function::path(address);
    let sleeps = || {
        let status = rig.host.text(format!("{path}/power/runtime_status")).map_err(said)?;
        Ok(status == "suspended")
    };
    rig.settles("it sleeps, as nobody uses it", sleeps)?;
    rig.expect("list", 0)?;
    rig.holds("looking at it does not wake it", sleeps()?)?;

    set_power(rig, port, false)?;
    let config = rig.host.read(format!("{path}/config")).map_err(said)?;
    rig.holds("it reads as all ones", ConfigSpace::new(config).is_all_ones())?;
    rig.holds("it sleeps still", sleeps()?)?;
    let kept = rig.expect(&format!("return {address}"), 27)?;
    rig.says(&kept.out, "does not answer")?;
    let driver = rig.bindings(functions)?.remove(0).driver;
    rig.same("it stays on vfio-pci", driver.as_deref(), Some(VFIO_PCI))?;
    let status = rig.expect("status", 0)?;
    rig.says(&status.out, "reads as all ones")?;

    set_power(rig, port, true)?;
    rig.expect(&format!("return {address}"), 0)?;
    rig.same("its binding", rig.bindings(functions)?, before)
}

fn set_power(rig: &Rig<'_>, port: Address, on: bool) -> Outcome {
    let path = format!("{}/config", Function::path(port));
    let config = ConfigSpace::new(rig.host.read(&path).map_err(said)?);
    let express = config.capabilities().find(Capability::EXPRESS).ok_or("no PCI Express port")?;
    let at = express + SLOT_CONTROL;
    let control = config.u16(at).ok_or("no slot control")?;
    let control = if on { control & !POWER_OFF } else { control | POWER_OFF };
    let file = OpenOptions::new().write(true).open(path).map_err(said)?;
    file.write_all_at(&control.to_le_bytes(), u64::from(at)).map_err(said)?;
    rig.ok(format!("the slot's power is {}", if on { "on" } else { "off" }));
    Ok(())
}
