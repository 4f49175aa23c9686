//! An apt of our own: its settings, lists, state and archives are in one directory, and the
//! machine's are not touched.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::sources::Mirror;
use crate::process;
use crate::report::{Report, size};

/// What the packages depend on, but not for what the lab does with them: users, boot, sound,
/// screens. apt is told that these are installed, so that they and what they need stay out.
pub const LEFT_OUT: [&str; 16] = [
    "adduser",
    "base-passwd",
    "debconf",
    "init-system-helpers",
    "initramfs-tools",
    "libasound2t64",
    "libbrlapi0.8",
    "libcacard0",
    "libsdl2-2.0-0",
    "linux-base",
    "linux-initramfs-tool",
    "mount",
    "passwd",
    "perl-base",
    "systemd",
    "udev",
];

/// A package to download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The size of its archive in bytes.
    pub size: u64,
}

/// A private apt.
#[derive(Debug)]
pub struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// Makes the directory and the settings in it.
    pub fn prepare(
        dir: &Path,
        mirror: &Mirror,
        suites: &[String],
        component: &str,
    ) -> Result<Self> {
        for part in ["etc/apt.conf.d", "etc/preferences.d", "etc/trusted.gpg.d", "archives"] {
            std::fs::create_dir_all(dir.join(part))?;
        }
        for part in ["state/lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(dir.join(part))?;
        }
        std::fs::write(dir.join("etc/sources.list"), sources_list(mirror, suites, component))?;
        std::fs::write(dir.join("state/status"), status())?;
        std::fs::write(dir.join("apt.conf"), settings(dir, &machine_settings()?))?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.dir.join("apt.conf")).env("LC_ALL", "C.UTF-8");
        command
    }

    /// Fetches the lists of the suites.
    pub fn update(&mut self, report: &Report) -> Result<()> {
        let mut command = self.command("apt-get");
        command.args(["update", "--error-on=any"]);
        process::follow(&mut command, |line| {
            if line.starts_with("Fetched") {
                report.note(line);
            }
        })
    }

    /// Returns the packages together with all that they need.
    pub fn closure(&self, packages: &[String]) -> Result<Vec<Package>> {
        let mut command = self.command("apt-get");
        command.args(["install", "--print-uris", "-qq", "-y", "--no-install-recommends"]);
        command.args(packages);
        let text = process::output(&mut command)?;
        let found: Option<Vec<Package>> = text.lines().map(uri_line).collect();
        match found {
            Some(found) if !found.is_empty() => Ok(found),
            _ => bail!("cannot make out what apt-get would install: {text:?}"),
        }
    }

    /// Downloads the packages, checked by apt against its signed lists, and returns their archives.
    pub fn download(
        &self,
        report: &Report,
        packages: &[Package],
        total: u64,
    ) -> Result<Vec<PathBuf>> {
        let archives = self.dir.join("archives");
        let mut command = self.command("apt-get");
        command.arg("download").current_dir(&archives);
        command.args(packages.iter().map(|p| format!("{}={}", p.name, p.version)));
        let mut done = 0;
        process::follow(&mut command, |line| {
            // `Get:7 http://mirror trixie/main amd64 libc6 amd64 2.41-12 [2847 kB]`
            let name = line.strip_prefix("Get:").and_then(|line| line.split(' ').nth(4));
            let Some(package) = packages.iter().find(|p| Some(p.name.as_str()) == name) else {
                return;
            };
            done += package.size;
            report.progress(done, total, &format!("{} {}", package.name, size(package.size)));
        })?;
        let mut found: Vec<PathBuf> = std::fs::read_dir(&archives)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        found.sort();
        if found.len() != packages.len() {
            bail!("{} packages were asked for, {} came", packages.len(), found.len());
        }
        Ok(found)
    }
}

/// `'http://mirror/pool/…/libc6_2.41-12_amd64.deb' libc6_2.41-12_amd64.deb 2846580 SHA256:…`
fn uri_line(line: &str) -> Option<Package> {
    let mut words = line.split_whitespace();
    let (file, bytes) = (words.nth(1)?, words.next()?);
    let mut parts = file.split('_');
    let (name, version) = (parts.next()?, parts.next()?);
    Some(Package {
        name: name.to_owned(),
        // In file names the colon of an epoch is escaped.
        version: version.replace("%3a", ":"),
        size: bytes.parse().ok()?,
    })
}

fn sources_list(mirror: &Mirror, suites: &[String], component: &str) -> String {
    let signed = mirror.signed_by.as_ref().map_or(String::new(), |key| format!("signed-by={key} "));
    let line = |suite| format!("deb [{signed}arch=amd64] {} {suite} {component}\n", mirror.uri);
    suites.iter().map(line).collect()
}

fn status() -> String {
    let stanza = |name| {
        format!(
            "Package: {name}\nStatus: install ok installed\nArchitecture: all\n\
             Multi-Arch: foreign\nMaintainer: nobody\nDescription: left out\nVersion: 99:99\n\n"
        )
    };
    LEFT_OUT.iter().map(stanza).collect()
}

/// How the machine reaches its mirror: proxies, certificates, retries.
pub fn machine_settings() -> Result<String> {
    let text = process::output(Command::new("apt-config").arg("dump"))?;
    let ours = |line: &&str| {
        ["http", "https", "Retries", "ForceIPv", "Check-", "Max-"]
            .iter()
            .any(|part| line.strip_prefix("Acquire::").is_some_and(|line| line.starts_with(part)))
    };
    Ok(text.lines().filter(ours).map(|line| format!("{line}\n")).collect())
}

fn settings(dir: &Path, machine: &str) -> String {
    let dir = dir.display();
    format!(
        "{machine}\
         Dir::Etc \"{dir}/etc\";\n\
         Dir::Etc::trusted \"/etc/apt/trusted.gpg\";\n\
         Dir::Etc::trustedparts \"/etc/apt/trusted.gpg.d\";\n\
         Dir::Etc::netrc \"/etc/apt/auth.conf\";\n\
         Dir::Etc::netrcparts \"/etc/apt/auth.conf.d\";\n\
         Dir::State \"{dir}/state\";\n\
         Dir::State::status \"{dir}/state/status\";\n\
         Dir::Cache \"{dir}/cache\";\n\
         Dir::Log \"{dir}\";\n\
         APT::Architecture \"amd64\";\n\
         APT::Architectures {{ \"amd64\"; }};\n\
         APT::Install-Recommends \"false\";\n\
         APT::Sandbox::User \"\";\n\
         Acquire::Languages \"none\";\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_download_is_read() {
        let line = "'http://m/pool/s/seabios_1%3a1.17~bpo_all.deb' seabios_1%3a1.17~bpo_all.deb \
                    160548 SHA256:00";
        let package =
            Package { name: "seabios".into(), version: "1:1.17~bpo".into(), size: 160_548 };
        assert_eq!(uri_line(line), Some(package));
        assert_eq!(uri_line("Reading package lists..."), None);
    }

    #[test]
    fn suites_are_signed_as_the_machine_signs() {
        let mirror = Mirror { uri: "http://m".into(), signed_by: Some("/k.gpg".into()) };
        assert_eq!(
            sources_list(&mirror, &["a".into(), "b".into()], "main"),
            "deb [signed-by=/k.gpg arch=amd64] http://m a main\n\
             deb [signed-by=/k.gpg arch=amd64] http://m b main\n"
        );
    }
}
