//! The kernel: how it was built and started, and whether each installed one has vfio-pci.

use std::collections::BTreeMap;
use std::io::Read;

use ::host::modules::is_release;
use ::host::{Measured, ReadError, Sysroot, command_line};
use serde::Serialize;

use super::{optional, text, why};

/// The options that are kept of a configuration.
const OPTIONS: [&str; 12] = [
    "CONFIG_AMD_IOMMU",
    "CONFIG_INTEL_IOMMU",
    "CONFIG_INTEL_IOMMU_DEFAULT_ON",
    "CONFIG_INTEL_IOMMU_DEFAULT_ON_INTGPU_OFF",
    "CONFIG_IOMMUFD",
    "CONFIG_IOMMU_DEFAULT_PASSTHROUGH",
    "CONFIG_IOMMU_SUPPORT",
    "CONFIG_IRQ_REMAP",
    "CONFIG_MODULES",
    "CONFIG_VFIO_IOMMU_TYPE1",
    "CONFIG_VFIO_PCI",
    "CONFIG_VFIO_PCI_VGA",
];
/// What a configuration may hold at most, in bytes; those of distributions hold 300,000.
const CONFIG_LIMIT: u64 = 4 << 20;
/// What an index of modules may hold at most, in bytes.
const INDEX_LIMIT: u64 = 32 << 20;
/// How many installed kernels are looked at.
const MOST_KERNELS: usize = 64;

/// The running kernel, and the others that are installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Release of the running kernel.
    pub release: Measured<String>,
    /// Its command line.
    pub command_line: Measured<Vec<String>>,
    /// How it was built.
    pub config: Measured<KernelConfig>,
    /// The mode of lockdown: `none`, `integrity` or `confidentiality`; `None` where the kernel
    /// was built without it.
    pub lockdown: Measured<Option<String>>,
    /// Whether modules can still be loaded.
    pub loads_modules: Measured<bool>,
    /// Each kernel that is installed, and the running one, with its vfio-pci.
    pub releases: Vec<Release>,
}

/// One kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Release {
    /// Its release.
    pub release: String,
    /// Whether it runs now.
    pub is_running: bool,
    /// Whether it has vfio-pci.
    pub vfio_pci: Measured<ModuleState>,
    /// Where that was read.
    pub source: String,
}

/// How a kernel has a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleState {
    /// Built in.
    BuiltIn,
    /// As a module.
    Module,
    /// Not at all.
    Missing,
}

/// How a kernel was built, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KernelConfig {
    /// The file that was read.
    pub source: String,
    /// The options that are set, with their values.
    pub options: BTreeMap<String, String>,
}

impl KernelConfig {
    /// Whether an option is set to `y` or `m`. It is written with its `CONFIG_`.
    pub fn has(&self, option: &str) -> bool {
        self.options.get(option).is_some_and(|value| value == "y" || value == "m")
    }

    /// Returns the lines of a configuration that matter here.
    pub(crate) fn needed(text: &str) -> String {
        let kept = text
            .lines()
            .filter(|line| line.split_once('=').is_some_and(|(key, _)| OPTIONS.contains(&key)));
        kept.map(|line| format!("{line}\n")).collect()
    }

    fn parse(source: String, bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let options = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .filter(|(key, _)| OPTIONS.contains(key))
            .map(|(key, value)| (key.to_owned(), value.chars().take(20).collect()))
            .collect();
        Self { source, options }
    }

    fn module(&self, option: &str) -> ModuleState {
        match self.options.get(option).map(String::as_str) {
            Some("y") => ModuleState::BuiltIn,
            Some("m") => ModuleState::Module,
            _ => ModuleState::Missing,
        }
    }
}

impl Kernel {
    /// The value of a parameter of the command line, the last where there are several.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let words = self.command_line.known()?;
        words.iter().rev().find_map(|word| {
            let (found, value) = word.split_once('=')?;
            command_line::is_same(found, name).then_some(value)
        })
    }

    /// Whether the command line has just this word.
    pub fn has_word(&self, word: &str) -> bool {
        self.command_line
            .known()
            .is_some_and(|words| words.iter().any(|found| command_line::is_same(found, word)))
    }
}

pub(super) fn read(sysroot: &Sysroot) -> Kernel {
    let release = match text(sysroot, "/proc/sys/kernel/osrelease") {
        Measured::Known(release) if !is_release(&release) => {
            Measured::unmeasured("/proc/sys/kernel/osrelease holds no release of a kernel")
        }
        release => release,
    };
    let running = release.known().map(String::as_str);
    let config = match running {
        Some(running) => running_config(sysroot, running),
        None => Measured::unmeasured("the release of the running kernel is unknown"),
    };
    Kernel {
        command_line: text(sysroot, "/proc/cmdline").map(|line| words(&line)),
        lockdown: lockdown(sysroot),
        loads_modules: optional(sysroot, "/proc/sys/kernel/modules_disabled")
            .map(|text| text.as_deref() == Some("0")),
        releases: releases(sysroot, running, &config),
        config,
        release,
    }
}

/// The mode in force stands in brackets (security/lockdown/lockdown.c, lockdown_read).
fn lockdown(sysroot: &Sysroot) -> Measured<Option<String>> {
    const PATH: &str = "/sys/kernel/security/lockdown";
    const MODES: [&str; 3] = ["none", "integrity", "confidentiality"];
    match optional(sysroot, PATH) {
        Measured::Known(Some(text)) => {
            let mode = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            match mode.and_then(|(mode, _)| MODES.into_iter().find(|known| *known == mode)) {
                Some(mode) => Measured::Known(Some(mode.to_owned())),
                None => Measured::unmeasured(format!("{PATH} holds no mode")),
            }
        }
        other => other,
    }
}

/// The words of a command line, without quotes.
fn words(line: &str) -> Vec<String> {
    let words = command_line::split(line).into_iter().map(|word| word.replace('"', ""));
    words.filter(|word| !word.is_empty()).collect()
}

fn running_config(sysroot: &Sysroot, release: &str) -> Measured<KernelConfig> {
    match config_of(sysroot, release) {
        Ok(Some(config)) => return Measured::Known(config),
        Ok(None) => {}
        Err(error) => return Measured::unmeasured(why(&error)),
    }
    let path = "/proc/config.gz";
    let packed = match sysroot.read_limited(path, CONFIG_LIMIT) {
        Ok(packed) => packed,
        Err(error) if error.is_absent() => {
            return Measured::unmeasured(format!(
                "there is neither /boot/config-{release} nor {path}"
            ));
        }
        Err(error) => return Measured::unmeasured(why(&error)),
    };
    let mut bytes = Vec::new();
    let unpacked =
        flate2::read::GzDecoder::new(&packed[..]).take(CONFIG_LIMIT).read_to_end(&mut bytes);
    match unpacked {
        Ok(_) => Measured::Known(KernelConfig::parse(path.to_owned(), &bytes)),
        Err(error) => Measured::unmeasured(format!("{path} cannot be unpacked: {error}")),
    }
}

/// Reads the configuration that a package installed beside a kernel.
fn config_of(sysroot: &Sysroot, release: &str) -> Result<Option<KernelConfig>, ReadError> {
    for path in [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
        format!("/usr/lib/modules/{release}/config"),
    ] {
        match sysroot.read_limited(&path, CONFIG_LIMIT) {
            Ok(bytes) => return Ok(Some(KernelConfig::parse(path, &bytes))),
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn releases(
    sysroot: &Sysroot,
    running: Option<&str>,
    config: &Measured<KernelConfig>,
) -> Vec<Release> {
    let mut names = sysroot.optional_names("/lib/modules").unwrap_or_default();
    // Directories of kernels that were removed stay behind where something was built for them.
    names.retain(|name| {
        Some(name.as_str()) == running || sysroot.exists(format!("/lib/modules/{name}/modules.dep"))
    });
    names.truncate(MOST_KERNELS);
    if let Some(running) = running
        && !names.iter().any(|name| name == running)
    {
        names.push(running.to_owned());
    }
    names
        .into_iter()
        .map(|release| {
            let is_running = Some(release.as_str()) == running;
            let running_config = if is_running { config.known() } else { None };
            let (vfio_pci, source) = vfio_pci(sysroot, &release, running_config);
            Release { release, is_running, vfio_pci, source }
        })
        .collect()
}

fn vfio_pci(
    sysroot: &Sysroot,
    release: &str,
    running: Option<&KernelConfig>,
) -> (Measured<ModuleState>, String) {
    if running.is_some() && sysroot.exists("/sys/bus/pci/drivers/vfio-pci") {
        let state = running.map_or(ModuleState::Module, |config| config.module("CONFIG_VFIO_PCI"));
        let state = if state == ModuleState::Missing { ModuleState::Module } else { state };
        return (Measured::Known(state), "/sys/bus/pci/drivers/vfio-pci".to_owned());
    }
    let dir = format!("/lib/modules/{release}");
    for (file, state) in
        [("modules.builtin", ModuleState::BuiltIn), ("modules.dep", ModuleState::Module)]
    {
        match sysroot.read_limited(format!("{dir}/{file}"), INDEX_LIMIT) {
            Ok(index) if lists_vfio_pci(&index) => {
                return (Measured::Known(state), format!("{dir}/{file}"));
            }
            Ok(_) if file == "modules.dep" => {
                return (Measured::Known(ModuleState::Missing), format!("{dir}/{file}"));
            }
            Ok(_) => {}
            Err(error) if error.is_absent() => {}
            Err(error) => return (Measured::unmeasured(why(&error)), format!("{dir}/{file}")),
        }
    }
    let config = running.cloned().or_else(|| config_of(sysroot, release).ok().flatten());
    match config {
        // Without an index of modules, one that was built as a module is not installed.
        Some(config) => {
            let state = match config.module("CONFIG_VFIO_PCI") {
                ModuleState::BuiltIn => ModuleState::BuiltIn,
                _ => ModuleState::Missing,
            };
            (Measured::Known(state), config.source)
        }
        None => (
            Measured::unmeasured(format!("there is neither {dir}/modules.dep nor a configuration")),
            dir,
        ),
    }
}

/// Whether an index names the module's file, whose name has `-` in the kernel's own build and may
/// have `_`; each line begins with a module and may go on with those that it needs.
fn lists_vfio_pci(index: &[u8]) -> bool {
    index.split(|byte| *byte == b'\n').any(|line| {
        let path = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let file = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        file.starts_with(b"vfio-pci.ko") || file.starts_with(b"vfio_pci.ko")
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use testkit::tree::Tree;

    use super::*;

    #[test]
    fn a_command_line_is_split_as_the_kernel_does() {
        let split = words("root=/dev/sda1  dyndbg=\"file a +p\" quiet\n");
        assert_eq!(split, ["root=/dev/sda1", "dyndbg=file a +p", "quiet"]);
        let tree = Tree::new();
        tree.write("/proc/cmdline", "iommu=pt intel_iommu=off intel_iommu=on nointremap\n");
        let kernel = read(&tree.sysroot());
        assert_eq!(kernel.parameter("intel_iommu"), Some("on"));
        assert!(kernel.has_word("nointremap") && !kernel.has_word("iommu"));
    }

    #[test]
    fn the_configuration_is_found_and_unpacked() {
        let tree = Tree::new();
        tree.write("/proc/sys/kernel/osrelease", "6.12.1\n");
        let sysroot = tree.sysroot();
        assert!(read(&sysroot).config.known().is_none());
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"# CONFIG_AMD_IOMMU is not set\nCONFIG_INTEL_IOMMU=y\n").unwrap();
        tree.write("/proc/config.gz", packed.finish().unwrap());
        let kernel = read(&sysroot);
        let config = kernel.config.known().unwrap();
        assert!(config.has("CONFIG_INTEL_IOMMU") && !config.has("CONFIG_AMD_IOMMU"));
        assert_eq!(config.source, "/proc/config.gz");
        tree.write("/boot/config-6.12.1", "CONFIG_VFIO_PCI=y\n");
        let kernel = read(&sysroot);
        assert_eq!(kernel.releases[0].vfio_pci, Measured::Known(ModuleState::BuiltIn));
        tree.write("/proc/config.gz", "no gzip");
        tree.remove("/boot/config-6.12.1");
        assert!(read(&sysroot).config.known().is_none());
    }

    #[test]
    fn every_installed_kernel_is_asked_for_vfio_pci() {
        let tree = Tree::new();
        tree.write("/proc/sys/kernel/osrelease", "6.1.0\n");
        tree.write("/lib/modules/6.1.0/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko.xz: a\n");
        tree.write("/lib/modules/6.5.0/modules.dep", "kernel/net/x.ko: kernel/vfio-pci.ko\n");
        tree.write("/lib/modules/6.8.0/modules.dep", "");
        tree.write("/lib/modules/6.8.0/modules.builtin", "kernel/drivers/vfio/pci/vfio-pci.ko\n");
        tree.directory("/lib/modules/6.9.0-removed");
        let kernel = read(&tree.sysroot());
        let found: Vec<_> = kernel
            .releases
            .iter()
            .map(|release| (release.release.as_str(), release.is_running, release.vfio_pci.clone()))
            .collect();
        assert_eq!(
            found,
            [
                ("6.1.0", true, Measured::Known(ModuleState::Module)),
                ("6.5.0", false, Measured::Known(ModuleState::Missing)),
                ("6.8.0", false, Measured::Known(ModuleState::BuiltIn)),
            ]
        );
    }
}
