//! Keyboards and mice, and the controllers that they hang on.

use std::path::Path;

use ::host::{Measured, Sysroot};
use serde::Serialize;

use super::device::functions_on;
use crate::Address;

/// All input devices in one file (drivers/input/input.c, input_devices_seq_show).
const DEVICES: &str = "/proc/bus/input/devices";
/// Event codes (include/uapi/linux/input-event-codes.h).
const EV_REL: usize = 2;
const EV_ABS: usize = 3;
const BTN_LEFT: usize = 0x110;
const BTN_TOUCH: usize = 0x14a;

/// What a person does with an input device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    /// Types.
    Keyboard,
    /// Points.
    Pointer,
}

/// A keyboard or pointing device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: InputKind,
    /// The PCI functions that it needs, the nearest first; none for one that needs none, such as a
    /// laptop's own.
    pub functions: Vec<Address>,
}

/// Reads all keyboards and pointing devices of hardware. What a program makes up counts for
/// nothing: it types no better than the hardware behind it.
pub(super) fn read(host: &Sysroot) -> Measured<Vec<Input>> {
    Measured::from(host.text(DEVICES)).map(|text| text.split("\n\n").filter_map(input).collect())
}

fn input(block: &str) -> Option<Input> {
    let value = |prefix: &str| block.lines().find_map(|line| line.strip_prefix(prefix));
    let path = value("S: Sysfs=")?;
    if path.starts_with("/devices/virtual/") {
        return None;
    }
    let has = |prefix, bit| value(prefix).is_some_and(|bits| bit_of(bits, bit));
    // As udev has it: all of the first block of keys, from Esc to S (udev-builtin-input_id.c).
    let is_keyboard = (1..=31).all(|key| has("B: KEY=", key));
    let moves = has("B: EV=", EV_REL) && has("B: KEY=", BTN_LEFT)
        || has("B: EV=", EV_ABS) && has("B: KEY=", BTN_TOUCH);
    let kind = match (is_keyboard, moves) {
        (true, _) => InputKind::Keyboard,
        (false, true) => InputKind::Pointer,
        (false, false) => return None,
    };
    let name = value("N: Name=").unwrap_or_default().trim_matches('"');
    Some(Input {
        name: name.chars().filter(|char| !char.is_control()).collect(),
        kind,
        functions: functions_on(Path::new(path)),
    })
}

/// Whether a bit is set in a bitmap that is written in words of 64 bits, the highest first.
fn bit_of(bitmap: &str, bit: usize) -> bool {
    let word = bitmap.split_whitespace().rev().nth(bit / 64);
    word.and_then(|word| u64::from_str_radix(word, 16).ok())
        .is_some_and(|word| word >> (bit % 64) & 1 != 0)
}

#[cfg(test)]
mod tests {
    use testkit::tree::Tree;

    use super::*;

    const KEYBOARD: &str = "\
I: Bus=0003 Vendor=046d Product=c31c Version=0110
N: Name=\"Logitech USB Keyboard\"
S: Sysfs=/devices/pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0/0003:046D:C31C.0001/input/input5
H: Handlers=sysrq kbd leds event4
B: EV=120013
B: KEY=1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe

";
    const MOUSE: &str = "\
N: Name=\"A mouse\"
S: Sysfs=/devices/pci0000:00/0000:00:1a.0/usb2/2-1/input/input6
B: EV=17
B: KEY=ff0000 0 0 0 0
B: REL=903

";
    const POWER_BUTTON: &str = "\
N: Name=\"Power Button\"
S: Sysfs=/devices/LNXSYSTM:00/LNXPWRBN:00/input/input0
H: Handlers=kbd event0
B: EV=3
B: KEY=10000000000000 0

";

    #[test]
    fn tells_keyboards_from_buttons() {
        let tree = Tree::new();
        let made_up = KEYBOARD.replace("/devices/pci0000:00/0000:00:14.0", "/devices/virtual");
        let laptop =
            KEYBOARD.replace("/devices/pci0000:00/0000:00:14.0/usb1", "/devices/platform/i8042");
        tree.write(DEVICES, format!("{POWER_BUTTON}{KEYBOARD}{MOUSE}{made_up}{laptop}"));
        let inputs = read(&tree.sysroot()).known().unwrap().clone();
        let brief: Vec<_> = inputs
            .iter()
            .map(|input| (input.kind, input.functions.first().map(Address::to_string)))
            .collect();
        assert_eq!(
            brief,
            [
                (InputKind::Keyboard, Some("0000:00:14.0".to_owned())),
                (InputKind::Pointer, Some("0000:00:1a.0".to_owned())),
                (InputKind::Keyboard, None),
            ]
        );
        assert_eq!(inputs[0].name, "Logitech USB Keyboard");
        tree.remove(DEVICES);
        assert!(read(&tree.sysroot()).known().is_none());
    }
}
