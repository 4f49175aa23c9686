//! Whether a driver is one that gives functions to VFIO.
//!
//! Beside vfio-pci there are variants made for certain cards (mlx5_vfio_pci, nvgrace_gpu_vfio_pci,
//! xe_vfio_pci and so on), and new ones with each kernel. What they have in common is not a name
//! but what they do: they register each function with VFIO.

use std::path::Path;

use host::{Measured, ReadError, Sysroot};
use pci::{Address, Function};

use crate::take::VFIO_PCI;

/// The modules without which there is no VFIO driver for PCI: each uses one of them. (The second
/// is the first's name before Linux 5.16 split it in two, and the third what both use.)
const CORES: [&str; 3] = ["vfio_pci_core", "vfio_pci", "vfio"];

/// Returns whether `driver`, to which the function is bound, gives it to VFIO.
///
/// Since Linux 6.1 a function that is registered with VFIO has a directory `vfio-dev`
/// (drivers/vfio/vfio_main.c, vfio_init_device). On an earlier kernel the driver's module tells by
/// the modules that it uses.
///
/// # Errors
/// sysfs cannot be read.
pub fn is_vfio(
    host: &Sysroot,
    address: Address,
    driver: &str,
) -> Result<Measured<bool>, ReadError> {
    if driver == VFIO_PCI || !host.optional_names(vfio_dev(address))?.is_empty() {
        return Ok(Measured::Known(true));
    }
    // Where the kernel makes these directories, it makes the class of what is in them.
    let shows = host.exists("/sys/class/vfio-dev");
    // Being a module with a version, VFIO shows this built in, too.
    if shows || !host.exists("/sys/module/vfio") {
        return Ok(Measured::Known(false));
    }
    let users = CORES.map(|core| format!("/sys/module/{core}/holders"));
    if !users.iter().any(|users| host.exists(users)) {
        return Ok(Measured::unmeasured(format!(
            "VFIO is a part of this kernel, which does not tell whether {driver} uses it: Linux \
             6.1 does"
        )));
    }
    // What is built in uses no module.
    let module = host.link_name(format!("/sys/bus/pci/drivers/{driver}/module"))?;
    let uses =
        |module: &String| users.iter().any(|users| host.exists(Path::new(users).join(module)));
    Ok(Measured::Known(module.as_ref().is_some_and(uses)))
}

/// The directory of what a function is registered with VFIO as.
pub(crate) fn vfio_dev(address: Address) -> String {
    format!("{}/vfio-dev", Function::path(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::tree::{self, Tree};

    const CARD: &str = "0000:01:00.0";

    fn measured(driver: &str, prepare: impl Fn(&Tree)) -> Measured<bool> {
        let mut tree = Tree::new();
        tree.add(tree::Function::new(CARD, 0x15b3, 0x101e).driver(driver));
        prepare(&tree);
        is_vfio(&tree.sysroot(), CARD.parse().unwrap(), driver).unwrap()
    }

    /// Makes the driver's module known, and what it uses.
    fn module(tree: &Tree, driver: &str, module: &str, used: &str) {
        tree.write(&format!("/sys/module/{module}/initstate"), "live\n");
        tree.link(
            &format!("/sys/bus/pci/drivers/{driver}/module"),
            &format!("/sys/module/{module}"),
        );
        tree.link(
            &format!("/sys/module/{used}/holders/{module}"),
            &format!("/sys/module/{module}"),
        );
    }

    #[test]
    fn the_function_tells_where_the_kernel_is_new_enough() {
        let registered = |tree: &Tree| {
            tree.write("/sys/module/vfio/version", "0.3\n");
            tree.directory("/sys/class/vfio-dev");
            tree.directory(&format!("/sys/bus/pci/devices/{CARD}/vfio-dev/vfio0"));
        };
        assert_eq!(measured("mlx5_vfio_pci", registered), Measured::Known(true));
        // A name is no evidence, in either direction.
        assert_eq!(measured("some-card-live-migration", registered), Measured::Known(true));
        let not_registered = |tree: &Tree| {
            tree.write("/sys/module/vfio/version", "0.3\n");
            tree.directory("/sys/class/vfio-dev");
        };
        assert_eq!(measured("not_vfio_pci", not_registered), Measured::Known(false));
        assert_eq!(measured("mlx5_core", not_registered), Measured::Known(false));
    }

    #[test]
    fn on_an_earlier_kernel_its_module_tells() {
        let known = |driver: &'static str, name: &'static str, core: &'static str| {
            measured(driver, |tree| {
                tree.write("/sys/module/vfio/version", "0.3\n");
                tree.directory("/sys/module/vfio/holders");
                module(tree, driver, name, core);
            })
        };
        let yes = Measured::Known(true);
        assert_eq!(known("mlx5_vfio_pci", "mlx5_vfio_pci", "vfio_pci_core"), yes);
        assert_eq!(known("odd", "odd_module", "vfio"), yes);
        assert_eq!(known("e1000e", "e1000e", "mdio"), Measured::Known(false));
        // Built into a kernel that has VFIO as a module.
        let built_in = measured("ahci", |tree| {
            tree.write("/sys/module/vfio/version", "0.3\n");
            tree.directory("/sys/module/vfio/holders");
        });
        assert_eq!(built_in, Measured::Known(false));
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_unmeasured() {
        let built_in = |tree: &Tree| tree.write("/sys/module/vfio/version", "0.3\n");
        assert!(measured("mlx5_vfio_pci", built_in).known().is_none());
        assert_eq!(measured("vfio-pci", built_in), Measured::Known(true));
        assert_eq!(measured("mlx5_vfio_pci", |_| {}), Measured::Known(false), "there is no VFIO");
    }
}
