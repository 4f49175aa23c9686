//! Which modules drive a function.

use std::collections::BTreeSet;

use host::modules::Modules;
use host::{ReadError, Sysroot};

use super::boot::Wanted;

/// Where modprobe's configuration is (modprobe.d(5)).
const CONFIGURATION: [&str; 5] = [
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];

/// Disks behind a SCSI or ATA controller need a driver of their own, which no PCI function names.
const DISKS: &str = "sd_mod";

/// What was chosen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// For each function the modules that say that they drive it, those that are built in too.
    pub(super) drivers: Vec<Vec<String>>,
    /// What to load, without what that needs.
    pub(super) load: Vec<String>,
}

/// Chooses as udev would: every module that says that it drives the function. Modules that the
/// host keeps from being loaded by themselves, framebuffer drivers mostly, are left out where
/// others remain; where none would remain, the host has given the card away, not the driver up.
pub(super) fn choose(
    host: &Sysroot,
    modules: &Modules,
    wanted: &[Wanted],
) -> Result<Choice, ReadError> {
    let blacklist = blacklist(host)?;
    let mut choice = Choice { drivers: Vec::new(), load: Vec::new() };
    for wanted in wanted {
        let mut drivers = modules.matching(&wanted.modalias);
        drivers.retain(|name| modules.has(name));
        if drivers.iter().any(|name| !blacklist.contains(*name)) {
            drivers.retain(|name| !blacklist.contains(*name));
        }
        choice.load.extend(drivers.iter().map(|name| (*name).to_owned()));
        if is_disk_controller(&wanted.modalias) && modules.has(DISKS) {
            choice.load.push(DISKS.to_owned());
        }
        choice.drivers.push(drivers.into_iter().map(str::to_owned).collect());
    }
    let mut seen = BTreeSet::new();
    choice.load.retain(|name| !modules.is_built_in(name) && seen.insert(name.clone()));
    Ok(choice)
}

/// Mass storage, but for NVMe, whose driver makes its disks itself.
fn is_disk_controller(modalias: &str) -> bool {
    let class = modalias.split_once("bc").map(|(_, class)| class);
    class.is_some_and(|class| class.starts_with("01") && !class.starts_with("01sc08"))
}

fn blacklist(host: &Sysroot) -> Result<BTreeSet<String>, ReadError> {
    let mut names = BTreeSet::new();
    for dir in CONFIGURATION {
        for file in host.optional_names(dir)? {
            if !file.ends_with(".conf") {
                continue;
            }
            let Some(text) = host.optional_text(format!("{dir}/{file}"))? else { continue };
            for line in text.lines() {
                let mut words = line.split_whitespace();
                if let (Some("blacklist"), Some(name)) = (words.next(), words.next()) {
                    names.insert(name.replace('-', "_"));
                }
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const ALIAS: &str = "\
alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias pci:v000010DEd*sv*sd*bc03sc*i* nouveau
alias pci:v000010DEd*sv*sd*bc03sc*i* nvidiafb
alias pci:v00001002d*sv*sd*bc03sc*i* radeon
alias pci:v00001AF4d*sv*sd*bc*sc*i* gone
";

    fn case(modaliases: &[&str]) -> Choice {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let dep: String = ["e1000e", "nouveau", "nvidiafb", "radeon", "sd_mod"]
            .map(|name| format!("kernel/{name}.ko:\n"))
            .concat();
        put("lib/modules/6/modules.dep", &dep);
        put("lib/modules/6/modules.alias", ALIAS);
        put("lib/modules/6/modules.builtin", "kernel/drivers/ata/ahci.ko\n");
        put("etc/modprobe.d/fb.conf", "# no\nblacklist nvidiafb\n blacklist radeon\n");
        put("etc/modprobe.d/fb.txt", "blacklist e1000e\n");
        let host = Sysroot::at(dir.path()).unwrap();
        let modules = Modules::read(&host, Path::new("/lib/modules/6")).unwrap();
        let wanted = modaliases
            .iter()
            .map(|modalias| Wanted { name: String::new(), modalias: (*modalias).to_owned() });
        choose(&host, &modules, &wanted.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn drivers_are_chosen() {
        const NIC: &str = "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00";
        const AHCI: &str = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01";
        const NVIDIA: &str = "pci:v000010DEd00000640sv00000000sd00000000bc03sc00i00";
        const RADEON: &str = "pci:v00001002d000068C8sv00000000sd00000000bc03sc00i00";
        const EDU: &str = "pci:v00001234d000011E8sv00001AF4sd00001100bc00scFFi00";
        const GONE: &str = "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00";
        for (modalias, drivers, load) in [
            (NIC, &["e1000e"][..], &["e1000e"][..]),
            (AHCI, &["ahci"], &["sd_mod"]),
            (NVIDIA, &["nouveau"], &["nouveau"]),
            // Blacklisted, as guides to passthrough advise, but the card's only driver.
            (RADEON, &["radeon"], &["radeon"]),
            (EDU, &[], &[]),
            (GONE, &[], &[]),
        ] {
            let choice = case(&[modalias]);
            assert_eq!(choice.drivers, [drivers], "{modalias}");
            assert_eq!(choice.load, load, "{modalias}");
        }
        let both = case(&[NIC, AHCI, NIC]);
        assert_eq!(both.load, ["e1000e", "sd_mod"]);
        assert_eq!(both.drivers.len(), 3);
    }
}
