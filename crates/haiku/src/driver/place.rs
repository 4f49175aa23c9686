//! Where an add-on goes in a Haiku volume, and what must be beside it to be loaded.
//!
//! Everything goes below the user's own `non-packaged`: the kernel looks there first, and a legacy
//! driver of `system/non-packaged` loses to a packaged one of its name
//! (src/system/kernel/device_manager/legacy_drivers.cpp, get_priority).

use super::{Kind, Report};
use crate::install::Setting;
use crate::packages::{Hierarchy, PackagedAddOn};

const ADD_ONS: &str = "home/config/non-packaged/add-ons";
/// Jobs that the launch daemon runs at boot (src/servers/launch/LaunchDaemon.cpp).
const JOBS: &str = "system/settings/launch";
/// The kernel's settings (src/system/boot/loader/load_driver_settings.cpp).
pub(crate) const KERNEL_SETTINGS: &str = "home/config/settings/kernel/drivers/kernel";
/// A panic is to be read on the serial line: without this, output waits for a key
/// (src/system/kernel/debug/blue_screen.cpp).
const SERIAL_PANICS: &str = "bluescreen false";
/// Where entries of packages are blocked (src/add-ons/kernel/file_systems/packagefs/volume,
/// PackageSettings.cpp; the boot loader reads that of the system only).
const PACKAGE_SETTINGS: [(Hierarchy, &str); 2] = [
    (Hierarchy::System, "system/settings/packages"),
    (Hierarchy::Home, "home/config/settings/global/packages"),
];

/// What a place may begin with; anything else is below `drivers`.
const TOPS: [&str; 5] = ["drivers/", "busses/", "bus_managers/", "network/", "file_systems/"];

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
    /// Something in a settings file.
    Setting {
        /// The path of the file.
        path: String,
        /// What is to be in it.
        setting: Setting,
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

/// What is asked for about the place of an add-on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// `CATEGORY/NAME`: for a legacy driver the directory below `/dev` and its name there (`misc`,
    /// or `graphics` beside an accelerant, and the file's name if not given), for others the file
    /// below `add-ons/kernel`, or below `drivers` there.
    pub place: Option<&'a str>,
    /// The category of a legacy driver without a place.
    pub category: Option<&'a str>,
    /// Whether the boot loader loads it.
    pub boot: bool,
}

/// Tells what to put where for an add-on with the file name `name`, in a volume whose packages
/// have the add-ons `packaged`.
///
/// An entry of a package that would be loaded in its place is blocked; if the boot loader loads
/// that, it loads this one too, for the system may boot by it.
///
/// # Errors
/// The place is invalid or cannot be told.
pub fn place(
    report: &Report,
    name: &str,
    wanted: Wanted<'_>,
    packaged: &[PackagedAddOn],
) -> Result<Vec<Step>, PlaceError> {
    let invalid = |text: &str| Err(PlaceError::Invalid(text.to_owned()));
    if !is_name(name) {
        return invalid(name);
    }
    if let Some(wanted) = wanted.place
        && (!wanted.contains('/') || !wanted.split('/').all(is_name))
    {
        return invalid(wanted);
    }
    let kernel = format!("{ADD_ONS}/kernel");
    let mut steps = Vec::new();
    let below = match report.kind {
        Kind::Legacy => {
            let category = wanted.category.unwrap_or("misc");
            let place = wanted
                .place
                .or_else(|| packaged_place(name, packaged))
                .map_or_else(|| format!("{category}/{name}"), str::to_owned);
            let (category, leaf) = place.rsplit_once('/').unwrap_or((category, name));
            steps.push(Step::AddOn { path: format!("{kernel}/drivers/bin/{leaf}") });
            let up = "../".repeat(category.split('/').count() + 1);
            steps.push(Step::Link {
                path: format!("{kernel}/drivers/dev/{place}"),
                target: format!("{up}bin/{leaf}"),
            });
            steps.push(job(leaf, category));
            format!("drivers/bin/{leaf}")
        }
        Kind::Accelerant => {
            return Ok(vec![Step::AddOn { path: format!("{ADD_ONS}/accelerants/{name}") }]);
        }
        Kind::Media => return Ok(vec![Step::AddOn { path: format!("{ADD_ONS}/media/{name}") }]),
        Kind::Unknown => return Err(PlaceError::Kind(report.kind)),
        kind => {
            let below = match wanted.place {
                Some(wanted) if TOPS.iter().any(|top| wanted.starts_with(top)) => wanted.to_owned(),
                Some(wanted) => format!("drivers/{wanted}"),
                None => module_place(report)?,
            };
            steps.push(Step::AddOn { path: format!("{kernel}/{below}") });
            if kind == Kind::Driver
                && let Some((category, leaf)) =
                    below.strip_prefix("drivers/").and_then(|below| below.rsplit_once('/'))
            {
                steps.push(job(leaf, category));
            }
            below
        }
    };
    let leaf = below.rsplit('/').next().unwrap_or(name);
    let blocked = blocked(leaf, report.kind, packaged);
    let link = format!("add-ons/kernel/boot/{leaf}");
    if wanted.boot || blocked.iter().any(|(_, entry)| entry.path == link) {
        steps.push(Step::Link {
            path: format!("{kernel}/boot/{leaf}"),
            target: format!("../{below}"),
        });
    }
    for (path, entry) in blocked {
        let (package, entry) = (entry.package.clone(), entry.path.clone());
        let setting = Setting::Blocked { package, entry };
        steps.push(Step::Setting { path: path.to_owned(), setting });
    }
    let setting = Setting::Line(SERIAL_PANICS.to_owned());
    steps.push(Step::Setting { path: KERNEL_SETTINGS.to_owned(), setting });
    Ok(steps)
}

/// The place below `/dev` of the packaged legacy driver of a name, which the new one has too then.
fn packaged_place<'p>(name: &str, packaged: &'p [PackagedAddOn]) -> Option<&'p str> {
    let real = format!("add-ons/kernel/drivers/bin/{name}");
    packaged.iter().filter(|entry| entry.leads_to().as_ref() == Some(&real)).find_map(|entry| {
        let place = entry.path.strip_prefix("add-ons/kernel/drivers/dev/")?;
        (place.contains('/') && place.split('/').all(is_name)).then_some(place)
    })
}

/// Names go into paths, settings and jobs: letters, digits and what needs no quotes there.
fn is_name(part: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    !part.is_empty() && part != "." && part != ".." && part.chars().all(fine)
}

/// A category is scanned when somebody looks into it (src/system/kernel/device_manager/devfs.cpp,
/// scan_for_drivers_if_needed).
fn job(leaf: &str, category: &str) -> Step {
    Step::Text {
        path: format!("{JOBS}/kireji-{leaf}"),
        content: format!("job kireji-{leaf} {{\n\tlaunch /bin/ls /dev/{category}\n}}\n"),
    }
}

/// Entries of packages that would be loaded in the place of an add-on of the kernel, each with the
/// settings file to block it in.
///
/// The boot loader loads modules of the package `haiku` before the user's are there; a module of
/// a name that is known already is ignored then (src/system/kernel/module.cpp). Otherwise the
/// user's own come first, but for legacy drivers of packages of the same user, which are looked
/// at later and have the same priority (legacy_drivers.cpp).
fn blocked<'p>(
    leaf: &str,
    kind: Kind,
    packaged: &'p [PackagedAddOn],
) -> Vec<(&'static str, &'p PackagedAddOn)> {
    let link = format!("add-ons/kernel/boot/{leaf}");
    let preloaded =
        |entry: &&PackagedAddOn| entry.hierarchy == Hierarchy::System && entry.path == link;
    let mut real: Vec<String> =
        packaged.iter().filter(preloaded).filter_map(PackagedAddOn::leads_to).collect();
    if !real.is_empty() {
        real.push(link);
    }
    let legacy = format!("add-ons/kernel/drivers/bin/{leaf}");
    let loses = |entry: &&PackagedAddOn| match entry.hierarchy {
        Hierarchy::System => real.contains(&entry.path),
        Hierarchy::Home => kind == Kind::Legacy && entry.path == legacy,
    };
    let file = |hierarchy| {
        let found = PACKAGE_SETTINGS.iter().find(|(known, _)| *known == hierarchy);
        found.map(|(_, path)| *path)
    };
    packaged
        .iter()
        .filter(loses)
        .filter_map(|entry| Some((file(entry.hierarchy)?, entry)))
        .collect()
}

/// The path that all modules of a file are looked up by.
fn module_place(report: &Report) -> Result<String, PlaceError> {
    let mut found: Option<&str> = None;
    for module in &report.modules {
        let place = module
            .rsplit_once('/')
            .map(|(place, _)| place)
            .filter(|place| place.contains('/') && place.split('/').all(is_name))
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
        Report {
            kind,
            modules,
            uses: Vec::new(),
            libraries: Vec::new(),
            accelerants: Vec::new(),
            findings: Vec::new(),
            unchecked_symbols: Vec::new(),
        }
    }

    fn at(place: Option<&str>) -> Wanted<'_> {
        Wanted { place, ..Wanted::default() }
    }

    fn paths(steps: &[Step]) -> Vec<String> {
        steps
            .iter()
            .map(|step| match step {
                Step::AddOn { path } | Step::Text { path, .. } | Step::Setting { path, .. } => {
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
            paths(&place(&legacy, "sample", at(None), &[]).unwrap()),
            [
                "non-packaged/add-ons/kernel/drivers/bin/sample",
                "non-packaged/add-ons/kernel/drivers/dev/misc/sample -> ../../bin/sample",
                "system/settings/launch/kireji-sample",
                "settings/kernel/drivers/kernel",
            ]
        );
        let deep = place(&legacy, "sample", at(Some("audio/hmulti/card")), &[]).unwrap();
        assert_eq!(
            paths(&deep)[1],
            "non-packaged/add-ons/kernel/drivers/dev/audio/hmulti/card -> ../../../bin/card"
        );
        // One that a package has too is found where that is, if nobody says otherwise.
        let packaged = [PackagedAddOn {
            package: "haiku".to_owned(),
            hierarchy: Hierarchy::System,
            path: "add-ons/kernel/drivers/dev/graphics/sample".to_owned(),
            target: Some("../../bin/sample".to_owned()),
        }];
        for (wanted, expected) in [(None, "graphics/sample"), (Some("misc/x"), "misc/x")] {
            let steps = place(&legacy, "sample", at(wanted), &packaged).unwrap();
            let path = format!("non-packaged/add-ons/kernel/drivers/dev/{expected} -> ");
            assert!(paths(&steps)[1].starts_with(&path), "{steps:?}");
        }
        let driver = report(Kind::Driver, &["drivers/net/x/driver_v1", "drivers/net/x/device_v1"]);
        assert_eq!(
            paths(&place(&driver, "x.so", Wanted { boot: true, ..at(None) }, &[]).unwrap())[..3],
            [
                "non-packaged/add-ons/kernel/drivers/net/x",
                "system/settings/launch/kireji-x",
                "non-packaged/add-ons/kernel/boot/x -> ../drivers/net/x",
            ]
        );
        let accelerant = report(Kind::Accelerant, &[]);
        assert_eq!(
            paths(&place(&accelerant, "x.accelerant", at(None), &[]).unwrap()),
            ["non-packaged/add-ons/accelerants/x.accelerant"]
        );
    }

    #[test]
    fn packaged_twins_that_would_win_are_blocked() {
        let entry = |hierarchy, path: &str, target: Option<&str>| PackagedAddOn {
            package: "haiku".to_owned(),
            hierarchy,
            path: format!("add-ons/kernel/{path}"),
            target: target.map(str::to_owned),
        };
        let packaged = [
            entry(Hierarchy::System, "boot/ahci", Some("../busses/scsi/ahci")),
            entry(Hierarchy::System, "busses/scsi/ahci", None),
            entry(Hierarchy::System, "boot/odd", Some("../../../../../x")),
            entry(Hierarchy::System, "drivers/bin/sample", None),
            entry(Hierarchy::Home, "drivers/bin/sample", None),
            entry(Hierarchy::Home, "drivers/bin/other", None),
        ];
        let settings = |steps: &[Step]| -> Vec<(String, String)> {
            let blocked = steps.iter().filter_map(|step| match step {
                Step::Setting { path, setting: Setting::Blocked { entry, .. } } => {
                    Some((path.clone(), entry.clone()))
                }
                _ => None,
            });
            blocked.collect()
        };
        let bus = report(Kind::Bus, &["busses/scsi/ahci/driver_v1"]);
        let steps = place(&bus, "ahci", at(None), &packaged).unwrap();
        let file = "system/settings/packages".to_owned();
        assert_eq!(
            settings(&steps),
            [
                (file.clone(), "add-ons/kernel/boot/ahci".to_owned()),
                (file, "add-ons/kernel/busses/scsi/ahci".to_owned()),
            ]
        );
        let link = "non-packaged/add-ons/kernel/boot/ahci -> ../busses/scsi/ahci";
        assert!(paths(&steps).iter().any(|path| path == link), "{steps:#?}");
        let legacy = report(Kind::Legacy, &[]);
        let steps = place(&legacy, "sample", at(None), &packaged).unwrap();
        let file = "home/config/settings/global/packages".to_owned();
        assert_eq!(settings(&steps), [(file, "add-ons/kernel/drivers/bin/sample".to_owned())]);
        let steps = place(&legacy, "unheard", at(None), &packaged).unwrap();
        assert_eq!(settings(&steps), []);
        let steps = place(&legacy, "odd", at(None), &packaged).unwrap();
        assert_eq!(settings(&steps), []);
    }

    #[test]
    fn what_has_no_place_is_told() {
        let legacy = report(Kind::Legacy, &[]);
        for bad in ["../x/y", "x", "/x", "a//b", "a/b\"/c", "a/b c", "a/{"] {
            assert!(place(&legacy, "sample", at(Some(bad)), &[]).is_err(), "{bad}");
        }
        assert!(place(&legacy, "..", at(None), &[]).is_err());
        let two = report(Kind::Driver, &["drivers/a/x/v1", "drivers/b/x/v1"]);
        assert!(matches!(place(&two, "x", at(None), &[]), Err(PlaceError::Several(..))));
        let odd = report(Kind::Driver, &["../../etc/v1"]);
        assert!(matches!(place(&odd, "x", at(None), &[]), Err(PlaceError::Module(_))));
        let unknown = report(Kind::Unknown, &[]);
        assert!(matches!(place(&unknown, "x", at(None), &[]), Err(PlaceError::Kind(_))));
    }
}
