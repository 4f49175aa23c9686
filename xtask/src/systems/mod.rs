//! Systems of a distribution, each on a disk that a rig starts from: what boots by a boot loader, an
//! initramfs and an init of its own can only be tried on such.
//!
//! They are Debian, made by mmdebstrap(1) of packages from the machine's mirror, so that the packages'
//! own scripts build the initramfs. A disk is made once and kept in the cache; what runs on it gets
//! an overlay.

mod disk;
mod stack;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use host::Sysroot;

pub use stack::{STACKS, Stack};

use crate::ask::Consent;
use crate::process;
use crate::provision::{self, Release, sources};
use crate::report::Report;

/// Changed when what is made from the same stack changes, so that old disks are not used.
const RECIPE: u32 = 2;

/// Where Debian is to be had where the machine is none.
const MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What of packages is left out: most of the time goes into unpacking and reading it again.
const EXCLUDED: [&str; 11] = [
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/usr/lib/modules/*/kernel/drivers/gpu/*",
    "/usr/lib/modules/*/kernel/drivers/iio/*",
    "/usr/lib/modules/*/kernel/drivers/infiniband/*",
    "/usr/lib/modules/*/kernel/drivers/media/*",
    "/usr/lib/modules/*/kernel/drivers/net/wireless/*",
    "/usr/lib/modules/*/kernel/drivers/staging/*",
    "/usr/lib/modules/*/kernel/drivers/usb/*",
    "/usr/lib/modules/*/kernel/sound/*",
];

/// Makes the disks of these stacks that are not there yet.
pub fn provide(report: &Report, consent: Consent, stacks: &[Stack]) -> Result<()> {
    let home = provision::cache_dir()?.join("systems");
    std::fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    let lock = std::fs::File::create(home.join("lock"))?;
    if lock.try_lock().is_err() {
        report.note("waiting for another process that makes systems");
        lock.lock()?;
    }
    let host = Sysroot::host()?;
    let source = Source::of(&host, &Release::read(&host)?);
    for stack in stacks {
        let dir = home.join(stack.name);
        let stamp = source.stamp(stack);
        let made = std::fs::read_to_string(dir.join("recipe"));
        if made.is_ok_and(|made| made == stamp) {
            continue;
        }
        consent.ask(&format!(
            "make the system {} of packages of {} from {}, as root, in {}",
            stack.name,
            source.suite_of(stack),
            source.uri,
            dir.display()
        ))?;
        report.stage(&format!("making the system {}", stack.name), || {
            make(report, stack, &source, &home, &stamp)
        })?;
    }
    Ok(())
}

/// Where the packages come from.
#[derive(Debug)]
struct Source {
    suite: String,
    uri: String,
    signed_by: String,
}

impl Source {
    /// The machine's own mirror, if it is Debian. The suite is that of the lab's kernel and QEMU.
    fn of(host: &Sysroot, release: &Release) -> Self {
        let codename = release.get("VERSION_CODENAME");
        let is_debian = release.get("ID") == "debian";
        let is_old = ["", "bookworm"].contains(&codename);
        let suite = if is_debian && !is_old { codename } else { "trixie" };
        let mirror = if is_debian { sources::mirror(host, codename).ok() } else { None };
        let (uri, signed_by) = match mirror {
            Some(mirror) => (mirror.uri, mirror.signed_by),
            None => (MIRROR.to_owned(), None),
        };
        let signed_by = signed_by.unwrap_or_else(|| KEYRING.to_owned());
        Self { suite: suite.to_owned(), uri, signed_by }
    }

    /// Where the packages of a stack are from.
    fn suite_of<'a>(&'a self, stack: &Stack) -> &'a str {
        stack.suite.unwrap_or(&self.suite)
    }

    /// What tells the disk of one recipe from another's.
    fn stamp(&self, stack: &Stack) -> String {
        let Self { suite, uri, .. } = self;
        let common = (stack::PACKAGES, stack::FILES, stack::MASKED, EXCLUDED);
        format!("{RECIPE} {suite} {uri}\n{stack:?}\n{common:?}\n")
    }
}

fn make(report: &Report, stack: &Stack, source: &Source, home: &Path, stamp: &str) -> Result<()> {
    let work = Work(home.join("work"));
    // One that was killed left its own; the lock says that no other is at work.
    work.remove()?;
    let new = work.0.join("new");
    std::fs::create_dir_all(&new)?;
    let root = work.0.join("root");
    let started = Instant::now();
    install(stack, source, &work.0, &root)?;
    report.note(&format!("packages installed in {:.1} s", started.elapsed().as_secs_f32()));
    std::fs::write(new.join("packages"), installed(&root)?)?;
    disk::make(&root, &new.join("disk.img"), stack.firmware)?;
    std::fs::write(new.join("recipe"), stamp)?;
    let dir = home.join(stack.name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(std::fs::rename(&new, &dir)?)
}

/// Installs a system into `root`.
fn install(stack: &Stack, source: &Source, work: &Path, root: &Path) -> Result<()> {
    let files = work.join("files");
    for file in stack::FILES.iter().chain(stack.files) {
        write(&files.join(file.path), file.text)?;
    }
    let units = files.join("etc/systemd/system");
    std::fs::create_dir_all(units.join("multi-user.target.wants"))?;
    for unit in stack::MASKED {
        std::os::unix::fs::symlink("/dev/null", units.join(unit))?;
    }
    let agent = "kireji-rig.service";
    let wanted = units.join("multi-user.target.wants").join(agent);
    std::os::unix::fs::symlink(format!("../{agent}"), wanted)?;
    for mount in ["payload", "lab"] {
        std::fs::create_dir_all(files.join(mount))?;
    }
    let finish = work.join("finish");
    std::fs::write(&finish, format!("set -e\n{}", stack.finish))?;
    let settings = work.join("apt.conf");
    std::fs::write(&settings, provision::apt::machine_settings()?)?;

    // Its mounts go with it, however it ends.
    let mut command = process::as_root("unshare");
    command.args([
        "--mount",
        "--",
        "mmdebstrap",
        "--mode=root",
        "--variant=apt",
        "--format=directory",
        "--quiet",
    ]);
    command.arg(format!("--aptopt={}", settings.display()));
    command.arg("--aptopt=APT::Install-Recommends \"false\"");
    command.arg("--aptopt=Acquire::Languages \"none\"");
    // Entries of boot loaders bear the identity of the machine that was made with the packages.
    command.arg("--skip=cleanup/reproducible");
    command.args(EXCLUDED.map(|path| format!("--dpkgopt=path-exclude={path}")));
    let packages: Vec<_> = stack::PACKAGES.iter().chain(stack.packages).copied().collect();
    command.arg(format!("--include={}", packages.join(",")));
    // Root's, whoever made them.
    let copy =
        format!("--essential-hook=cp -r --no-preserve=ownership {}/. \"$1\"", quoted(&files)?);
    command.arg(copy);
    command.arg(format!("--customize-hook=chroot \"$1\" /bin/sh < {}", quoted(&finish)?));
    let (suite, Source { uri, signed_by, .. }) = (source.suite_of(stack), source);
    command.arg(suite).arg(root);
    command.arg(format!("deb [signed-by={signed_by} arch=amd64] {uri} {suite} main"));
    process::output(&mut command).map(drop)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::create_dir_all(path.parent().context("a file has no directory")?)?;
    Ok(std::fs::write(path, text)?)
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> Result<String> {
    let path = path.to_str().context("the cache directory's name is not UTF-8")?;
    Ok(format!("'{}'", path.replace('\'', r"'\''")))
}

/// The packages of a system with their versions.
fn installed(root: &Path) -> Result<String> {
    let mut query = process::system("dpkg-query");
    query.arg(format!("--admindir={}", root.join("var/lib/dpkg").display()));
    process::output(query.args(["-W", "-f", "${Package} ${Version}\n"]))
}

/// A directory of root's files, removed in the end.
struct Work(PathBuf);

impl Work {
    fn remove(&self) -> Result<()> {
        // What may still be mounted in there is the machine's own.
        let mut remove = process::as_root("rm");
        process::output(remove.args(["-rf", "--one-file-system"]).arg(&self.0)).map(drop)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What stays is removed by the next.
        drop(self.remove());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_comes_from_the_machines_mirror_or_from_its_own() {
        let list = "deb [signed-by=/k.gpg] http://mirror bookworm main\n\
                    deb http://mirror forky main\n";
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc/apt/sources.list.d")).unwrap();
        std::fs::write(dir.path().join("etc/apt/sources.list"), list).unwrap();
        let host = Sysroot::at(dir.path()).unwrap();
        for (release, expected) in [
            ("ID=debian\nVERSION_CODENAME=bookworm", ["trixie", "http://mirror", "/k.gpg"]),
            ("ID=debian\nVERSION_CODENAME=forky", ["forky", "http://mirror", KEYRING]),
            ("ID=ubuntu\nVERSION_CODENAME=noble", ["trixie", MIRROR, KEYRING]),
            ("ID=arch", ["trixie", MIRROR, KEYRING]),
        ] {
            let Source { suite, uri, signed_by } = Source::of(&host, &Release::parse(release));
            assert_eq!([suite, uri, signed_by], expected, "{release}");
        }
    }

    #[test]
    fn another_recipe_is_another_disk() {
        let source = |suite: &str| Source {
            suite: suite.into(),
            uri: MIRROR.into(),
            signed_by: KEYRING.into(),
        };
        let mut stamps: Vec<_> = STACKS.iter().map(|stack| source("a").stamp(stack)).collect();
        stamps.push(source("b").stamp(&STACKS[0]));
        stamps.sort();
        stamps.dedup();
        assert_eq!(stamps.len(), STACKS.len() + 1);
    }
}
