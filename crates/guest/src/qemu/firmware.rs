//! UEFI firmware for QEMU. Its BIOS, SeaBIOS, comes with every QEMU for x86.

use std::collections::BTreeMap;
use std::path::PathBuf;

use host::{ReadError, Sysroot};
use serde::{Deserialize, Serialize};

/// Where packages and administrators describe firmware, the first of equal names winning
/// (docs/interop/firmware.json of QEMU).
const DIRECTORIES: [&str; 2] = ["/etc/qemu/firmware", "/usr/share/qemu/firmware"];

/// Code and variables of distributions and versions that come without a description.
const KNOWN: [(&str, &str); 8] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd"),
    ("/usr/share/edk2-ovmf/OVMF_CODE.fd", "/usr/share/edk2-ovmf/OVMF_VARS.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
    ("/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"),
];

/// The firmware files of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firmware {
    /// UEFI for x86-64 without Secure Boot, under which Haiku's loader would not start.
    pub uefi: Option<Uefi>,
}

/// UEFI firmware in two flash chips.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uefi {
    /// The code; never written.
    pub code: PathBuf,
    /// The variables as they are at first; each machine gets a copy.
    pub variables: PathBuf,
    /// Format of both files.
    pub format: DiskFormat,
}

/// How a file holds the bytes of a disk or a flash chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// As they are.
    Raw,
    /// In QEMU's own format.
    Qcow2,
}

impl DiskFormat {
    /// The name of QEMU's driver for it.
    pub fn driver(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

impl Firmware {
    /// Looks for firmware on a host.
    ///
    /// # Errors
    /// A directory of descriptions is there but cannot be read. A description that is damaged or
    /// names missing files is passed over.
    pub fn find(host: &Sysroot) -> Result<Self, ReadError> {
        let mut descriptions = BTreeMap::new();
        for directory in DIRECTORIES {
            for name in host.optional_names(directory)? {
                if name.ends_with(".json") {
                    let path = format!("{directory}/{name}");
                    descriptions.entry(name).or_insert(path);
                }
            }
        }
        let described = descriptions.values().filter_map(|path| {
            let description: Description = serde_json::from_slice(&host.read(path).ok()?).ok()?;
            description.uefi()
        });
        let known = KNOWN.iter().map(|(code, variables)| Uefi {
            code: code.into(),
            variables: variables.into(),
            format: DiskFormat::Raw,
        });
        let present = |uefi: &Uefi| host.exists(&uefi.code) && host.exists(&uefi.variables);
        Ok(Self { uefi: described.chain(known).find(present) })
    }
}

/// What is used of a description.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Description {
    interface_types: Vec<String>,
    mapping: serde_json::Value,
    targets: Vec<Target>,
    features: Vec<String>,
}

#[derive(Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    filename: PathBuf,
    format: DiskFormat,
}

impl Description {
    fn uefi(&self) -> Option<Uefi> {
        let serves = |target: &Target| {
            target.architecture == "x86_64"
                && target.machines.iter().any(|machine| machine.starts_with("pc-q35-"))
        };
        // Secure Boot needs SMM, and keys that Haiku's loader is not signed with.
        let unfit = ["requires-smm", "secure-boot", "enrolled-keys"];
        if !self.interface_types.iter().any(|kind| kind == "uefi")
            || !self.targets.iter().any(serves)
            || self.features.iter().any(|feature| unfit.contains(&feature.as_str()))
        {
            return None;
        }
        let part = |name: &str| -> Option<File> {
            serde_json::from_value(self.mapping.get(name)?.clone()).ok()
        };
        // Firmware of the other kinds of mapping has no variables, or none of its own.
        let (code, variables) = (part("executable")?, part("nvram-template")?);
        (self.mapping.get("device")? == "flash" && code.format == variables.format).then_some(
            Uefi { code: code.filename, variables: variables.filename, format: code.format },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn description(code: &str, features: &str) -> String {
        format!(
            r#"{{"description": "UEFI", "interface-types": ["uefi"], "mapping": {{
                "device": "flash",
                "executable": {{"filename": "{code}", "format": "qcow2"}},
                "nvram-template": {{"filename": "/fw/vars.qcow2", "format": "qcow2"}}}},
                "targets": [{{"architecture": "x86_64", "machines": ["pc-q35-*"]}}],
                "features": [{features}], "tags": []}}"#
        )
    }

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Sysroot) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = dir.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let host = Sysroot::at(dir.path()).unwrap();
        (dir, host)
    }

    #[test]
    fn the_first_fitting_description_wins() {
        let secure = description("/fw/secure.qcow2", r#""acpi-s3", "secure-boot", "requires-smm""#);
        let absent = description("/fw/absent.qcow2", "");
        let plain = description("/fw/code.qcow2", r#""acpi-s3""#);
        let other = plain.replace("x86_64", "aarch64");
        let (_dir, host) = host(&[
            ("/usr/share/qemu/firmware/10-secure.json", &secure),
            ("/usr/share/qemu/firmware/20-absent.json", &absent),
            ("/usr/share/qemu/firmware/30-arm.json", &other),
            ("/usr/share/qemu/firmware/40-damaged.json", "{"),
            ("/usr/share/qemu/firmware/50-plain.json", &plain),
            ("/usr/share/OVMF/OVMF_CODE.fd", ""),
            ("/usr/share/OVMF/OVMF_VARS.fd", ""),
            ("/fw/secure.qcow2", ""),
            ("/fw/code.qcow2", ""),
            ("/fw/vars.qcow2", ""),
        ]);
        let uefi = Firmware::find(&host).unwrap().uefi.unwrap();
        assert_eq!(uefi.code, Path::new("/fw/code.qcow2"));
        assert_eq!(uefi.format, DiskFormat::Qcow2);
    }

    #[test]
    fn an_administrators_description_masks_the_packages() {
        let plain = description("/fw/code.qcow2", "");
        let (_dir, host) = host(&[
            ("/etc/qemu/firmware/50-plain.json", ""),
            ("/usr/share/qemu/firmware/50-plain.json", &plain),
            ("/fw/code.qcow2", ""),
            ("/fw/vars.qcow2", ""),
        ]);
        assert_eq!(Firmware::find(&host).unwrap().uefi, None);
    }

    #[test]
    fn usual_paths_are_tried_without_descriptions() {
        let (_dir, host) = host(&[
            ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", ""),
            ("/usr/share/edk2/x64/OVMF_VARS.4m.fd", ""),
        ]);
        let uefi = Firmware::find(&host).unwrap().uefi.unwrap();
        assert_eq!(uefi.variables, Path::new("/usr/share/edk2/x64/OVMF_VARS.4m.fd"));
        assert_eq!(uefi.format, DiskFormat::Raw);
    }
}
