//! What a person reserved before, in other ways: two ways at once are one too many, since the
//! kernel's command line silently beats modprobe.d, and ids take twins.

use std::path::PathBuf;

use host::{ReadError, Sysroot};
use pci::{Function, Host};
use serde::Serialize;

use crate::boot::{Clue, entries};
use crate::config::{modprobe, words};
use crate::plan::{Contents, Plan};

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
    // That of the next boot may say what this one's does not say yet.
    let running = host.optional_text("/proc/cmdline")?.unwrap_or_default();
    let mut lines = vec![(PathBuf::from("/proc/cmdline"), running)];
    let entries = entries::read(host)?.into_iter().filter(|entry| !entry.is_fallback());
    lines.extend(entries.map(|entry| (entry.source, entry.options)));
    for name in ["vfio-pci.ids", "pci-stub.ids"] {
        for (path, line) in &lines {
            let Some(ids) = words::value(line, name).filter(|ids| taken(ids)) else { continue };
            let what = format!("{name}={ids}");
            if clues.iter().all(|clue: &Clue<_>| clue.what != what) {
                clues.push(Clue::new(ByHand::CommandLine, path, what));
            }
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

/// What reserves functions by hand cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// A file cannot be read.
    #[error("what is reserved by hand cannot be read")]
    Read(#[from] ReadError),
    /// It holds for other cards too, which would lose it.
    #[error("{}: {what} holds for other cards too", path.display())]
    Others {
        /// Where.
        path: PathBuf,
        /// What it says.
        what: String,
    },
    /// It is not the administrator's.
    #[error("{} is not of this host's own configuration", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

/// What has to go for the list of reservations to take over from what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adoption {
    /// The words of the command line.
    pub words: Vec<String>,
    /// Files of modprobe.d that lose their `ids` for vfio-pci.
    pub modprobe: Vec<PathBuf>,
    /// Files of driverctl.
    pub driverctl: Vec<PathBuf>,
}

impl Adoption {
    /// Finds what has to go for these functions, which will be reserved by us.
    ///
    /// # Errors
    /// It cannot go without another card's losing its reservation.
    pub fn of(
        host: &Sysroot,
        functions: &Host,
        addresses: &[pci::Address],
    ) -> Result<Self, AdoptError> {
        let mut adoption = Self::default();
        for clue in find(host, functions, addresses)? {
            let ids = clue.what.split_once("ids=").map_or("", |(_, ids)| ids);
            let is_only_ours = ids.split(',').all(|one| is_only(one, functions, addresses));
            if clue.says != ByHand::Driverctl && !is_only_ours {
                return Err(AdoptError::Others { path: clue.path, what: clue.what });
            }
            match clue.says {
                ByHand::CommandLine => adoption.words.push(clue.what),
                ByHand::Modprobe if !clue.path.starts_with("/etc") => {
                    return Err(AdoptError::Foreign { path: clue.path });
                }
                ByHand::Modprobe => adoption.modprobe.push(clue.path),
                ByHand::Driverctl => adoption.driverctl.push(clue.path),
            }
        }
        adoption.modprobe.dedup();
        Ok(adoption)
    }

    /// Adds to a plan the files that change.
    ///
    /// # Errors
    /// One cannot be read.
    pub(crate) fn plan(&self, host: &Sysroot, plan: &mut Plan) -> Result<(), ReadError> {
        for path in &self.modprobe {
            let Some(before) = plan.contents(host, path)? else { continue };
            let text = String::from_utf8_lossy(&before.bytes);
            let text = modprobe::without_option(&text, "vfio-pci", "ids");
            let is_left = !text.trim().is_empty();
            let after = Contents { bytes: text.into_bytes(), mode: before.mode };
            plan.file(host, path, is_left.then_some(after))?;
        }
        for path in &self.driverctl {
            plan.file(host, path, None)?;
        }
        Ok(())
    }
}

/// Whether one of the ids takes none but these functions.
fn is_only(ids: &str, functions: &Host, addresses: &[pci::Address]) -> bool {
    let taken: Vec<_> = functions.functions().filter(|function| takes(ids, function)).collect();
    !taken.is_empty() && taken.iter().all(|function| addresses.contains(&function.address))
}

/// The virtual machines of libvirt that are given one of these functions, by name: its daemon takes
/// the card from whoever has it when such a machine starts (formatdomain, "hostdev").
///
/// # Errors
/// A description cannot be read; without root's rights, none can.
pub fn libvirt(host: &Sysroot, addresses: &[pci::Address]) -> Result<Vec<String>, ReadError> {
    const MACHINES: &str = "/etc/libvirt/qemu";
    let mut found = Vec::new();
    for name in host.optional_names(MACHINES)? {
        let Some(machine) = name.strip_suffix(".xml") else { continue };
        let text = host.optional_text(format!("{MACHINES}/{name}"))?.unwrap_or_default();
        let text = text.replace('"', "'");
        let sources = text.split("<hostdev").skip(1).filter_map(|device| {
            let source = device.split_once("<source>")?.1;
            source.split_once("</source>").map(|(source, _)| source)
        });
        let mut given = sources.filter_map(address);
        if given.any(|address| addresses.contains(&address)) {
            found.push(machine.to_owned());
        }
    }
    Ok(found)
}

/// The address in an element `<address domain='0x0000' bus='0x29' slot='0x00' function='0x0'/>`.
fn address(source: &str) -> Option<pci::Address> {
    let number = |name: &str| {
        let (_, rest) = source.split_once(&format!("{name}='0x"))?;
        u32::from_str_radix(rest.split('\'').next()?, 16).ok()
    };
    let small = |name| u8::try_from(number(name)?).ok();
    pci::Address::new(number("domain")?, small("bus")?, small("slot")?, small("function")?)
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

        // What only the next boot has.
        tree.write("/proc/cmdline", "quiet\n");
        let entry = "/boot/loader/entries/linux.conf";
        tree.write(entry, "linux /vmlinuz\noptions root=a vfio-pci.ids=1002:68c8\n");
        let clues = find(&host, &functions, &["01:00.0".parse().unwrap()]).unwrap();
        assert_eq!((clues[0].says, clues[0].path.to_str()), (ByHand::CommandLine, Some(entry)));
    }

    #[test]
    fn what_is_only_about_these_functions_can_be_taken_over() {
        let mut tree = Tree::new();
        tree.add(Fake::new("0000:01:00.0", 0x1002, 0x68c8));
        tree.add(Fake::new("0000:02:00.0", 0x1002, 0x68c9));
        tree.write("/proc/cmdline", "quiet vfio-pci.ids=1002:68c8\n");
        tree.write("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=1002:68c8\n");
        tree.write("/etc/driverctl.d/pci-0000:01:00.0", "vfio-pci\n");
        let host = tree.sysroot();
        let functions = Host::read(&host).unwrap();
        let address = "01:00.0".parse().unwrap();
        let adoption = Adoption::of(&host, &functions, &[address]).unwrap();
        assert_eq!(adoption.words, ["vfio-pci.ids=1002:68c8"]);
        let mut plan = Plan::default();
        adoption.plan(&host, &mut plan).unwrap();
        let gone: Vec<_> = plan.files.iter().map(|file| file.after.is_none()).collect();
        assert_eq!(gone, [true, true]);

        tree.write("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=1002:68c8,1002:68c9\n");
        let error = Adoption::of(&host, &functions, &[address]).unwrap_err();
        assert!(matches!(error, AdoptError::Others { .. }), "{error}");
        tree.write("/etc/modprobe.d/vfio.conf", "");
        tree.write("/usr/lib/modprobe.d/v.conf", "options vfio-pci ids=1002:68c8\n");
        let error = Adoption::of(&host, &functions, &[address]).unwrap_err();
        assert!(matches!(error, AdoptError::Foreign { .. }), "{error}");

        // Another card just like it, which the person reserved as well.
        tree.remove("/usr/lib/modprobe.d/v.conf");
        tree.add(Fake::new("0000:03:00.0", 0x1002, 0x68c8));
        let functions = Host::read(&host).unwrap();
        let error = Adoption::of(&host, &functions, &[address]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/proc/cmdline: vfio-pci.ids=1002:68c8 holds for other cards too"
        );
    }

    #[test]
    fn machines_of_libvirt_are_found() {
        let tree = Tree::new();
        let address =
            |bus| format!("<address domain='0x0000' bus='0x{bus}' slot='0x00' function='0x1'/>");
        let machine = |bus| {
            format!(
                "<domain><devices><hostdev mode='subsystem' type='pci' managed='yes'>\n<source>\n{}\n\
                 </source>{}</hostdev></devices></domain>",
                address(bus),
                address("04")
            )
        };
        tree.write("/etc/libvirt/qemu/haiku.xml", machine("29"));
        tree.write("/etc/libvirt/qemu/other.xml", machine("2a").replace('\'', "\""));
        tree.write("/etc/libvirt/qemu/networks/default.xml", "");
        let found = |text: &str| libvirt(&tree.sysroot(), &[text.parse().unwrap()]).unwrap();
        assert_eq!(found("29:00.1"), ["haiku"]);
        assert_eq!(found("2a:00.1"), ["other"]);
        assert!(found("04:00.1").is_empty());
    }
}
