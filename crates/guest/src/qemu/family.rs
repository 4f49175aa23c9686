//! Which packages hold what, by family of distributions.

use std::fmt;

use host::{ReadError, Sysroot};

/// Distributions whose packages have the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Debian, Ubuntu, Mint and so on.
    Debian,
    /// Fedora, Red Hat Enterprise Linux and so on.
    Fedora,
    /// Arch, Manjaro, CachyOS and so on.
    Arch,
    /// openSUSE and SUSE Linux Enterprise.
    Suse,
    /// Alpine.
    Alpine,
    /// Any other.
    Other,
}

/// What a run may need and distributions package on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The emulator for x86.
    System,
    /// UEFI firmware.
    Uefi,
    /// Windows on the host's screen.
    Window,
    /// Sound on the host.
    Sound,
    /// ssh and what comes with it.
    Ssh,
}

impl Family {
    /// Tells the family from `/etc/os-release` (os-release(5)).
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn read(host: &Sysroot) -> Result<Self, ReadError> {
        let text = match host.optional_text("/etc/os-release")? {
            Some(text) => Some(text),
            None => host.optional_text("/usr/lib/os-release")?,
        };
        Ok(text.map_or(Self::Other, |text| Self::parse(&text)))
    }

    fn parse(text: &str) -> Self {
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches(['"', '\''])
        };
        let ids = format!("{} {}", field("ID"), field("ID_LIKE"));
        let family = |id: &str| match id {
            "debian" | "ubuntu" => Some(Self::Debian),
            "fedora" | "rhel" | "centos" => Some(Self::Fedora),
            "arch" => Some(Self::Arch),
            "suse" | "opensuse" | "sles" => Some(Self::Suse),
            "alpine" => Some(Self::Alpine),
            _ => None,
        };
        ids.split_whitespace().find_map(family).unwrap_or(Self::Other)
    }

    /// Returns the name of the package that holds `part`, where it is known.
    pub fn package(self, part: Part) -> Option<&'static str> {
        use Part::{Sound, Ssh, System, Uefi, Window};
        Some(match (self, part) {
            (Self::Debian | Self::Fedora | Self::Arch, System) => "qemu-system-x86",
            (Self::Suse, System) => "qemu-x86",
            (Self::Alpine, System) => "qemu-system-x86_64",
            (Self::Debian | Self::Alpine, Uefi) => "ovmf",
            (Self::Fedora | Self::Arch, Uefi) => "edk2-ovmf",
            (Self::Suse, Uefi) => "qemu-ovmf-x86_64",
            (Self::Debian, Window | Sound) => "qemu-system-gui",
            (Self::Fedora | Self::Arch | Self::Suse | Self::Alpine, Window) => "qemu-ui-gtk",
            (Self::Fedora | Self::Arch | Self::Suse | Self::Alpine, Sound) => "qemu-audio-pa",
            (Self::Debian | Self::Alpine, Ssh) => "openssh-client",
            (Self::Fedora | Self::Suse, Ssh) => "openssh-clients",
            (Self::Arch, Ssh) => "openssh",
            (Self::Other, _) => return None,
        })
    }

    /// Returns how to install `part`, in the user's own terms.
    pub fn remedy(self, part: Part) -> String {
        let install = match self {
            Self::Debian => "apt install",
            Self::Fedora => "dnf install",
            Self::Arch => "pacman -S",
            Self::Suse => "zypper install",
            Self::Alpine => "apk add",
            Self::Other => "",
        };
        self.package(part).map_or_else(
            || format!("install {part}"),
            |package| format!("install {part}: {install} {package}"),
        )
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "QEMU for x86",
            Self::Uefi => "UEFI firmware for QEMU",
            Self::Window => "QEMU's window",
            Self::Sound => "QEMU's sound",
            Self::Ssh => "ssh",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_distribution_by_its_own_name_or_its_parents() {
        for (text, family) in [
            ("NAME=\"Debian GNU/Linux\"\nID=debian\n", Family::Debian),
            ("ID=pop\nID_LIKE=\"ubuntu debian\"\n", Family::Debian),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Family::Fedora),
            ("ID=cachyos\nID_LIKE=arch\n", Family::Arch),
            ("ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n", Family::Suse),
            ("ID=alpine\n", Family::Alpine),
            ("ID=nixos\nVERSION_ID=\"25.11\"\n", Family::Other),
            ("", Family::Other),
        ] {
            assert_eq!(Family::parse(text), family, "{text}");
        }
    }

    #[test]
    fn every_known_family_has_every_package() {
        use Part::{Sound, Ssh, System, Uefi, Window};
        for family in [Family::Debian, Family::Fedora, Family::Arch, Family::Suse, Family::Alpine] {
            for part in [System, Uefi, Window, Sound, Ssh] {
                assert!(family.package(part).is_some(), "{family:?} {part:?}");
            }
        }
        assert_eq!(Family::Other.remedy(Uefi), "install UEFI firmware for QEMU");
        assert_eq!(Family::Arch.remedy(System), "install QEMU for x86: pacman -S qemu-system-x86");
    }
}
