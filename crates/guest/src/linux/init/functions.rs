//! Finds the functions of the plan in the guest, and what their drivers made of them.

use host::{ReadError, Sysroot};
use pci::{Address, DEVICES};

use crate::linux::plan::Expected;

/// Returns where each function is. Functions that look alike are taken in the order of their
/// addresses.
pub(super) fn find(
    host: &Sysroot,
    expected: &[Expected],
) -> Result<Vec<Option<Address>>, ReadError> {
    let mut there: Vec<(Address, String)> = Vec::new();
    for name in host.names(DEVICES)? {
        let Some(address) = Address::of_sysfs(&name) else { continue };
        there.push((address, host.text(format!("{DEVICES}/{name}/modalias"))?));
    }
    there.sort();
    let mut take = |wanted: &Expected| {
        let at = there.iter().position(|(_, modalias)| *modalias == wanted.modalias)?;
        Some(there.remove(at).0)
    };
    Ok(expected.iter().map(&mut take).collect())
}

/// Returns the network interfaces below a function.
pub(super) fn networks(host: &Sysroot, address: Address) -> Vec<String> {
    below(host, "/sys/class/net", address)
}

/// Returns the block devices below a function.
pub(super) fn blocks(host: &Sysroot, address: Address) -> Vec<String> {
    below(host, "/sys/block", address)
}

/// The links of a class lead into the tree of devices. What comes and goes meanwhile is left out.
fn below(host: &Sysroot, class: &str, address: Address) -> Vec<String> {
    let function = address.to_string();
    let is_below = |name: &String| {
        host.link(format!("{class}/{name}"))
            .is_ok_and(|target| target.iter().any(|part| part == function.as_str()))
    };
    host.optional_names(class).unwrap_or_default().into_iter().filter(is_below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_are_told_apart_by_their_order() {
        let dir = tempfile::tempdir().unwrap();
        for (name, modalias) in
            [("0000:02:00.0", "pci:nic"), ("0000:01:00.0", "pci:nic"), ("0000:00:00.0", "pci:host")]
        {
            let path = dir.path().join(DEVICES.trim_start_matches('/')).join(name);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("modalias"), modalias).unwrap();
        }
        let host = Sysroot::at(dir.path()).unwrap();
        let expected = ["pci:nic", "pci:nvme", "pci:nic", "pci:nic"].map(|modalias| Expected {
            name: String::new(),
            modalias: modalias.into(),
            drivers: Vec::new(),
        });
        let found = find(&host, &expected).unwrap();
        let found: Vec<_> = found.iter().map(|address| address.map(|a| a.to_string())).collect();
        let (first, second) = ("0000:01:00.0".to_owned(), "0000:02:00.0".to_owned());
        assert_eq!(found, [Some(first), None, Some(second), None]);
    }

    #[test]
    fn what_a_driver_made_is_found_in_the_tree_of_devices() {
        let dir = tempfile::tempdir().unwrap();
        let net = dir.path().join("sys/class/net");
        std::fs::create_dir_all(&net).unwrap();
        for (name, target) in [
            ("eth0", "../../devices/pci0000:00/0000:00:02.0/net/eth0"),
            ("lo", "../../devices/virtual/net/lo"),
        ] {
            std::os::unix::fs::symlink(target, net.join(name)).unwrap();
        }
        let host = Sysroot::at(dir.path()).unwrap();
        assert_eq!(networks(&host, "00:02.0".parse().unwrap()), ["eth0"]);
        assert!(networks(&host, "00:02.1".parse().unwrap()).is_empty());
        assert!(blocks(&host, "00:02.0".parse().unwrap()).is_empty());
    }
}
