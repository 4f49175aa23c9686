//! Cards handed to an inner QEMU that has no processor (`-accel qtest`): a test speaks in the
//! processor's place.
//!
//! All but the processor is what a run has: the command line, QEMU's vfio-pci, the memory mapped
//! for DMA, the interrupts routed. It takes a second where a guest that boots takes minutes.

mod bus;
mod card;
mod client;
mod edu;
mod function;
mod machine;
mod nic;
mod nvme;

use std::time::Instant;

use pci::Address;
use pci::config::ConfigSpace;

use self::card::Card;
use self::machine::Machine;
use super::{Outcome, Rig, said};

/// A card of the rig, with what the host says of it while it is on the host's own driver. Taken, it
/// sleeps, and the host looks no longer.
struct Subject {
    function: pci::Function,
    config: ConfigSpace,
    kind: Kind,
}

/// What is to be checked with a card.
enum Kind {
    Edu,
    Nic(nic::Seen),
    Nvme(nvme::Seen),
}

impl Subject {
    fn look(rig: &Rig<'_>, address: Address) -> Result<Self, String> {
        let function = pci::Function::read(&rig.host, address).map_err(said)?;
        let config = function.config(&rig.host).map_err(said)?;
        let config = config.ok_or_else(|| format!("{address} sleeps"))?;
        let kind = match function.ids {
            edu::IDS => Kind::Edu,
            nic::IDS => Kind::Nic(nic::Seen::look(rig, address)?),
            nvme::IDS => Kind::Nvme(nvme::Seen::look(rig, address)?),
            ids => return Err(format!("{ids} is no card that this scenario knows")),
        };
        Ok(Self { function, config, kind })
    }

    fn take(&self, rig: &Rig<'_>) -> Outcome {
        let address = self.function.address;
        match &self.kind {
            Kind::Edu | Kind::Nic(_) => rig.expect(&format!("take {address}"), 0)?,
            // It may hold somebody's data, and is to be written to.
            Kind::Nvme(seen) => {
                rig.expect(&format!("take {address} --allow data-loss={}", seen.serial), 0)?
            }
        };
        Ok(())
    }

    /// Checks the card in the machine.
    fn check(&self, card: &mut Card<'_>) -> Outcome {
        match &self.kind {
            Kind::Edu => edu::check(card),
            Kind::Nic(seen) => nic::check(card, seen),
            Kind::Nvme(seen) => nvme::check(card, seen),
        }
    }

    /// Checks what the card did in the machine, now that it is the host's again.
    fn check_on_host(&self, rig: &Rig<'_>) -> Outcome {
        match self.kind {
            Kind::Edu | Kind::Nic(_) => Ok(()),
            Kind::Nvme(_) => nvme::check_on_host(rig, self.function.address),
        }
    }
}

/// Cards work in an inner machine, and are the host's again afterwards.
pub(super) fn works(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let look = |address| Subject::look(rig, address);
    let subjects: Vec<_> = functions.iter().copied().map(look).collect::<Result<_, _>>()?;
    let before = rig.bindings(functions)?;
    for subject in &subjects {
        subject.take(rig)?;
    }
    let started = Instant::now();
    let mut machine = Machine::start(&rig.host, &subjects)?;
    rig.ok(format!("the machine started within {} ms", started.elapsed().as_millis()));
    drive(rig, &mut machine, &subjects).map_err(|error| machine.explain(&error))?;
    drop(machine);
    for address in functions {
        rig.expect(&format!("return {address}"), 0)?;
    }
    rig.same("the first drivers and overrides", rig.bindings(functions)?, before)?;
    subjects.iter().try_for_each(|subject| subject.check_on_host(rig))
}

/// Finds the cards in the machine and checks each.
fn drive(rig: &Rig<'_>, machine: &mut Machine, subjects: &[Subject]) -> Outcome {
    let qtest = &mut machine.qtest;
    let found = bus::set_up(qtest)?;
    rig.ok("the buses of the machine are set up");
    for subject in subjects {
        let started = Instant::now();
        let there = found.iter().find(|there| there.is(subject.function.ids));
        let there =
            there.ok_or_else(|| format!("{} is not in the machine", subject.function.ids))?;
        let address = subject.function.address;
        rig.ok(format!("{address} is {} in the machine", there.at));
        let (inner, outer) = (there.config.capabilities(), subject.config.capabilities());
        rig.same("its capabilities are those on the host", inner, outer)?;
        subject.check(&mut Card::new(rig, qtest, there)?)?;
        rig.ok(format!("{address} was checked within {} ms", started.elapsed().as_millis()));
    }
    Ok(())
}
