//! Refusals for the sake of the host's picture.

use ::host::Measured;

use super::{Case, Code, Overriding, Refusal, unmeasured_fact};
use crate::uses::{Display, Screen};
use crate::{Address, Host};

pub(super) fn refusals(case: &Case) -> Vec<Refusal> {
    let mut refusals = native(case);
    match &case.uses.displays {
        Measured::Known(displays) => {
            refusals.extend(boot(case, displays));
            refusals.extend(last(case, displays));
        }
        Measured::Unmeasured { unmeasured } => {
            let displays = case.taken().filter(|function| function.class.is_display());
            refusals.extend(displays.map(|function| {
                unmeasured_fact(function.address, "what the host shows on it", unmeasured)
            }));
        }
    }
    refusals
}

fn native(case: &Case) -> Vec<Refusal> {
    let displays = case.taken().filter(|function| function.class.is_display());
    displays
        .filter(|function| !function.is_given_away())
        .filter_map(|function| {
            let (address, driver) = (function.address, function.driver.as_ref()?);
            let reason = format!("{address} is a display on its driver {driver}");
            let refusal = Refusal::new(Code::DisplayNative, address, reason);
            Some(refusal.overridden(Overriding::ForceUnbind))
        })
        .collect()
}

fn boot(case: &Case, displays: &[Display]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for display in displays {
        let Some(address) = case.lost_with(&display.functions) else { continue };
        let nearest = display.functions.first().and_then(|nearest| case.host.function(*nearest));
        let Some(nearest) = nearest else { continue };
        // One that was reserved at boot keeps the flag, though the host shows nothing on it.
        let is_given_away = nearest.is_given_away();
        let reason = match (&display.boot_framebuffer, display.is_boot_vga) {
            (Some(name), _) => format!("{address} → {name}, the boot's picture, in its memory"),
            (None, Some(true)) if !is_given_away => {
                format!("{address} → the display that the firmware chose for the boot")
            }
            (None, None) if !is_given_away && nearest.class.is_vga() => {
                let why = "the kernel shows no boot_vga";
                refusals.push(unmeasured_fact(address, "whether it is the boot display", why));
                continue;
            }
            _ => continue,
        };
        refusals.push(Refusal::new(Code::BootDisplay, address, reason));
    }
    refusals
}

fn last(case: &Case, displays: &[Display]) -> Vec<Refusal> {
    let (lost, remaining): (Vec<&Display>, Vec<&Display>) =
        displays.iter().partition(|display| case.lost_with(&display.functions).is_some());
    // The boot's picture is somewhere to be seen, whoever drives the connector.
    let is_seen = |display: &&Display| {
        display.boot_framebuffer.is_some()
            || display.screens.known().is_some_and(|screens| !screens.is_empty())
    };
    if remaining.iter().any(is_seen) {
        return Vec::new();
    }
    let unclear = remaining.iter().find(|display| display.screens.known().is_none());
    let mut refusals = Vec::new();
    for display in lost {
        let Some(address) = case.lost_with(&display.functions) else { continue };
        match (&display.screens, unclear) {
            (Measured::Known(screens), _) if screens.is_empty() => {}
            (Measured::Known(_), Some(other)) => {
                let other = other.functions.first().map(ToString::to_string).unwrap_or_default();
                let why = format!("it depends on {other}, whose driver shows no connectors");
                let fact = "whether another display has a screen";
                refusals.push(unmeasured_fact(address, fact, &why));
            }
            (Measured::Known(screens), None) => {
                let listed: Vec<_> = screens.iter().map(in_words).collect();
                let reason = format!("{address} → {}", listed.join(", "));
                refusals.push(Refusal::new(Code::LastScreen, address, reason));
            }
            (Measured::Unmeasured { unmeasured }, _) => {
                let fact = "whether the last screen hangs on it";
                refusals.push(unmeasured_fact(address, fact, unmeasured));
            }
        }
    }
    refusals
}

/// Refuses to give a display away at boot where no screen of the host is connected: nobody would see
/// why the next boot goes wrong.
pub fn headless(host: &Host, taken: &[Address], displays: &[Display]) -> Option<Refusal> {
    let is_display = |address: &&Address| {
        host.function(**address).is_some_and(|function| function.class.is_display())
    };
    let address = *taken.iter().find(is_display)?;
    let is_dark = |display: &Display| display.screens.known().is_some_and(Vec::is_empty);
    if !displays.iter().all(is_dark) {
        return None;
    }
    let reason = format!("{address} is a display, and no screen is connected to this host");
    Some(Refusal::new(Code::Headless, address, reason))
}

fn in_words(screen: &Screen) -> String {
    match &screen.monitor {
        Some(monitor) => format!("{} ({monitor})", screen.connector),
        None => screen.connector.clone(),
    }
}
