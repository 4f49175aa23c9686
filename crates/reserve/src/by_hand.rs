//! What a person reserved before, in other ways: two ways at once are one too many, since the
//! kernel's command line silently beats modprobe.d, and ids take twins.

use std::path::PathBuf;

use host::{ReadError, Sysroot};
use pci::{Function, Host};
use serde::Serialize;

use crate::boot::Clue;
use crate::config::{modprobe, words};

/// Where driverctl keeps its overrides, a file for each address.
const DRIVERCTL: &str = "/etc/driverctl.d";

/// How a function is reserved by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ByHand {
    /// By ids on the kernel's command line.
    CommandLine,
    /// By ids in modprobe.d.
    Modprobe,
    /// By driverctl.
    Driverctl,
}

/// Finds how these functions are reserved already, by whatever but us.
///
/// # Errors
/// A file cannot be read.
pub fn find(
    host: &Sysroot,
    functions: &Host,
    addresses: &[pci::Address],
) -> Result<Vec<Clue<ByHand>>, ReadError> {
    let mut clues = Vec::new();
    let functions: Vec<_> =
        addresses.iter().filter_map(|address| functions.function(*address)).collect();
    let taken = |ids: &str| functions.iter().any(|function| takes(ids, function));
    let line = host.optional_text("/proc/cmdline")?.unwrap_or_default();
    for name in ["vfio-pci.ids", "pci-stub.ids"] {
        if let Some(ids) = words::value(&line, name).filter(|ids| taken(ids)) {
            clues.push(Clue::new(ByHand::CommandLine, "/proc/cmdline", format!("{name}={ids}")));
        }
    }
    for command in modprobe::read(host)? {
        if command.is_about("options", "vfio-pci")
            && let Some(ids) = command.option("ids").filter(|ids| taken(ids))
        {
            let what = format!("line {}: ids={ids}", command.line);
            clues.push(Clue::new(ByHand::Modprobe, &command.path, what));
        }
    }
    for name in host.optional_names(DRIVERCTL)? {
        let Some(address) = name.strip_prefix("pci-").and_then(pci::Address::of_sysfs) else {
            continue;
        };
        if addresses.contains(&address) {
            let path = PathBuf::from(format!("{DRIVERCTL}/{name}"));
            let driver = host.optional_text(&path)?.unwrap_or_default();
            clues.push(Clue::new(ByHand::Driverctl, path, driver));
        }
    }
    Ok(clues)
}

/// Whether a list of ids takes a function: `vendor:device[:subvendor[:subdevice[:class[:mask]]]]`,
/// hex numbers between commas (drivers/vfio/pci/vfio_pci.c, vfio_pci_fill_ids). What ids beyond the
/// first two narrow is not looked at: the list is about such cards all the same.
fn takes(ids: &str, function: &Function) -> bool {
    let number = |text: &str| u16::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    ids.split(',').any(|one| {
        let mut parts = one.split(':').map(number);
        parts.next() == Some(Some(function.ids.vendor))
            && parts.next() == Some(Some(function.ids.device))
    })
}

#[cfg(test)]
mod tests {
    use testkit::tree::{Function as Fake, Tree};

    use super::*;

    #[test]
    fn every_way_is_found() {
        let mut tree = Tree::new();
        tree.add(Fake::new("0000:01:00.0", 0x1002, 0x68c8));
        tree.write("/proc/cmdline", "quiet vfio_pci.ids=10de:1:2:3,1002:68C8:1043\n");
        tree.write("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=1002:68c8\n");
        tree.write("/etc/modprobe.d/other.conf", "options vfio-pci ids=1002:68c9\n");
        tree.write("/etc/driverctl.d/pci-0000:01:00.0", "vfio-pci\n");
        let host = tree.sysroot();
        let functions = Host::read(&host).unwrap();
        let clues = find(&host, &functions, &["01:00.0".parse().unwrap()]).unwrap();
        let ways: Vec<_> = clues.iter().map(|clue| clue.says).collect();
        assert_eq!(ways, [ByHand::CommandLine, ByHand::Modprobe, ByHand::Driverctl]);
        assert_eq!(clues[1].what, "line 1: ids=1002:68c8");
        let other = find(&host, &functions, &["02:00.0".parse().unwrap()]).unwrap();
        assert!(other.is_empty());
    }
}
