//! Which parameters are needed, as measured: none, where the IOMMU translates already.

use host::{Measured, Sysroot};

use crate::config::{Change, words};

/// Where the kernel lists the IOMMUs that it uses (Documentation/ABI/testing/sysfs-class-iommu).
const IOMMUS: &str = "/sys/class/iommu";
/// The table by which firmware describes Intel's IOMMU; it is there only if firmware has it on.
const DMAR: &str = "/sys/firmware/acpi/tables/DMAR";
/// The same of AMD's.
const IVRS: &str = "/sys/firmware/acpi/tables/IVRS";

/// Returns how the command line has to change for the IOMMU to be used.
///
/// AMD's needs no parameter, and has no value `on` (drivers/iommu/amd/init.c,
/// parse_amd_iommu_options); Intel's needs one where the kernel was not built with
/// `CONFIG_INTEL_IOMMU_DEFAULT_ON`.
pub fn needed(host: &Sysroot) -> Measured<Change> {
    let iommus = match host.optional_names(IOMMUS) {
        Ok(iommus) => iommus,
        Err(error) => return Measured::unmeasured(error.to_string()),
    };
    if !iommus.is_empty() {
        return Measured::Known(Change::default());
    }
    let line = match host.text("/proc/cmdline") {
        Ok(line) => line,
        Err(error) => return Measured::unmeasured(error.to_string()),
    };
    let (intel, amd) = (host.exists(DMAR), host.exists(IVRS));
    if !intel && !amd {
        return Measured::unmeasured(
            "the kernel uses no IOMMU, and firmware describes none: it is missing, or off in the \
             firmware's menu",
        );
    }
    let is_off = |word: &&str| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let of_host =
            name == "iommu" || intel && name == "intel_iommu" || amd && name == "amd_iommu";
        of_host && value.split(',').any(|part| part == "off")
    };
    let remove: Vec<_> =
        words::split(&line).into_iter().filter(is_off).map(str::to_owned).collect();
    let on = words::value(&line, "intel_iommu").is_some_and(|value| value == "on");
    let add = if intel && !on { vec!["intel_iommu=on".to_owned()] } else { Vec::new() };
    if add.is_empty() && remove.is_empty() {
        return Measured::unmeasured(
            "firmware describes an IOMMU that the kernel does not use, and no parameter says so",
        );
    }
    Measured::Known(Change { add, remove })
}

#[cfg(test)]
mod tests {
    use testkit::tree::Tree;

    use super::*;

    #[test]
    fn parameters_change_only_where_they_are_measured_to_matter() {
        let known = |add: &[&str], remove: &[&str]| Some((add.join(" "), remove.join(" ")));
        for (files, line, expected) in [
            (&[IOMMU_DMAR, DMAR][..], "quiet", known(&[], &[])),
            (&[DMAR], "quiet", known(&["intel_iommu=on"], &[])),
            (
                &[DMAR],
                "iommu=off intel_iommu=off",
                known(&["intel_iommu=on"], &["iommu=off", "intel_iommu=off"]),
            ),
            (&[IVRS], "amd_iommu=off quiet", known(&[], &["amd_iommu=off"])),
            (&[IVRS], "quiet", None),
            (&[DMAR], "intel_iommu=on", None),
            (&[], "quiet", None),
        ] {
            let tree = Tree::new();
            tree.write("/proc/cmdline", line);
            for file in files {
                tree.write(file, "");
            }
            let found = needed(&tree.sysroot());
            let found = found.known().map(|change| (change.add.join(" "), change.remove.join(" ")));
            assert_eq!(found, expected, "{files:?} {line}");
        }
    }

    const IOMMU_DMAR: &str = "/sys/class/iommu/dmar0";
}
