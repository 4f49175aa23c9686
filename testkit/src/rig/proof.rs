//! Proofs with the tool itself, as a user asks for them: of a whole card, and in one command.

use pci::Address;

use super::{Outcome, Rig, one, said};

/// Named by one address, a card moves with all its functions, works, and comes back whole.
pub(super) fn whole_card(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let Some(first) = functions.first() else { return Err("this takes a card".to_owned()) };
    let before = rig.bindings(functions)?;
    let taken = rig.expect(&format!("take {}", card(*first)), 0)?;
    for (address, binding) in functions.iter().zip(rig.bindings(functions)?) {
        rig.says(&taken.out, &address.to_string())?;
        rig.same("its driver", binding.driver.as_deref(), Some("vfio-pci"))?;
    }
    let tested = rig.expect(&format!("selftest {}", card(*first)), 0)?;
    for address in functions {
        rig.says(&tested.out, &format!("{address} through"))?;
    }
    rig.expect(&format!("return {}", card(*first)), 0)?;
    rig.same("the first drivers and overrides", rig.bindings(functions)?, before)
}

/// The name of the card that a function belongs to: its address without the function.
fn card(function: Address) -> String {
    let text = function.to_string();
    text.split_once('.').map_or(text.clone(), |(card, _)| card.to_owned())
}

/// One command takes the card, proves that it can be driven, and returns it.
pub(super) fn in_one_command(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.bindings(functions)?;
    rig.expect(&format!("selftest {address}"), 11)?;
    let tested = rig.expect(&format!("selftest {address} --take --reset"), 0)?;
    rig.says(&tested.out, "The card can be driven through VFIO.")?;
    for part in ["configuration space", "BAR 0", "interrupts by INTx", "DMA mapping"] {
        rig.says(&tested.out, &format!("pass       {part}"))?;
    }
    rig.same("the first driver and override", rig.bindings(functions)?, before)?;
    let status = rig.expect("status", 0)?;
    rig.says(&status.out, "No card is held.")
}

/// Without interrupt remapping the proof fails with the reason, and the card comes back.
pub(super) fn without_remapping(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.bindings(functions)?;
    let refused = rig.expect(&format!("selftest {address} --take"), 11)?;
    rig.says(&refused.err, "interrupts are not remapped")?;
    rig.says(&refused.err, "[E-NO-INTERRUPT-REMAPPING]")?;
    rig.same("the first driver and override", rig.bindings(functions)?, before.clone())?;
    let explained = rig.expect("explain E-NO-INTERRUPT-REMAPPING", 0)?;
    rig.says(&explained.out, "intremap=off")?;
    // What it says to do where the guest is trusted does help.
    let hint = refused.err.split("sudo tee ").nth(1).and_then(|rest| rest.split('`').next());
    let parameter = hint.ok_or_else(|| format!("no hint in: {}", refused.err))?;
    std::fs::write(parameter, "Y").map_err(said)?;
    let tested = rig.expect(&format!("selftest {address} --take"), 0);
    std::fs::write(parameter, "N").map_err(said)?;
    rig.says(&tested?.out, "The card can be driven through VFIO.")?;
    rig.same("the first driver and override", rig.bindings(functions)?, before)
}
