//! `cargo xtask dist`: what is given to others: a static program, a Debian package, completions
//! and manual pages.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::report::{Report, size};

/// With an explicit target, the flags for the program do not reach build scripts, which cannot be
/// static here.
const TARGET: &str = "x86_64-unknown-linux-gnu";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Makes everything in `dist` below cargo's target directory, and returns that directory.
pub fn dist(report: &Report) -> Result<PathBuf> {
    let dir = process::target().join("dist");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let built = report.stage("building the static program", build)?;
    let program = dir.join("kireji");
    fs::copy(&built, &program).context("cannot copy the program")?;
    report.note(&format!("kireji: {}", size(program.metadata()?.len())));
    report.stage("completions and manual pages", || generate(&program, &dir))?;
    if process::output(Command::new("dpkg-deb").arg("--version")).is_ok() {
        report.stage("Debian package", || debian_package(&dir))?;
    } else {
        report.note("no Debian package: there is no dpkg-deb here");
    }
    Ok(dir)
}

/// Builds the program without any shared library, so that it runs on every x86-64 Linux.
fn build() -> Result<PathBuf> {
    let mut cargo = process::cargo();
    cargo.args(["build", "--release", "--locked", "--package", "kireji", "--target", TARGET]);
    cargo.env("RUSTFLAGS", "-Ctarget-feature=+crt-static");
    cargo.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    process::run(&mut cargo)?;
    Ok(process::target().join(TARGET).join("release/kireji"))
}

fn generate(program: &Path, dir: &Path) -> Result<()> {
    let completions = dir.join("completions");
    fs::create_dir_all(&completions)?;
    for (shell, file) in COMPLETIONS {
        let script = process::output(Command::new(program).args(["completions", shell]))?;
        fs::write(completions.join(file), script)?;
    }
    process::output(Command::new(program).arg("man").arg(dir.join("man")))?;
    Ok(())
}

/// The shells, and how each wants its file named.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "kireji"), ("zsh", "_kireji"), ("fish", "kireji.fish")];

/// Where Debian has the completions of those shells.
const COMPLETION_DIRS: [&str; 3] = [
    "usr/share/bash-completion/completions",
    "usr/share/zsh/vendor-completions",
    "usr/share/fish/vendor_completions.d",
];

fn debian_package(dir: &Path) -> Result<()> {
    let root = dir.join("package");
    put(&dir.join("kireji"), &root.join("usr/bin/kireji"), 0o755)?;
    for ((_, file), to) in COMPLETIONS.iter().zip(COMPLETION_DIRS) {
        put(&dir.join("completions").join(file), &root.join(to).join(file), 0o644)?;
    }
    for page in fs::read_dir(dir.join("man"))? {
        let page = page?;
        put(&page.path(), &root.join("usr/share/man/man1").join(page.file_name()), 0o644)?;
    }
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let to = root.join("usr/share/doc/kireji").join(licence);
        put(&process::workspace().join(licence), &to, 0o644)?;
    }
    fs::create_dir_all(root.join("DEBIAN"))?;
    fs::write(root.join("DEBIAN/control"), control())?;
    let package = dir.join(format!("kireji_{VERSION}_amd64.deb"));
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--build", "--root-owner-group"]).arg(&root).arg(&package);
    process::output(&mut dpkg)?;
    Ok(fs::remove_dir_all(root)?)
}

/// The package's description (deb-control(5)). The program is static, so it depends on nothing.
fn control() -> String {
    format!(
        "Package: kireji\n\
         Version: {VERSION}\n\
         Architecture: amd64\n\
         Maintainer: The kireji project\n\
         Section: admin\n\
         Priority: optional\n\
         Recommends: qemu-system-x86, ovmf, pci.ids\n\
         Description: gives a PCI card from Linux to a guest and takes it back\n \
         kireji looks at the machine's cards, takes one from its driver through VFIO, hands it\n \
         to a guest in QEMU (Haiku first), and gives it back to its driver.\n"
    )
}

/// Copies a file with its permissions, whatever the umask is.
fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_folded_as_debian_wants_it() {
        let control = control();
        assert!(control.lines().all(|line| line.starts_with(' ') || line.contains(": ")));
        assert!(control.ends_with('\n'));
    }
}
