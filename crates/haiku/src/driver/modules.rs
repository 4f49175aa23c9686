//! Names of modules, by the kind of the add-on: what asks for a module asks by name.

use super::rules::{error, warning};
use super::{Finding, Kind, Rule};

/// Directories of the network stack that are looked into
/// (src/add-ons/kernel/network/stack/stack.cpp and device_interfaces.cpp).
const NETWORK: [&str; 4] = ["devices", "datalink_protocols", "protocols", "stack"];

/// Checks the names of an add-on's modules.
pub(super) fn names(kind: Kind, modules: &[String], findings: &mut Vec<Finding>) {
    if modules.is_empty() {
        return;
    }
    match kind {
        // The device manager lists modules by this ending (device_manager.cpp).
        Kind::Driver if !modules.iter().any(|name| name.ends_with("/driver_v1")) => {
            error(findings, Rule::DriverModule, "none of its modules ends with `/driver_v1`");
        }
        Kind::FileSystem if !modules.iter().any(|name| is_file_system(name)) => {
            error(
                findings,
                Rule::FileSystemModule,
                "none of its modules is `file_systems/NAME/v1`",
            );
        }
        Kind::Network => {
            for name in modules {
                let directory = name.split('/').nth(1).unwrap_or_default();
                if name.starts_with("network/") && !NETWORK.contains(&directory) {
                    let problem = format!("the network stack does not look for `{name}`");
                    warning(findings, Rule::NetworkModule, problem);
                }
            }
        }
        _ => {}
    }
    for name in modules {
        if !has_version(name) {
            warning(findings, Rule::ModuleVersion, format!("the name `{name}` has no version"));
        }
    }
}

fn is_file_system(name: &str) -> bool {
    let middle = name.strip_prefix("file_systems/").and_then(|rest| rest.strip_suffix("/v1"));
    middle.is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

fn has_version(name: &str) -> bool {
    let leaf = name.rsplit('/').next().unwrap_or(name);
    let digits = leaf.trim_end_matches(|c: char| c.is_ascii_digit());
    digits.len() < leaf.len() && (digits == "v" || digits.ends_with("_v"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_names_of_its_own() {
        let ok: &[Rule] = &[];
        for (kind, names, expected) in [
            (Kind::Driver, &["drivers/misc/x/driver_v1", "drivers/misc/x/device_v1"][..], ok),
            (Kind::Driver, &["drivers/misc/x/device_v1"], &[Rule::DriverModule]),
            (Kind::FileSystem, &["file_systems/x/v1"], ok),
            (Kind::FileSystem, &["file_systems/x/v2"], &[Rule::FileSystemModule]),
            (Kind::FileSystem, &["file_systems/x/y/v1"], &[Rule::FileSystemModule]),
            (Kind::Network, &["network/protocols/x/v1"], ok),
            (Kind::Network, &["network/drivers/x/v1"], &[Rule::NetworkModule]),
            (Kind::BusManager, &["bus_managers/x/v1", "bus_managers/x/root/driver_v12"], ok),
            (Kind::BusManager, &["bus_managers/x"], &[Rule::ModuleVersion]),
            (Kind::Module, &["generic/x/vee"], &[Rule::ModuleVersion]),
            (Kind::Module, &[], ok),
        ] {
            let names_: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut findings = Vec::new();
            super::names(kind, &names_, &mut findings);
            let found: Vec<_> = findings.iter().map(|finding| finding.rule).collect();
            assert_eq!(found, expected, "{names:?}");
        }
    }
}
