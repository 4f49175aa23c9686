//! Which PCI functions a device of the host hangs on, told from its place in the device tree.

use std::path::Path;

use crate::Address;

/// Returns the PCI functions on a path of the device tree, the nearest first.
///
/// A path such as `../../devices/pci0000:00/0000:00:1d.0/0000:03:00.0/nvme/nvme0/nvme0n1` leads
/// through all that the device needs: its controller, and the bridges and controllers above it.
pub(crate) fn functions_on(path: &Path) -> Vec<Address> {
    path.components()
        .rev()
        .filter_map(|part| Address::of_sysfs(part.as_os_str().to_str()?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_comes_first() {
        for (path, expected) in [
            (
                "../../devices/pci0000:00/0000:00:1d.0/0000:03:00.0/nvme/nvme0/nvme0n1",
                vec!["0000:03:00.0", "0000:00:1d.0"],
            ),
            // Behind a controller with a domain of its own.
            (
                "../../devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0/nvme",
                vec!["10000:e1:00.0", "10000:e0:06.0", "0000:00:0e.0"],
            ),
            ("../../devices/platform/i8042/serio0/input/input3", vec![]),
            // A serial port, whose name a person could mean as an address.
            ("../../devices/pnp0/00:02/00:02:0/00:02:0.0/tty/ttyS1", vec![]),
            (
                "../../devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda",
                vec!["0000:00:1f.2"],
            ),
        ] {
            let found: Vec<_> =
                functions_on(Path::new(path)).iter().map(Address::to_string).collect();
            assert_eq!(found, expected);
        }
    }
}
