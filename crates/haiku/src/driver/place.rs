//! Where an add-on goes in a Haiku volume, and what must be beside it to be loaded.
//!
//! Everything goes below the user's own `non-packaged`: the kernel looks there first, and a legacy
//! driver of `system/non-packaged` loses to a packaged one of its name
//! (src/system/kernel/device_manager/legacy_drivers.cpp, get_priority).

use super::{Kind, Report};

const ADD_ONS: &str = "home/config/non-packaged/add-ons";
/// Jobs that the launch daemon runs at boot (src/servers/launch/LaunchDaemon.cpp).
const JOBS: &str = "system/settings/launch";
/// The kernel's settings (src/system/boot/loader/load_driver_settings.cpp).
const SETTINGS: &str = "home/config/settings/kernel/drivers/kernel";
/// A panic is to be read on the serial line: without this, output waits for a key
/// (src/system/kernel/debug/blue_screen.cpp).
const SETTING: &str = "bluescreen false";

/// One thing to put into the volume. Paths are from its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The add-on itself.
    AddOn {
        /// Its path.
        path: String,
    },
    /// A link.
    Link {
        /// Its path.
        path: String,
        /// What it leads to.
        target: String,
    },
    /// A small file.
    Text {
        /// Its path.
        path: String,
        /// What it holds.
        content: String,
    },
    /// A line of a settings file, unless its first word is set there already.
    Line {
        /// The path of the file.
        path: String,
        /// The line.
        line: String,
    },
}

/// It cannot be told where an add-on is to go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The place that was asked for, or the name, is none.
    #[error("`{0}` is no place for an add-on")]
    Invalid(String),
    /// The modules of one file are of different places.
    #[error("its modules belong to `{0}` and to `{1}`")]
    Several(String, String),
    /// A module's name does not tell its place.
    #[error("the module name `{0}` does not begin with a place")]
    Module(String),
    /// Add-ons of this kind are not known well enough.
    #[error("there is no known place for {0}")]
    Kind(Kind),
}

/// Tells what to put where for an add-on with the file name `name`.
///
/// `wanted` is `CATEGORY/NAME`: for a legacy driver the directory below `/dev` and its name there
/// (`misc` and the file's name if not given), for others the file below `add-ons/kernel/drivers`.
/// With `boot`, the boot loader loads it.
///
/// # Errors
/// The place is invalid or cannot be told.
pub fn place(
    report: &Report,
    name: &str,
    wanted: Option<&str>,
    boot: bool,
) -> Result<Vec<Step>, PlaceError> {
    let invalid = |text: &str| Err(PlaceError::Invalid(text.to_owned()));
    let fine = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !fine(name) || name.contains('/') {
        return invalid(name);
    }
    if let Some(wanted) = wanted
        && (!wanted.contains('/') || !wanted.split('/').all(fine) || wanted.contains('"'))
    {
        return invalid(wanted);
    }
    let kernel = format!("{ADD_ONS}/kernel");
    let mut steps = Vec::new();
    let (path, below) = match report.kind {
        Kind::Legacy => {
            let place = wanted.map_or_else(|| format!("misc/{name}"), str::to_owned);
            let (category, leaf) = place.rsplit_once('/').unwrap_or(("misc", name));
            let path = format!("{kernel}/drivers/bin/{leaf}");
            steps.push(Step::AddOn { path: path.clone() });
            let up = "../".repeat(category.split('/').count() + 1);
            steps.push(Step::Link {
                path: format!("{kernel}/drivers/dev/{place}"),
                target: format!("{up}bin/{leaf}"),
            });
            // A category is scanned when somebody looks into it (devfs.cpp).
            steps.push(Step::Text {
                path: format!("{JOBS}/kireji-{leaf}"),
                content: format!("job kireji-{leaf} {{\n\tlaunch /bin/ls /dev/{category}\n}}\n"),
            });
            (path, format!("drivers/bin/{leaf}"))
        }
        Kind::Accelerant => {
            let path = format!("{ADD_ONS}/accelerants/{name}");
            steps.push(Step::AddOn { path });
            return Ok(steps);
        }
        Kind::Media | Kind::Unknown => return Err(PlaceError::Kind(report.kind)),
        _ => {
            let below = match wanted {
                Some(wanted) => format!("drivers/{wanted}"),
                None => module_place(report)?,
            };
            let path = format!("{kernel}/{below}");
            steps.push(Step::AddOn { path: path.clone() });
            (path, below)
        }
    };
    if boot {
        let leaf = path.rsplit('/').next().unwrap_or(name);
        steps.push(Step::Link {
            path: format!("{kernel}/boot/{leaf}"),
            target: format!("../{below}"),
        });
    }
    steps.push(Step::Line { path: SETTINGS.to_owned(), line: SETTING.to_owned() });
    Ok(steps)
}

/// The path that all modules of a file are looked up by.
fn module_place(report: &Report) -> Result<String, PlaceError> {
    let mut found: Option<&str> = None;
    for module in &report.modules {
        let place = module
            .rsplit_once('/')
            .map(|(place, _)| place)
            .filter(|place| {
                place.contains('/') && !place.split('/').any(|p| p == ".." || p.is_empty())
            })
            .ok_or_else(|| PlaceError::Module(module.clone()))?;
        match found {
            Some(other) if other != place => {
                return Err(PlaceError::Several(other.to_owned(), place.to_owned()));
            }
            _ => found = Some(place),
        }
    }
    found.map(str::to_owned).ok_or(PlaceError::Kind(report.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: Kind, modules: &[&str]) -> Report {
        let modules = modules.iter().map(|name| (*name).to_owned()).collect();
        Report { kind, modules, findings: Vec::new(), unchecked_symbols: Vec::new() }
    }

    fn paths(steps: &[Step]) -> Vec<String> {
        steps
            .iter()
            .map(|step| match step {
                Step::AddOn { path } | Step::Text { path, .. } | Step::Line { path, .. } => {
                    path.trim_start_matches("home/config/").to_owned()
                }
                Step::Link { path, target } => {
                    format!("{} -> {target}", path.trim_start_matches("home/config/"))
                }
            })
            .collect()
    }

    #[test]
    fn each_kind_has_its_place() {
        let legacy = report(Kind::Legacy, &[]);
        assert_eq!(
            paths(&place(&legacy, "sample", None, false).unwrap()),
            [
                "non-packaged/add-ons/kernel/drivers/bin/sample",
                "non-packaged/add-ons/kernel/drivers/dev/misc/sample -> ../../bin/sample",
                "system/settings/launch/kireji-sample",
                "settings/kernel/drivers/kernel",
            ]
        );
        let deep = place(&legacy, "sample", Some("audio/hmulti/card"), false).unwrap();
        assert_eq!(
            paths(&deep)[1],
            "non-packaged/add-ons/kernel/drivers/dev/audio/hmulti/card -> ../../../bin/card"
        );
        let driver = report(Kind::Driver, &["drivers/net/x/driver_v1", "drivers/net/x/device_v1"]);
        assert_eq!(
            paths(&place(&driver, "x.so", None, true).unwrap())[..2],
            [
                "non-packaged/add-ons/kernel/drivers/net/x",
                "non-packaged/add-ons/kernel/boot/x -> ../drivers/net/x",
            ]
        );
        let accelerant = report(Kind::Accelerant, &[]);
        assert_eq!(
            paths(&place(&accelerant, "x.accelerant", None, false).unwrap()),
            ["non-packaged/add-ons/accelerants/x.accelerant"]
        );
    }

    #[test]
    fn what_has_no_place_is_told() {
        let legacy = report(Kind::Legacy, &[]);
        for bad in ["../x/y", "x", "/x", "a//b", "a/b\"/c"] {
            assert!(place(&legacy, "sample", Some(bad), false).is_err(), "{bad}");
        }
        assert!(place(&legacy, "..", None, false).is_err());
        let two = report(Kind::Driver, &["drivers/a/x/v1", "drivers/b/x/v1"]);
        assert!(matches!(place(&two, "x", None, false), Err(PlaceError::Several(..))));
        let odd = report(Kind::Driver, &["../../etc/v1"]);
        assert!(matches!(place(&odd, "x", None, false), Err(PlaceError::Module(_))));
        let unknown = report(Kind::Unknown, &[]);
        assert!(matches!(place(&unknown, "x", None, false), Err(PlaceError::Kind(_))));
    }
}
