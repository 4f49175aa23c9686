//! The card itself, and what the host would lose with it.

use ::host::Measured;

use super::{Finding, Slot, Status, Subject, group};
use crate::facts::{Devices, Facts, FunctionFacts};
use crate::refusal::{Code, Selection, Verdict};
use crate::uses::Uses;
use crate::{Function, Host};

/// The facts of one card.
#[derive(Debug)]
pub struct CardCase<'a> {
    /// All functions.
    pub host: &'a Host,
    /// What decides for the host.
    pub facts: &'a Facts,
    /// What decides for the card's functions.
    pub devices: &'a Devices,
    /// The slots that are free.
    pub slots: &'a [Slot],
    /// The functions that would be given away.
    pub selection: &'a Selection,
    /// What the host does with its functions.
    pub uses: &'a Uses,
    /// What stands against giving them away.
    pub verdict: &'a Verdict,
}

impl<'a> CardCase<'a> {
    pub(super) fn functions(&self) -> impl Iterator<Item = &'a Function> {
        let host = self.host;
        self.selection.functions.iter().filter_map(move |address| host.function(*address))
    }

    fn facts_of(&self, function: &Function) -> Option<&FunctionFacts> {
        self.devices.functions.get(&function.address)
    }
}

/// Judges one card.
pub fn check_card(case: &CardCase) -> Vec<Finding> {
    let mut findings = group::check(case);
    for function in case.functions() {
        let Some(facts) = case.facts_of(function) else { continue };
        findings.push(reset(function, facts));
        findings.extend(bus_reset(case, function, facts));
        findings.push(power(function, facts));
        if function.class.is_display() {
            findings.push(framebuffer(case, function));
        }
        // Of other cards it is told where it was asked for.
        let is_read = facts.rom.as_ref().is_some_and(|rom| rom.known().is_some());
        if function.class.is_display() || is_read {
            findings.extend(option_rom(function, facts));
        }
    }
    findings.extend(losses(case));
    findings
}

fn reset(function: &Function, facts: &FunctionFacts) -> Finding {
    let code = Code::Reset;
    let address = function.address;
    let file = format!("{}/reset_method", Function::path(address));
    let finding = match &facts.reset_methods {
        Measured::Known(methods) if methods.is_empty() => {
            let says = format!("the kernel knows no way to reset {address}");
            Finding::fail(code, Subject::Card, says)
                .seen(file, "absent")
                .remedy("expect it to work once for each start of the host")
        }
        Measured::Known(methods) => {
            let says = format!("{address} can be reset: {}", methods.join(", "));
            Finding::pass(code, Subject::Card, says).seen(file, methods.join(" "))
        }
        Measured::Unmeasured { unmeasured } => Finding::unmeasured(code, Subject::Card, unmeasured),
    };
    finding.of(address).advisory()
}

/// What a reset of the bus would touch. It matters where there is no other way.
fn bus_reset(case: &CardCase, function: &Function, facts: &FunctionFacts) -> Option<Finding> {
    let code = Code::BusReset;
    let methods = match &facts.reset_methods {
        Measured::Known(methods) => methods,
        Measured::Unmeasured { unmeasured } => {
            let finding = Finding::unmeasured(code, Subject::Card, unmeasured);
            return Some(finding.of(function.address).advisory());
        }
    };
    if methods.first().map(String::as_str) != Some("bus") {
        return None;
    }
    let touched: Vec<_> = case
        .host
        .children(function.parent)
        .map(|other| other.address)
        .filter(|other| !case.selection.functions.contains(other))
        .map(|other| other.to_string())
        .collect();
    let finding = if touched.is_empty() {
        let says = "a reset of the bus touches nothing else";
        Finding::pass(code, Subject::Card, says)
    } else {
        let says = format!("a reset of the bus would touch {} too", touched.join(", "));
        Finding::fail(code, Subject::Card, says)
            .remedy("give them away together, or put the card into a slot of its own")
    };
    let file = format!("{}/reset_method", Function::path(function.address));
    Some(finding.seen(file, methods.join(" ")).of(function.address).advisory())
}

fn power(function: &Function, facts: &FunctionFacts) -> Finding {
    let code = Code::Power;
    let address = function.address;
    let path = Function::path(address);
    let power = &facts.power;
    let runtime = power.runtime.as_deref().unwrap_or("unknown");
    let Some(state) = &power.state else {
        let why = format!("there is no {path}/power_state: the kernel is older than 5.11");
        return Finding::unmeasured(code, Subject::Card, why).of(address).advisory();
    };
    let finding = if state == "error" || runtime == "error" {
        Finding::fail(code, Subject::Card, format!("{address} is in the power state {state}"))
            .remedy("switch the machine off and on again: a warm reboot may not do")
    } else if state.starts_with('D') {
        let sleeps = match state.as_str() {
            "D0" => String::new(),
            _ if power.may_lose_power == Some(true) => ", and may lose its power".to_owned(),
            _ => " and will be woken".to_owned(),
        };
        Finding::pass(code, Subject::Card, format!("{address} is in {state}{sleeps}"))
    } else {
        // So it is before a driver first had the function (drivers/pci/pci.c, pci_power_names).
        let why = format!("the kernel does not know the power state of {address}");
        Finding::unmeasured(code, Subject::Card, why)
    };
    finding
        .seen(format!("{path}/power_state"), state)
        .seen(format!("{path}/power/runtime_status"), runtime)
        .of(address)
        .advisory()
}

/// The refusal of the boot display decides; this tells who holds the memory.
fn framebuffer(case: &CardCase, function: &Function) -> Finding {
    let code = Code::Framebuffer;
    let displays = match &case.uses.displays {
        Measured::Known(displays) => displays,
        Measured::Unmeasured { unmeasured } => {
            let finding = Finding::unmeasured(code, Subject::Card, unmeasured);
            return finding.of(function.address).advisory();
        }
    };
    let held = displays
        .iter()
        .filter(|display| display.functions.first() == Some(&function.address))
        .find_map(|display| display.boot_framebuffer.as_ref());
    let finding = match held {
        Some(name) => {
            let says =
                format!("{name} holds the picture of the boot in a region of {}", function.address);
            Finding::fail(code, Subject::Card, says)
                .seen("/proc/iomem", name)
                .remedy("make another card the primary display in the firmware's setup")
        }
        None => Finding::pass(code, Subject::Card, "no boot framebuffer lies in its regions")
            .seen("/proc/iomem", "none below it"),
    };
    finding.of(function.address).advisory()
}

fn option_rom(function: &Function, facts: &FunctionFacts) -> Option<Finding> {
    let code = Code::OptionRom;
    let file = format!("{}/rom", Function::path(function.address));
    let finding = match facts.rom.as_ref()? {
        Measured::Known(kinds) => {
            let listed = kinds.join(", ");
            let has_uefi = kinds.iter().any(|kind| kind.contains("EFI"));
            let finding = if has_uefi {
                Finding::pass(code, Subject::Card, format!("its option ROM serves UEFI: {listed}"))
            } else {
                let says = format!("its option ROM does not serve UEFI: {listed}");
                Finding::fail(code, Subject::Card, says)
                    .remedy("run the guest with its BIOS, or let its driver start the card")
            };
            finding.seen(file, listed)
        }
        Measured::Unmeasured { unmeasured } => Finding::unmeasured(code, Subject::Card, unmeasured)
            .settle(format!("sudo kireji doctor {} --rom", function.address)),
    };
    Some(finding.of(function.address).advisory())
}

/// What is lost, by the refusals; a code of which nothing was refused passes where its facts are
/// known.
fn losses(case: &CardCase) -> Vec<Finding> {
    const STORAGE: [Code; 3] = [Code::StorageMounted, Code::StorageActive, Code::DiskData];
    const NETWORK: [Code; 4] =
        [Code::NicDefaultRoute, Code::NicSession, Code::NicStorage, Code::NicUp];
    const DISPLAY: [Code; 3] = [Code::BootDisplay, Code::LastScreen, Code::DisplayNative];
    let told = [Code::GroupShared, Code::NoGroup];
    let mut findings: Vec<_> = case
        .verdict
        .refused
        .iter()
        .filter(|refusal| !told.contains(&refusal.code))
        .map(|refusal| {
            let status = match refusal.code {
                Code::Unmeasured => Status::Unmeasured,
                _ => Status::Fail,
            };
            let finding = match status {
                Status::Unmeasured => {
                    Finding::unmeasured(refusal.code, Subject::Loss, &refusal.reason)
                }
                _ => Finding::fail(refusal.code, Subject::Loss, &refusal.reason),
            };
            finding.of(refusal.function).remedy(refusal.code.explanation().remedy)
        })
        .collect();
    // What is unmeasured of a function may be anything that its class can be lost for.
    let unmeasured = |codes: &[Code]| {
        let open = findings.iter().filter(|finding| finding.code == Code::Unmeasured);
        let mut classes =
            open.filter_map(|finding| Some(case.host.function(finding.function?)?.class));
        classes.any(|class| match codes {
            codes if codes == STORAGE => class.is_storage() || class.is_usb(),
            codes if codes == NETWORK => class.is_network(),
            codes if codes == DISPLAY => class.is_display(),
            _ => class.is_usb(),
        })
    };
    let known = [
        (
            &STORAGE[..],
            case.uses.storage.known().is_some(),
            "nothing of the host is on a disk behind it",
        ),
        (&NETWORK[..], case.uses.network.known().is_some(), "the host's network does not need it"),
        (&DISPLAY[..], case.uses.displays.known().is_some(), "the host's picture does not need it"),
        (&[Code::LastKeyboard][..], case.uses.inputs.known().is_some(), "a keyboard stays"),
        (&[Code::VirtualFunctions][..], true, "it has no virtual functions in use"),
    ];
    let passes: Vec<_> = known
        .into_iter()
        // Of one kind only the worst is refused, so that the others tell nothing.
        .filter(|(codes, ..)| !findings.iter().any(|finding| codes.contains(&finding.code)))
        .filter(|(codes, is_known, _)| *is_known && !unmeasured(codes))
        .flat_map(|(codes, _, says)| {
            codes.iter().map(move |code| Finding::pass(*code, Subject::Loss, says))
        })
        .collect();
    findings.extend(passes);
    findings
}
