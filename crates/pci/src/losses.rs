//! What the host would lose with some functions, in words: whether or not it refuses them.

use ::host::Measured;

use crate::Address;
use crate::refusal::{network, storage};
use crate::uses::{Disk, InputKind, Interface, Uses};

/// How much found on one disk is listed.
const MOST_LISTED: usize = 6;

/// Returns what the host would lose with `functions`, each in a line; what could not be read is a
/// line too.
pub fn losses(uses: &Uses, functions: &[Address]) -> Vec<String> {
    let mut lines = Vec::new();
    let needs = |needed: &[Address]| needed.iter().any(|one| functions.contains(one));
    match &uses.displays {
        Measured::Known(displays) => {
            for display in displays.iter().filter(|display| needs(&display.functions)) {
                if display.is_boot_vga == Some(true) {
                    lines.push("the display that the firmware chose for the boot".to_owned());
                }
                if let Some(name) = &display.boot_framebuffer {
                    lines.push(format!("the picture of the boot ({name})"));
                }
                for screen in display.screens.known().into_iter().flatten() {
                    let monitor = screen.monitor.as_deref().unwrap_or("a screen");
                    lines.push(format!("{monitor} on {} will go dark", screen.connector));
                }
            }
        }
        Measured::Unmeasured { unmeasured } => lines.push(unread("displays", unmeasured)),
    }
    match &uses.storage {
        Measured::Known(storage) => {
            for disk in storage.behind(functions) {
                lines.extend(of_disk(disk));
            }
        }
        Measured::Unmeasured { unmeasured } => lines.push(unread("disks", unmeasured)),
    }
    match &uses.network {
        Measured::Known(network) => {
            for interface in network.behind(functions) {
                lines.push(of_interface(interface));
            }
        }
        Measured::Unmeasured { unmeasured } => lines.push(unread("networks", unmeasured)),
    }
    match &uses.inputs {
        Measured::Known(inputs) => {
            for input in inputs.iter().filter(|input| needs(&input.functions)) {
                let kind = match input.kind {
                    InputKind::Keyboard => "keyboard",
                    InputKind::Pointer => "pointing device",
                };
                lines.push(format!("{kind} {}", input.name));
            }
        }
        Measured::Unmeasured { unmeasured } => lines.push(unread("keyboards", unmeasured)),
    }
    lines
}

fn unread(what: &str, why: &str) -> String {
    format!("{what}: unmeasured: {why}")
}

fn of_disk(disk: &Disk) -> Vec<String> {
    let description = storage::description(disk);
    let uses = match &disk.uses {
        Measured::Known(uses) => uses,
        Measured::Unmeasured { unmeasured } => return vec![unread(&description, unmeasured)],
    };
    if !uses.is_empty() {
        let ways = uses.iter().map(|one| storage::way(one).1);
        return ways.map(|way| format!("disk {description}: {way}")).collect();
    }
    let contents = match &disk.contents {
        Measured::Known(contents) if contents.is_empty() => "nothing on it".to_owned(),
        Measured::Known(contents) => {
            let listed = contents.iter().take(MOST_LISTED).map(ToString::to_string);
            format!("not in use, with {}", listed.collect::<Vec<_>>().join(", "))
        }
        Measured::Unmeasured { unmeasured } => {
            format!("not in use; what is on it is unmeasured: {unmeasured}")
        }
    };
    vec![format!("disk {description}: {contents}")]
}

fn of_interface(interface: &Interface) -> String {
    let name = &interface.name;
    let uses: Vec<_> = interface
        .uses
        .iter()
        .map(|one| {
            let way: Vec<_> = one.way.iter().skip(1).cloned().collect();
            let purpose = network::in_words(&one.purpose);
            way.into_iter().chain([purpose]).collect::<Vec<_>>().join(" → ")
        })
        .collect();
    let state = if interface.is_up { "up" } else { "down" };
    if uses.is_empty() {
        let above = interface.above.iter().map(|way| way.join(" → ")).collect::<Vec<_>>();
        let above =
            if above.is_empty() { String::new() } else { format!(": {}", above.join(", ")) };
        return format!("network {name}, which is {state}{above}");
    }
    format!("network {name}: {}", uses.join("; "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use testkit::tree::{Function, Tree};

    use super::*;
    use crate::Host;
    use crate::uses::Scope;

    const CARD: &str = "0000:00:03.0";

    fn lost(tree: &Tree) -> Vec<String> {
        let sysroot = tree.sysroot();
        let host = Host::read(&sysroot).unwrap();
        let functions: Vec<Address> = vec![CARD.parse().unwrap()];
        let examined = BTreeSet::from_iter(functions.iter().copied());
        losses(&Uses::read(&sysroot, &host, &Scope { examined, session: None }), &functions)
    }

    #[test]
    fn everything_that_hangs_on_a_card_is_named() {
        let mut tree = Tree::new();
        tree.add(Function::new(CARD, 0x8086, 0x10d3).class(0x03_0000).attribute("boot_vga", "1\n"));
        assert_eq!(lost(&tree), ["the display that the firmware chose for the boot"]);
        tree.connector(CARD, "card0", "DP-1", true);
        tree.monitor("card0", "DP-1", "DELL U2412");
        tree.disk(CARD, "sda", 1 << 20);
        tree.interface(CARD, "eth0", true);
        tree.upper_interface("br0", &["eth0"]);
        tree.route("br0", [0; 4], [10, 0, 0, 1], [0; 4]);
        tree.keyboard(Some(CARD), "A keyboard");
        assert_eq!(
            lost(&tree)[1..],
            [
                "DELL U2412 on DP-1 will go dark",
                "disk sda (A disk, serial SERIAL-sda, 1.0 MB): nothing on it",
                "network eth0: br0 → the default route",
                "keyboard A keyboard",
            ]
        );
        tree.mount(&tree.block_number("sda"), "/srv", "ext4", "/dev/sda");
        assert!(lost(&tree)[2].ends_with(": sda → /srv"));
        tree.unreadable("/proc/bus/input/devices");
        assert!(lost(&tree)[4].starts_with("keyboards: unmeasured: "));
    }
}
