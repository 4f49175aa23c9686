//! Displays: which function the host's picture comes from.

use std::collections::BTreeMap;

use ::host::{Measured, ReadError, Sysroot};
use serde::Serialize;

use super::device::functions_on;
use super::edid;
use crate::{Address, Function, Host};

const DRM: &str = "/sys/class/drm";

/// A display function, or one whose memory the boot's picture is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Display {
    /// The PCI functions that it needs, the nearest first.
    pub functions: Vec<Address>,
    /// Whether the firmware used it as its console (`boot_vga`); `None` where the kernel does not
    /// say, as for functions that are no VGA controllers.
    pub is_boot_vga: Option<bool>,
    /// What the kernel calls the picture of the boot that lies in one of its regions.
    pub boot_framebuffer: Option<String>,
    /// Its connectors with a screen on them. Unmeasured where its driver shows none.
    pub screens: Measured<Vec<Screen>>,
}

/// A connector with a screen on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Screen {
    /// The connector, such as `HDMI-A-1`.
    pub connector: String,
    /// The monitor's name, or its maker and product.
    pub monitor: Option<String>,
}

/// Reads all displays that hang on PCI functions, by the nearest one's address.
pub(super) fn read(host: &Sysroot, functions: &Host) -> Result<Vec<Display>, ReadError> {
    let mut displays: BTreeMap<Address, Display> = BTreeMap::new();
    let framebuffers = boot_framebuffers(host)?;
    for function in functions.functions() {
        let boot_framebuffer = framebuffers.get(&function.address).cloned();
        if function.class.is_display() || boot_framebuffer.is_some() {
            let flag =
                host.optional_text(format!("{}/boot_vga", Function::path(function.address)))?;
            let mut way = vec![function.address];
            way.extend(functions.above(function.address));
            let display = Display {
                functions: way,
                is_boot_vga: flag.map(|flag| flag == "1"),
                boot_framebuffer,
                screens: unseen(function),
            };
            displays.insert(function.address, display);
        }
    }
    let connectors = host.optional_names(DRM)?;
    for card in connectors.iter().filter(|name| is_card(name)) {
        let Ok(target) = host.link(format!("{DRM}/{card}")) else { continue };
        let way = functions_on(&target);
        let Some(nearest) = way.first() else { continue };
        let screens = screens(host, card, &connectors)?;
        let display = displays.entry(*nearest).or_insert_with(|| Display {
            functions: way.clone(),
            is_boot_vga: None,
            boot_framebuffer: None,
            screens: Measured::Known(Vec::new()),
        });
        // A function may have had two drivers' cards for a moment while one replaces the other.
        match &mut display.screens {
            Measured::Known(known) => known.extend(screens),
            unmeasured => *unmeasured = Measured::Known(screens),
        }
    }
    Ok(displays.into_values().collect())
}

/// What is known of the screens of a function that has no DRM driver.
fn unseen(function: &Function) -> Measured<Vec<Screen>> {
    match function.driver.as_deref() {
        Some(driver) if !function.is_given_away() => {
            Measured::unmeasured(format!("its driver {driver} does not show connectors"))
        }
        // It shows nothing of the host's.
        _ => Measured::Known(Vec::new()),
    }
}

fn is_card(name: &str) -> bool {
    name.strip_prefix("card").is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn screens(host: &Sysroot, card: &str, all: &[String]) -> Result<Vec<Screen>, ReadError> {
    let mut screens = Vec::new();
    let prefix = format!("{card}-");
    for name in all {
        let Some(connector) = name.strip_prefix(&prefix) else { continue };
        let status = host.optional_text(format!("{DRM}/{name}/status"))?;
        if status.as_deref() == Some("connected") {
            let edid = host.read(format!("{DRM}/{name}/edid")).unwrap_or_default();
            screens.push(Screen { connector: connector.to_owned(), monitor: edid::name(&edid) });
        }
    }
    Ok(screens)
}

/// Reads which functions have the boot's picture in one of their regions, and its name.
///
/// `/proc/iomem` nests it below the region, which bears the function's address; that much an
/// ordinary user sees too, only the numbers are hidden.
fn boot_framebuffers(host: &Sysroot) -> Result<BTreeMap<Address, String>, ReadError> {
    let text = host.optional_text("/proc/iomem")?.unwrap_or_default();
    let mut found = BTreeMap::new();
    // The function that each depth of nesting belongs to.
    let mut within: Vec<(usize, Option<Address>)> = Vec::new();
    for line in text.lines() {
        let Some((range, name)) = line.split_once(" : ") else { continue };
        let depth = range.len() - range.trim_start().len();
        while within.last().is_some_and(|(above, _)| *above >= depth) {
            within.pop();
        }
        let inherited = within.last().and_then(|(_, function)| *function);
        let own = Address::of_sysfs(name);
        if let Some(function) = inherited
            && is_framebuffer(name)
        {
            found.entry(function).or_insert_with(|| name.to_owned());
        }
        within.push((depth, own.or(inherited)));
    }
    Ok(found)
}

/// Names under which the kernel claims the boot's framebuffer (drivers/firmware/sysfb_simplefb.c,
/// drivers/video/fbdev/{efifb,vesafb,simplefb}.c, drivers/gpu/drm/sysfb).
fn is_framebuffer(name: &str) -> bool {
    matches!(
        name,
        "BOOTFB"
            | "efifb"
            | "vesafb"
            | "simplefb"
            | "simpledrm"
            | "efidrm"
            | "vesadrm"
            | "simple-framebuffer"
    )
}

#[cfg(test)]
mod tests;
