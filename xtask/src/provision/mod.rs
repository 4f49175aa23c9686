//! Gives the lab what it runs with: a QEMU, a kernel, firmware and busybox.
//!
//! On Debian and Ubuntu they come as packages from the machine's own mirror, from a suite that is
//! new enough, and are unpacked into a directory of the cache. The machine's own packages, lists and
//! settings stay as they are, and none of it needs root.

pub mod apt;
mod closure;
pub mod sources;
mod tree;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use host::Sysroot;
use lab::tools::Tools;

use crate::ask::Consent;
use crate::report::{Report, size};

/// Changed when what is made from the same packages changes, so that old directories are not used.
const RECIPE: u32 = 1;

/// Returns the directory of a provisioned lab, made now if there is none; or `None` where the
/// machine's own QEMU and kernel are used, as on Fedora and Arch.
pub fn provision(report: &Report, consent: Consent) -> Result<Option<PathBuf>> {
    if let Some(dir) = std::env::var_os(lab::tools::LAB_DIR_VARIABLE) {
        let dir = PathBuf::from(dir);
        Tools::provisioned(&Sysroot::host()?, &dir)?;
        return Ok(Some(dir));
    }
    let host = Sysroot::host()?;
    let release = Release::read(&host)?;
    let Some(recipe) = recipe(&release) else { return own(&host, &release).map(|()| None) };
    let home = cache_dir()?.join("lab");
    std::fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    let lock = File::create(home.join("lock"))?;
    if lock.try_lock().is_err() {
        report.note("waiting for another process that provisions the lab");
        lock.lock()?;
    }
    let current = home.join("current");
    if is_current(&host, &current, &recipe) {
        return Ok(Some(current));
    }
    remove_leftovers(&home)?;
    let started = Instant::now();
    let dir = make(report, consent, &host, &home, &recipe)?;
    point(&current, &dir)?;
    remove_others(&home, &dir)?;
    report.note(&format!("the lab is ready in {:.1} s", started.elapsed().as_secs_f32()));
    Ok(Some(current))
}

/// What the machine's distribution says of itself (os-release(5)).
#[derive(Debug)]
pub struct Release(BTreeMap<String, String>);

impl Release {
    /// Reads what the machine says.
    pub fn read(host: &Sysroot) -> Result<Self> {
        let text = host.text("/etc/os-release").context("which distribution is this?")?;
        Ok(Self::parse(&text))
    }

    /// Parses `KEY=value` lines.
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (key, value) = line.split_once('=')?;
            let value = value.trim().trim_matches(|c| c == '"' || c == '\'');
            Some((key.trim().to_owned(), value.to_owned()))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// Returns the value of a key, or nothing.
    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }
}

/// Which packages, and from which suites of the machine's mirror.
#[derive(Debug, PartialEq, Eq)]
struct Recipe {
    codename: String,
    suites: Vec<String>,
    component: &'static str,
    packages: Vec<String>,
}

impl Recipe {
    /// A line that tells one recipe from another.
    fn stamp(&self) -> String {
        let lists = [&self.suites[..], &self.packages[..]].map(|list| list.join(","));
        let without = [&apt::LEFT_OUT[..], &tree::UNNEEDED[..]].map(|list| list.join(","));
        format!("{RECIPE} {} without {}\n", lists.join(" "), without.join(" "))
    }
}

/// What the lab needs of QEMU, in the names of Debian and Ubuntu.
const QEMU_PACKAGES: [&str; 5] =
    ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "qemu-utils", "seabios"];

/// Debian 13's kernel with the QEMU of its backports, which has DMA remapping in its AMD IOMMU and
/// `vfio-user-pci`; Ubuntu from 26.04 has both in its own.
fn recipe(release: &Release) -> Option<Recipe> {
    let codename = release.get("VERSION_CODENAME").to_owned();
    let plain = |packages: &[&str]| -> Vec<String> {
        packages.iter().map(|package| (*package).to_owned()).collect()
    };
    match release.get("ID") {
        "debian" => {
            let mut packages = plain(&["ovmf", "busybox-static", "kmod", "linux-image-amd64"]);
            let newer = ["bookworm", "trixie"].contains(&codename.as_str());
            let suites = if newer {
                packages.extend(QEMU_PACKAGES.map(|name| format!("{name}/trixie-backports")));
                vec!["trixie".to_owned(), "trixie-backports".to_owned()]
            } else {
                packages.extend(plain(&QEMU_PACKAGES));
                vec![codename.clone()]
            };
            Some(Recipe { codename, suites, component: "main", packages })
        }
        "ubuntu" => {
            let mut packages = plain(&["ovmf", "busybox-static", "kmod", "linux-image-generic"]);
            packages.extend(plain(&QEMU_PACKAGES));
            let old = release.get("VERSION_ID").split('.').next()?.parse::<u32>().ok()? < 26;
            let suite = if old { "resolute".to_owned() } else { codename.clone() };
            let suites = vec![suite.clone(), format!("{suite}-updates")];
            // busybox-static and the OVMF of older releases are in universe.
            Some(Recipe { codename, suites, component: "main universe", packages })
        }
        _ => None,
    }
}

/// Whether the machine's own QEMU and kernel will do.
fn own(host: &Sysroot, release: &Release) -> Result<()> {
    let path = std::env::var_os("PATH");
    let tools = Tools::find(host, None, Path::new("/nonexistent"), path.as_deref());
    let tools = tools.with_context(|| {
        let install = match release.get("ID") {
            "fedora" => "sudo dnf install qemu-system-x86-core edk2-ovmf seabios-bin busybox",
            "arch" => "sudo pacman -S qemu-system-x86 edk2-ovmf seabios busybox",
            _ => "install QEMU for x86-64 with the distribution's packages",
        };
        format!("the lab needs QEMU: {install}")
    })?;
    if tools.kernel.is_none() {
        bail!(
            "the lab needs the running kernel's image in /boot or /lib/modules, with its modules"
        );
    }
    Ok(())
}

/// The directory of what can be made again.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("kireji"))
}

fn is_current(host: &Sysroot, current: &Path, recipe: &Recipe) -> bool {
    std::fs::read_to_string(current.join("recipe")).is_ok_and(|stamp| stamp == recipe.stamp())
        && Tools::provisioned(host, current).is_ok()
}

fn make(
    report: &Report,
    consent: Consent,
    host: &Sysroot,
    home: &Path,
    recipe: &Recipe,
) -> Result<PathBuf> {
    let mirror = sources::mirror(host, &recipe.codename)?;
    // Everything is made in here and renamed at the end, so that a directory is whole or absent.
    let work = home.join(format!("{WORK_PREFIX}{}", std::process::id()));
    let _cleanup = RemoveOnDrop(work.clone());
    let mut apt = apt::Apt::prepare(&work.join("apt"), &mirror, &recipe.suites, recipe.component)?;
    report.stage("reading the package lists", || apt.update(report))?;
    let packages = report.stage("choosing packages", || apt.closure(&recipe.packages))?;

    let total: u64 = packages.iter().map(|package| package.size).sum();
    let dir = home.join(key(recipe, &packages));
    consent.ask(&format!(
        "download {} packages ({}) of {} from {} into {}",
        packages.len(),
        size(total),
        recipe.suites.join(" and "),
        mirror.uri,
        dir.display(),
    ))?;
    let new = work.join("new");
    let root = new.join("root");
    std::fs::create_dir_all(&root)?;
    let archives = report.stage("downloading", || apt.download(report, &packages, total))?;
    report.stage("unpacking", || tree::unpack(&archives, &root))?;
    report.stage("indexing the kernel's modules", || tree::index_modules(&root))?;
    closure::check(&root)?;
    report.stage("making the tools disk", || tree::make_disk(&root, &new.join("tools.img")))?;
    tree::write_launchers(&new.join("bin"), &dir.join("root"))?;
    let list: String = packages.iter().map(|p| format!("{} {}\n", p.name, p.version)).collect();
    std::fs::write(new.join("packages"), list)?;
    std::fs::write(new.join("recipe"), recipe.stamp())?;

    if dir.exists() {
        // It was there and not good, or it would have been used.
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::rename(&new, &dir)?;
    Tools::provisioned(host, &dir).context("the provisioned lab is not whole")?;
    Ok(dir)
}

/// A name for what these packages give: their versions decide it.
fn key(recipe: &Recipe, packages: &[apt::Package]) -> String {
    let mut lines: Vec<String> = packages.iter().map(|package| format!("{package:?}")).collect();
    lines.sort();
    lines.push(recipe.stamp());
    // FNV-1a with 64 bits: a name for a directory of our own, not a defence.
    let hash = lines.concat().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{}-{hash:016x}", recipe.suites.last().map_or("", String::as_str))
}

const WORK_PREFIX: &str = "work-";

/// Points the link `current` at `dir`, in one step.
fn point(current: &Path, dir: &Path) -> Result<()> {
    let next = current.with_extension("next");
    let target = dir.file_name().context("the lab's directory has no name")?;
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    std::os::unix::fs::symlink(target, &next)?;
    Ok(std::fs::rename(&next, current)?)
}

/// What a process that was killed left behind; the lock says that no other is at work.
fn remove_leftovers(home: &Path) -> Result<()> {
    remove(home, |name| name.starts_with(WORK_PREFIX))
}

/// Labs of other packages: each takes half a gigabyte.
fn remove_others(home: &Path, dir: &Path) -> Result<()> {
    let own = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    remove(home, |name| name != own && name != "current" && name != "lock")
}

fn remove(home: &Path, unwanted: impl Fn(&str) -> bool) -> Result<()> {
    for entry in std::fs::read_dir(home)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && unwanted(&entry.file_name().to_string_lossy()) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        // What stays is removed by the next provisioning.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(id: &str, version: &str, codename: &str) -> Release {
        Release::parse(&format!(
            "ID={id}\nVERSION_ID=\"{version}\"\nVERSION_CODENAME={codename}\n# x\n"
        ))
    }

    #[test]
    fn each_distribution_has_its_suites() {
        for (id, version, codename, suites) in [
            ("debian", "12", "bookworm", Some(vec!["trixie", "trixie-backports"])),
            ("debian", "13", "trixie", Some(vec!["trixie", "trixie-backports"])),
            ("debian", "14", "forky", Some(vec!["forky"])),
            ("ubuntu", "24.04", "noble", Some(vec!["resolute", "resolute-updates"])),
            ("ubuntu", "26.04", "resolute", Some(vec!["resolute", "resolute-updates"])),
            ("fedora", "43", "", None),
        ] {
            let recipe = recipe(&release(id, version, codename));
            let found = recipe.as_ref().map(|recipe| recipe.suites.iter().map(String::as_str));
            assert_eq!(found.map(Iterator::collect::<Vec<_>>), suites, "{id} {version}");
        }
    }

    #[test]
    fn the_link_is_moved_in_one_step() {
        let dir = tempfile::tempdir().unwrap();
        let current = dir.path().join("current");
        for name in ["a", "b"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            point(&current, &dir.path().join(name)).unwrap();
            assert_eq!(std::fs::read_link(&current).unwrap(), Path::new(name));
        }
        std::fs::create_dir(dir.path().join("work-1")).unwrap();
        remove_leftovers(dir.path()).unwrap();
        remove_others(dir.path(), &dir.path().join("b")).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["b", "current"]);
    }
}
