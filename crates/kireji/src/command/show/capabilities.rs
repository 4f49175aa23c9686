//! A function's capabilities, for people and as JSON.

use host::{Measured, Sysroot};
use pci::Function;
use pci::config::{Acs, Aer, CapabilityWalk, Detail, ExpressDetail, Link};
use serde::Serialize;

/// Both lists.
#[derive(Serialize)]
pub(super) struct Capabilities {
    standard: Vec<Entry>,
    extended: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    id: String,
    name: &'static str,
    offset: u16,
    detail: Option<Detail>,
}

/// Reads the configuration space, unless that would wake the function.
pub(super) fn read(sysroot: &Sysroot, function: &Function) -> Measured<Capabilities> {
    let config = match function.config(sysroot) {
        Ok(Some(config)) => config,
        Ok(None) => return Measured::unmeasured("the function sleeps, and reading would wake it"),
        Err(error) => return Measured::unmeasured(error.to_string()),
    };
    let lists = config.capabilities();
    if let CapabilityWalk::Broken(error) = &lists.standard_walk {
        return Measured::unmeasured(error.to_string());
    }
    if lists.standard_walk == CapabilityWalk::Unread {
        return Measured::unmeasured("the capabilities can be read by root only");
    }
    let standard = lists.standard.iter().map(|one| Entry {
        id: format!("{:02x}", one.id),
        name: one.name(),
        offset: one.offset,
        detail: config.detail(*one),
    });
    let extended = lists.extended.iter().map(|one| Entry {
        id: format!("{:04x}", one.id),
        name: one.name(),
        offset: one.offset,
        detail: config.extended_detail(*one),
    });
    Measured::Known(Capabilities { standard: standard.collect(), extended: extended.collect() })
}

impl Capabilities {
    /// Each capability in a line.
    pub(super) fn lines(&self) -> Vec<String> {
        let all = self.standard.iter().chain(&self.extended);
        all.map(|entry| match &entry.detail {
            Some(detail) => format!("{}: {}", entry.name, in_words(detail)),
            None => entry.name.to_owned(),
        })
        .collect()
    }
}

fn in_words(detail: &Detail) -> String {
    let on = |is: bool| if is { "on" } else { "off" };
    match detail {
        Detail::Power(power) => {
            let keeps = if power.no_soft_reset { ", keeps its state in D3hot" } else { "" };
            format!("version {}, in D{}{keeps}", power.version, power.state)
        }
        Detail::Msi(msi) => {
            let bits = if msi.is_64_bit { 64 } else { 32 };
            let plural = if msi.vectors == 1 { "" } else { "s" };
            format!("{}, {} vector{plural}, {bits}-bit", on(msi.enabled), msi.vectors)
        }
        Detail::MsiX(msi) => format!(
            "{}, {} vectors, table in BAR {} at {:#x}, pending bits in BAR {} at {:#x}",
            on(msi.enabled),
            msi.vectors,
            msi.table_bar,
            msi.table_offset,
            msi.pending_bar,
            msi.pending_offset
        ),
        Detail::Express(express) => of_express(express),
        Detail::VendorSpecific { length } => format!("{length} bytes"),
        Detail::AdvancedFeatures { function_reset } => match function_reset {
            true => "can be reset alone".to_owned(),
            false => "cannot be reset alone".to_owned(),
        },
        Detail::Acs(acs) => {
            format!("has {}, on {}", services(acs.supported), services(acs.enabled))
        }
        Detail::Aer(aer) => match (errors(aer), aer.uncorrectable | aer.correctable) {
            (_, 0) => "no errors".to_owned(),
            (errors, _) => format!("has seen {errors}"),
        },
        Detail::SrIov(sr_iov) => format!(
            "{} of {} virtual functions, device {:04x}",
            sr_iov.number, sr_iov.total, sr_iov.device
        ),
        Detail::ResizableBar { bars } => {
            let bars = bars.iter().map(|bar| {
                let most =
                    31u32.checked_sub(bar.sizes.leading_zeros()).map_or(0, |top| 1u64 << top << 20);
                format!("BAR {} {} of up to {}", bar.bar, super::size(bar.size), super::size(most))
            });
            bars.collect::<Vec<_>>().join(", ")
        }
    }
}

fn of_express(express: &ExpressDetail) -> String {
    let mut text = format!("version {}", express.version);
    if let Some(link) = express.link {
        let speed = |code| Link::speed_name(code).unwrap_or("unknown speed");
        text += &format!(
            ", {} x{} of {} x{}",
            speed(link.speed),
            link.width,
            speed(link.max_speed),
            link.max_width
        );
    }
    text += &format!(", payload {} of {} bytes", express.payload, express.max_payload);
    if express.function_reset {
        text += ", can be reset alone";
    }
    text
}

fn services(register: u16) -> String {
    let set = Acs::NAMES.iter().enumerate().filter(|(bit, _)| register >> bit & 1 == 1);
    let names: Vec<_> = set.map(|(_, name)| *name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

fn errors(aer: &Aer) -> String {
    let of = |register: u32, names: &[(u8, &'static str)]| -> Vec<&'static str> {
        names.iter().filter(|(bit, _)| register >> bit & 1 == 1).map(|(_, name)| *name).collect()
    };
    let mut seen = of(aer.uncorrectable, &Aer::UNCORRECTABLE);
    seen.extend(of(aer.correctable, &Aer::CORRECTABLE));
    if seen.is_empty() { "errors of other kinds".to_owned() } else { seen.join(" ") }
}
