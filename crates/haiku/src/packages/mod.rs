//! The packages in a Haiku volume: its kernel, and the add-ons that it has already.
//!
//! Packages are not unpacked: Haiku mounts those in `system/packages` and `home/config/packages`
//! (src/add-ons/kernel/file_systems/packagefs).

mod images;

use std::io;

use bfs::{NodeId, Reader, Storage, Volume};

use crate::hpkg::{EntryKind, HpkgError, Package, PackageSource};

pub use images::images;

/// Where the boot loader looks for the kernel (src/system/boot/loader/loader.cpp of Haiku).
const KERNEL: &[u8] = b"kernel_x86_64";
/// The kernel of an image for 32 bits.
const KERNEL_32: &[u8] = b"kernel_x86";
/// Bytes of a kernel; those of Haiku have about 2 MiB.
const LARGEST_KERNEL: u64 = 64 << 20;
/// Packages of a volume that are looked into; a full installation has a few hundred.
const MOST_PACKAGES: usize = 4096;

/// The packages of a volume cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// The volume cannot be read.
    #[error(transparent)]
    Volume(#[from] bfs::Error),
    /// A package cannot be read.
    #[error("the package `{name}` cannot be read")]
    Package {
        /// Its file.
        name: String,
        /// Why.
        #[source]
        source: HpkgError,
    },
    /// There is no package `haiku`.
    #[error("there is no package `haiku` in the volume")]
    NoHaiku,
    /// The package `haiku` is for 32 bits.
    #[error("the kernel of `{0}` is for 32 bits (x86 or x86_gcc2)")]
    Bits32(String),
    /// The package `haiku` has no kernel for this machine.
    #[error("the package `{0}` has no kernel for x86_64")]
    NoKernel(String),
}

/// A package's file in a volume.
#[derive(Debug)]
pub struct InVolume<'a, S> {
    volume: &'a mut Volume<S>,
    reader: Reader,
}

impl<S: Storage> PackageSource for InVolume<'_, S> {
    fn size(&mut self) -> io::Result<u64> {
        Ok(self.reader.size())
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.volume.read_on(&mut self.reader, offset, buffer) {
            Ok(length) if length == buffer.len() => Ok(()),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Where a package is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hierarchy {
    /// For everybody: `/boot/system`.
    System,
    /// For the user: `/boot/home/config`.
    Home,
}

impl Hierarchy {
    const ALL: [Self; 2] = [Self::System, Self::Home];

    /// The directory of its packages, from the volume's root.
    pub fn packages(self) -> &'static str {
        match self {
            Self::System => "system/packages",
            Self::Home => "home/config/packages",
        }
    }
}

/// A package that is installed in a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The name of its file.
    pub name: String,
    /// Where it is installed.
    pub hierarchy: Hierarchy,
    node: NodeId,
}

impl Found {
    /// Opens it.
    ///
    /// # Errors
    /// The volume or the package cannot be read.
    pub fn open<'a, S: Storage>(
        &self,
        volume: &'a mut Volume<S>,
    ) -> Result<Package<InVolume<'a, S>>, PackagesError> {
        let reader = volume.reader(self.node)?;
        Package::open(InVolume { volume, reader }).map_err(|error| self.broken(error))
    }

    fn broken(&self, source: HpkgError) -> PackagesError {
        PackagesError::Package { name: self.name.clone(), source }
    }
}

/// Lists the packages of a volume, by name.
///
/// # Errors
/// The volume cannot be read.
pub fn find<S: Storage>(volume: &mut Volume<S>) -> Result<Vec<Found>, PackagesError> {
    let mut found = Vec::new();
    for hierarchy in Hierarchy::ALL {
        let directory = match volume.lookup(hierarchy.packages().as_bytes()) {
            Err(bfs::Error::NotFound(_) | bfs::Error::NotADirectory(_)) => continue,
            other => other?,
        };
        for entry in volume.entries(directory)? {
            let entry = entry?;
            let Ok(name) = String::from_utf8(entry.name) else { continue };
            if name.ends_with(".hpkg") && found.len() < MOST_PACKAGES {
                found.push(Found { name, hierarchy, node: entry.node });
            }
        }
    }
    found.retain(|found| volume.metadata(found.node).is_ok_and(|m| m.kind == bfs::Kind::File));
    Ok(found)
}

/// Finds a package of the system by its name: `NAME.hpkg` or `NAME-VERSION.hpkg`, as the boot
/// loader does (src/system/boot/loader/package_support.cpp).
pub fn named<'f>(found: &'f [Found], name: &str) -> Option<&'f Found> {
    let fits = |found: &&Found| {
        found.hierarchy == Hierarchy::System
            && found.name.strip_prefix(name).is_some_and(|rest| {
                rest == ".hpkg" || rest.starts_with('-') && rest.ends_with(".hpkg")
            })
    };
    found.iter().rfind(fits)
}

/// Reads which revision of Haiku a volume has, such as `hrev57937_129`, from the version of its
/// package (`r1~beta5_hrev57937_129-1`, build/jam/PackageRules of Haiku). `None` where the version
/// has none.
///
/// # Errors
/// There is no package; the volume or the package cannot be read.
pub fn revision<S: Storage>(volume: &mut Volume<S>) -> Result<Option<String>, PackagesError> {
    let all = find(volume)?;
    let found = named(&all, "haiku").ok_or(PackagesError::NoHaiku)?;
    let about = found.open(volume)?.info().map_err(|error| found.broken(error))?;
    Ok(hrev(&about.version).map(str::to_owned))
}

fn hrev(version: &str) -> Option<&str> {
    let found = &version[version.find("hrev")?..];
    let number = &found["hrev".len()..];
    let end = number.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(number.len());
    number.starts_with(|c: char| c.is_ascii_digit()).then(|| &found[.."hrev".len() + end])
}

/// Reads the kernel of a volume. Returns the name of its package's file too.
///
/// # Errors
/// There is none for x86-64; the volume or the package cannot be read.
pub fn kernel<S: Storage>(volume: &mut Volume<S>) -> Result<(String, Vec<u8>), PackagesError> {
    let all = find(volume)?;
    let found = named(&all, "haiku").ok_or(PackagesError::NoHaiku)?;
    let mut package = found.open(volume)?;
    let entries = package.entries().map_err(|error| found.broken(error))?;
    let kernel = entries.iter().find(|entry| entry.path == KERNEL);
    let Some(EntryKind::File(data)) = kernel.map(|kernel| &kernel.kind) else {
        let narrow = entries.iter().any(|entry| entry.path == KERNEL_32);
        let name = found.name.clone();
        return Err(if narrow {
            PackagesError::Bits32(name)
        } else {
            PackagesError::NoKernel(name)
        });
    };
    let bytes = package.read_all(data, LARGEST_KERNEL).map_err(|error| found.broken(error))?;
    Ok((found.name.clone(), bytes))
}

/// An add-on or a library that a package of the volume has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackagedAddOn {
    /// The name of the package, without its version.
    pub package: String,
    /// Where the package is installed.
    pub hierarchy: Hierarchy,
    /// The path in the package: `add-ons/kernel/…`, `lib/…`.
    pub path: String,
    /// What it leads to, if it is a link.
    pub target: Option<String>,
}

impl PackagedAddOn {
    /// The path in the package that it leads to, if it is a link.
    pub fn leads_to(&self) -> Option<String> {
        followed(&self.path, self.target.as_deref()?)
    }
}

/// Where a link of a package leads to in it.
pub(crate) fn followed(path: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." => {}
            // It begins at the root of the whole system.
            "" => return None,
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Lists what the packages of a volume have below `add-ons` and `lib`. A package that cannot be read is
/// left out: Haiku does not mount it either.
///
/// # Errors
/// The volume cannot be read.
pub fn add_ons<S: Storage>(volume: &mut Volume<S>) -> Result<Vec<PackagedAddOn>, PackagesError> {
    let mut add_ons = Vec::new();
    for found in find(volume)? {
        let entries = match found.open(volume) {
            Ok(mut package) => package.entries().unwrap_or_default(),
            Err(PackagesError::Volume(error)) => return Err(error.into()),
            Err(_) => continue,
        };
        // The name of a package has no `-`: what follows one is its version.
        let package = found.name.split(['-', '.']).next().unwrap_or_default();
        for entry in entries {
            let target = match entry.kind {
                EntryKind::Directory => continue,
                EntryKind::File(_) => None,
                EntryKind::Symlink(target) => Some(String::from_utf8_lossy(&target).into_owned()),
            };
            let Ok(path) = String::from_utf8(entry.path) else { continue };
            if path.starts_with("add-ons/") || path.starts_with("lib/") {
                let (package, hierarchy) = (package.to_owned(), found.hierarchy);
                add_ons.push(PackagedAddOn { package, hierarchy, path, target });
            }
        }
    }
    Ok(add_ons)
}

#[cfg(test)]
mod tests {
    use bfs::MakeOptions;

    use super::*;
    use crate::hpkg::samples::{file, link, package};

    /// A volume with these packages, each by its path.
    fn volume(packages: &[(&str, &[u8])]) -> Volume<Vec<u8>> {
        let mut volume = Volume::make(vec![0; 12 << 20], &MakeOptions::new("Haiku")).unwrap();
        let mut directory = |path: &str| {
            let mut at = volume.root();
            for part in path.split('/') {
                at = volume
                    .entry(at, part.as_bytes())
                    .or_else(|_| volume.create_directory(at, part.as_bytes(), 0o755))
                    .unwrap();
            }
            at
        };
        let places = Hierarchy::ALL.map(|hierarchy| directory(hierarchy.packages()));
        for (path, bytes) in packages {
            let (place, name) = match path.strip_prefix("home/") {
                Some(name) => (places[1], name),
                None => (places[0], *path),
            };
            let (mut source, size) = (*bytes, bytes.len() as u64);
            volume.write_file(place, name.as_bytes(), 0o644, &mut source, size).unwrap();
        }
        volume
    }

    #[test]
    fn the_kernel_is_that_of_the_package_haiku() {
        let wide = package("haiku", &[("kernel_x86_64", file(b"kernel"))]);
        let narrow = package("haiku", &[("kernel_x86", file(b"kernel"))]);
        let other = package("haiku", &[("kernel_arm64", file(b"kernel"))]);
        let kernel = |packages: &[(&str, &[u8])]| kernel(&mut volume(packages));
        let found = kernel(&[("haiku_devel-1.hpkg", &other), ("haiku-r1-1.hpkg", &wide)]).unwrap();
        assert_eq!(found, ("haiku-r1-1.hpkg".to_owned(), b"kernel".to_vec()));
        assert!(kernel(&[("haiku.hpkg", &wide)]).is_ok());
        let error = kernel(&[("haiku-1.hpkg", &narrow)]).unwrap_err();
        assert!(matches!(error, PackagesError::Bits32(_)), "{error}");
        let error = kernel(&[("haiku-1.hpkg", &other)]).unwrap_err();
        assert!(matches!(error, PackagesError::NoKernel(_)), "{error}");
        let error = kernel(&[("home/haiku-1.hpkg", &wide), ("haiku-1.txt", &wide)]).unwrap_err();
        assert!(matches!(error, PackagesError::NoHaiku), "{error}");
        let error = kernel(&[("haiku-1.hpkg", b"text")]).unwrap_err();
        assert!(matches!(error, PackagesError::Package { .. }), "{error}");
    }

    #[test]
    fn the_revision_is_in_the_version() {
        assert_eq!(hrev("r1~beta5_hrev57937_129-1"), Some("hrev57937_129"));
        assert_eq!(hrev("r1~beta6_hrev59866-1"), Some("hrev59866"));
        assert_eq!(hrev("r1~beta6_hrev"), None);
        assert_eq!(hrev("1.0-1"), None);
        let none = package("haiku", &[("kernel_x86_64", file(b"kernel"))]);
        assert_eq!(revision(&mut volume(&[("haiku-1.hpkg", &none)])).unwrap(), None);
        let error = revision(&mut volume(&[("haiku-1.hpkg", b"text")])).unwrap_err();
        assert!(matches!(error, PackagesError::Package { .. }), "{error}");
    }

    #[test]
    fn images_are_found_by_path_or_by_name() {
        let haiku = package(
            "haiku",
            &[
                ("add-ons/kernel/drivers/bin/poke", file(b"poke")),
                ("add-ons/kernel/drivers/dev/misc/poke", link("../../bin/poke")),
                ("add-ons/kernel/busses/scsi/ahci", file(b"ahci")),
                ("add-ons/kernel/boot/ahci", link("../busses/scsi/ahci")),
                ("bin/libroot.so", file(b"other")),
                ("lib/libroot.so", file(b"root")),
                ("lib/loop", link("loop")),
            ],
        );
        let own = package("mine", &[("add-ons/kernel/drivers/bin/poke", file(b"mine"))]);
        let packages: [(&str, &[u8]); 3] =
            [("haiku-1.hpkg", &haiku), ("broken-1.hpkg", b"text"), ("home/mine-1.hpkg", &own)];
        let mut volume = volume(&packages);
        let found = |name: &str, volume: &mut _| {
            let found = images(volume, &[name]).unwrap();
            found.into_iter().map(|(_, bytes)| String::from_utf8(bytes).unwrap()).next()
        };
        for (name, expected) in [
            ("/boot/system/add-ons/kernel/drivers/dev/misc/poke", Some("poke")),
            ("/boot/home/config/add-ons/kernel/drivers/bin/poke", Some("mine")),
            ("/boot/home/config/non-packaged/add-ons/kernel/drivers/bin/poke", None),
            ("ahci", Some("ahci")),
            ("libroot.so", Some("root")),
            ("loop", None),
            ("", None),
            ("kernel_x86_64", None),
        ] {
            assert_eq!(found(name, &mut volume).as_deref(), expected, "{name}");
        }
        let both = images(&mut volume, &["ahci", "nothing", "libroot.so"]).unwrap();
        let names: Vec<_> = both.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["ahci", "libroot.so"]);
    }

    #[test]
    fn add_ons_are_those_of_all_packages_that_can_be_read() {
        let haiku = package(
            "haiku",
            &[
                ("add-ons/kernel/busses/scsi/ahci", file(b"x")),
                ("add-ons/kernel/boot/ahci", link("../busses/scsi/ahci")),
                ("add-ons/kernel/boot/odd", link("../../../../x")),
                ("lib/libroot.so", file(b"x")),
                ("bin/ls", file(b"x")),
            ],
        );
        let own = package("haiku", &[("add-ons/kernel/drivers/bin/mine", file(b"x"))]);
        let packages: [(&str, &[u8]); 3] =
            [("haiku-r1_x-1.hpkg", &haiku), ("broken-1.hpkg", b"text"), ("home/mine-2.hpkg", &own)];
        let found = add_ons(&mut volume(&packages)).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|entry| (entry.package.as_str(), entry.path.as_str(), entry.leads_to()))
            .collect();
        let ahci = "add-ons/kernel/busses/scsi/ahci";
        assert_eq!(
            found,
            [
                ("haiku", "add-ons/kernel/boot/ahci", Some(ahci.to_owned())),
                ("haiku", "add-ons/kernel/boot/odd", None),
                ("haiku", ahci, None),
                ("haiku", "lib/libroot.so", None),
                ("mine", "add-ons/kernel/drivers/bin/mine", None),
            ]
        );
    }
}
