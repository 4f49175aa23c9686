//! What is said of a function, each in a line with its label.

use host::Measured;
use pci::facts::{LinkFacts, SrIovRole};
use pci::{Function, Region, RegionKind};

use super::super::target::Target;
use super::Details;

const NONE: &str = "none";

/// Returns the lines, each with its label; one that continues the last has none.
pub(super) fn lines(
    target: &Target,
    function: &Function,
    details: &Details<'_>,
) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        (
            "ids",
            match function.subsystem {
                Some(subsystem) => format!("{}, subsystem {subsystem}", function.ids),
                None => function.ids.to_string(),
            },
        ),
        ("class", function.class.to_string()),
        ("driver", driver(function, details)),
        (
            "IOMMU group",
            match function.group {
                Some(group) => format!("{group} ({})", joined(&details.group_members)),
                None => NONE.to_owned(),
            },
        ),
        (
            "card",
            match &target.card.slot {
                Some(slot) => format!("{} in slot {slot}", joined(&target.card.functions)),
                None => joined(&target.card.functions),
            },
        ),
        (
            "power state",
            details.facts.power.state.clone().unwrap_or_else(|| "unmeasured".to_owned()),
        ),
        (
            "resets",
            match &details.facts.reset_methods {
                Measured::Known(methods) if methods.is_empty() => NONE.to_owned(),
                Measured::Known(methods) => methods.join(", "),
                Measured::Unmeasured { unmeasured } => format!("unmeasured: {unmeasured}"),
            },
        ),
    ];
    if let Some(link) = &details.facts.link {
        lines.push(("link", of_link(link)));
    }
    if let Some(node) = details.facts.numa_node {
        lines.push(("NUMA node", node.to_string()));
    }
    if let Some(role) = details.facts.sr_iov {
        lines.push(("SR-IOV", of_role(role)));
    }
    match &details.facts.regions {
        Measured::Known(regions) => lines.extend(regions.iter().map(region)),
        Measured::Unmeasured { unmeasured } => {
            lines.push(("regions", format!("unmeasured: {unmeasured}")));
        }
    }
    match &details.facts.rom {
        Some(Measured::Known(kinds)) => lines.push(("ROM is for", kinds.join(", "))),
        Some(Measured::Unmeasured { unmeasured }) => {
            lines.push(("ROM is for", format!("unmeasured: {unmeasured}")));
        }
        None => {}
    }
    match &details.capabilities {
        Measured::Known(capabilities) => listed(&mut lines, "capabilities", capabilities.lines()),
        Measured::Unmeasured { unmeasured } => {
            lines.push(("capabilities", format!("unmeasured: {unmeasured}")));
        }
    }
    listed(&mut lines, "would be lost", details.would_be_lost.clone());
    lines
}

fn listed(lines: &mut Vec<(&'static str, String)>, label: &'static str, items: Vec<String>) {
    if items.is_empty() {
        lines.push((label, NONE.to_owned()));
    }
    for (number, item) in items.into_iter().enumerate() {
        lines.push((if number == 0 { label } else { "" }, item));
    }
}

fn driver(function: &Function, details: &Details<'_>) -> String {
    let mut text = function.driver.as_deref().unwrap_or(NONE).to_owned();
    if let Some(set) = &details.driver_override {
        text += &format!(", override {set}");
    }
    if let Measured::Known(modules) = &details.modules
        && !modules.is_empty()
    {
        text += &format!(" (would be taken by {})", modules.join(", "));
    }
    text
}

fn of_link(link: &LinkFacts) -> String {
    let speed = |speed: &Option<String>, width: Option<u8>| {
        let width = width.map(|width| format!("x{width}"));
        let words: Vec<_> = speed.iter().cloned().chain(width).collect();
        if words.is_empty() { "unknown".to_owned() } else { words.join(" ") }
    };
    let (now, most) = (speed(&link.speed, link.width), speed(&link.max_speed, link.max_width));
    if now == most { now } else { format!("{now}, possible {most}") }
}

fn of_role(role: SrIovRole) -> String {
    match role {
        SrIovRole::Physical { total, number } => {
            format!("physical function, {number} of {total} virtual ones")
        }
        SrIovRole::Virtual { of } => format!("virtual function of {of}"),
    }
}

fn joined(addresses: &[pci::Address]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

fn region(region: &Region) -> (&'static str, String) {
    const LABELS: [&str; 6] = ["BAR 0", "BAR 1", "BAR 2", "BAR 3", "BAR 4", "BAR 5"];
    let label = LABELS.get(usize::from(region.index)).copied().unwrap_or("ROM");
    let kind = match region.kind {
        RegionKind::Io => "I/O ports",
        RegionKind::Memory32 => "32-bit memory",
        RegionKind::Memory64 => "64-bit memory",
        RegionKind::Rom => "expansion ROM",
    };
    let prefetchable = if region.prefetchable { ", prefetchable" } else { "" };
    let place = match region.start {
        0 => "unassigned".to_owned(),
        start => format!("at {start:#x}"),
    };
    (label, format!("{kind}{prefetchable}, {} {place}", super::size(region.size)))
}
