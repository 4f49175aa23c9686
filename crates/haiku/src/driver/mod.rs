//! Whether Haiku's kernel would load a driver, told from the file.
//!
//! The rules are those of the kernel's own loader (src/system/kernel/elf.cpp,
//! load_kernel_add_on) and of what asks it to load something. A rule that cannot be tried, for
//! want of the kernel that a driver is for, is said to be so.

mod elf;
mod kind;
mod modules;
mod place;
mod rules;

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::packages::PackagedAddOn;

pub use elf::ElfError;
pub use kind::Kind;
pub(crate) use place::KERNEL_SETTINGS;
pub use place::{PlaceError, Step, Wanted, place};
pub use rules::Rule;

/// What is known of a driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What it is.
    pub kind: Kind,
    /// Names of the modules that it exports.
    pub modules: Vec<String>,
    /// Modules that it asks the kernel for.
    pub uses: Vec<String>,
    /// Libraries that it needs; the kernel's loader does not look at them.
    pub libraries: Vec<String>,
    /// The accelerants that it names: a graphics driver has a half in the kernel and one in
    /// `app_server`.
    pub accelerants: Vec<String>,
    /// What is wrong, or may be.
    pub findings: Vec<Finding>,
    /// Symbols that the kernel must have, where no kernel was given to look.
    pub unchecked_symbols: Vec<String>,
}

/// One thing that is wrong, or may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule that is broken.
    pub rule: Rule,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub problem: String,
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { rule, severity, problem } = self;
        let mut finding = serializer.serialize_struct("Finding", 5)?;
        finding.serialize_field("rule", rule)?;
        finding.serialize_field("severity", severity)?;
        finding.serialize_field("problem", problem)?;
        finding.serialize_field("source", rule.source())?;
        finding.serialize_field("remedy", rule.remedy())?;
        finding.end()
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is loaded, but something is not as it seems.
    Warning,
    /// It is not loaded, or does not work.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl Report {
    /// Whether nothing speaks against its being loaded.
    pub fn is_loadable(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity < Severity::Error)
    }

    /// Adds what is wrong with it in a volume whose packages have `packaged`: modules and libraries
    /// that are not there.
    pub fn compare(&mut self, packaged: &[PackagedAddOn]) {
        rules::uses(&self.uses, &self.modules, packaged, &mut self.findings);
        if !self.kind.is_kernel() {
            rules::libraries(&self.libraries, packaged, &mut self.findings);
        }
    }
}

/// Symbols that a kernel has.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    symbols: std::collections::HashMap<Vec<u8>, u8>,
}

impl Kernel {
    /// Reads the symbols of a kernel: `kernel_x86_64` of the package `haiku`, or `_KERNEL_` of
    /// `haiku_devel`.
    ///
    /// # Errors
    /// It is not an ELF file for 64 bits, or damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self, ElfError> {
        let file = elf::File::parse(bytes)?;
        let defined = file.symbols.into_iter().filter(|symbol| symbol.defined);
        Ok(Self { symbols: defined.map(|symbol| (symbol.name, symbol.kind)).collect() })
    }
}

/// Checks a driver. `place` is where it is to go, below `add-ons/kernel`, such as
/// `drivers/misc/sample`; the module names of a new-style driver must fit it.
///
/// # Errors
/// It is not an ELF file for 64 bits, or damaged.
pub fn check(
    bytes: &[u8],
    kernel: Option<&Kernel>,
    place: Option<&str>,
) -> Result<Report, ElfError> {
    let file = elf::File::parse(bytes)?;
    let kind = Kind::of(&file);
    let modules = kind::module_names(&file);
    let mut findings = Vec::new();
    if kind.is_kernel() {
        rules::machine(&file, &mut findings);
        rules::segments(&file, &mut findings);
        rules::dynamic(&file, &mut findings);
        rules::relocations(&file, &mut findings);
        rules::interface(&file, kind, &modules, place, &mut findings);
        modules::names(kind, &modules, &mut findings);
    } else {
        rules::machine(&file, &mut findings);
        rules::user_space(&file, &mut findings);
    }
    let mut unchecked_symbols = Vec::new();
    if kind.is_kernel() {
        match kernel {
            Some(kernel) => rules::symbols(&file, &kernel.symbols, &mut findings),
            None => {
                let wanted = file.symbols.iter().filter(|symbol| !symbol.defined);
                unchecked_symbols =
                    wanted.map(|s| String::from_utf8_lossy(&s.name).into_owned()).collect();
                rules::untyped(&file, &mut findings);
            }
        }
    }
    let accelerants = if kind.is_kernel() { file.texts("", ".accelerant") } else { Vec::new() };
    let (uses, libraries) = (kind::uses(&file), file.libraries());
    Ok(Report { kind, modules, uses, libraries, accelerants, findings, unchecked_symbols })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> Vec<u8> {
        let path = format!("{}/tests/data/{name}.so", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).unwrap()
    }

    fn rules(report: &Report) -> Vec<Rule> {
        report.findings.iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn drivers_linked_as_they_should_be_are_fine() {
        let kernel = Kernel::parse(&sample("kernel")).unwrap();
        let legacy = check(&sample("legacy"), Some(&kernel), None).unwrap();
        assert_eq!(legacy.findings, []);
        assert_eq!(legacy.kind, Kind::Legacy);
        let module = check(&sample("module"), Some(&kernel), Some("drivers/misc/sample")).unwrap();
        assert_eq!(module.findings, []);
        assert_eq!(module.kind, Kind::Driver);
        assert_eq!(
            module.modules,
            ["drivers/misc/sample/driver_v1", "drivers/misc/sample/device_v1"]
        );
    }

    #[test]
    fn a_driver_linked_by_default_is_rejected_with_each_reason() {
        let report = check(&sample("default"), None, None).unwrap();
        let expected = [
            Rule::ReadOnlySegment,
            Rule::ReadOnlySegment,
            Rule::Hash,
            Rule::Soname,
            Rule::SymbolType,
        ];
        assert_eq!(rules(&report), expected, "{:#?}", report.findings);
        assert!(!report.is_loadable());
        assert_eq!(report.unchecked_symbols, ["dprintf", "strcmp"]);
        assert!(report.findings.iter().all(|finding| !finding.rule.remedy().is_empty()));
    }

    #[test]
    fn symbols_must_be_there_and_of_the_same_type() {
        let kernel = Kernel::parse(&sample("kernel")).unwrap();
        let report = check(&sample("untyped"), Some(&kernel), None).unwrap();
        assert_eq!(rules(&report), [Rule::SymbolType, Rule::SymbolType]);
        let report = check(&sample("legacy"), Some(&Kernel::default()), None).unwrap();
        assert_eq!(rules(&report), [Rule::Symbol, Rule::Symbol]);
    }

    #[test]
    fn constructors_and_another_interface_are_found() {
        let report = check(&sample("ctor"), None, None).unwrap();
        let found = rules(&report);
        assert!(found.contains(&Rule::Constructors), "{found:?}");
        assert!(found.contains(&Rule::ApiVersion), "{found:?}");
    }

    #[test]
    fn module_names_must_fit_the_place() {
        let report = check(&sample("module"), None, Some("drivers/net/other")).unwrap();
        let wrong: Vec<_> =
            report.findings.iter().filter(|finding| finding.rule == Rule::ModuleName).collect();
        assert_eq!(wrong.len(), 2, "{:#?}", report.findings);
    }

    fn packaged(paths: &[&str]) -> Vec<PackagedAddOn> {
        let entry = |path: &&str| PackagedAddOn {
            package: "haiku".to_owned(),
            hierarchy: crate::packages::Hierarchy::System,
            path: (*path).to_owned(),
            target: None,
        };
        paths.iter().map(entry).collect()
    }

    #[test]
    fn a_graphics_driver_has_two_halves() {
        let kernel = check(&sample("graphics"), None, None).unwrap();
        assert_eq!(kernel.kind, Kind::Legacy);
        assert_eq!(kernel.findings, []);
        assert_eq!(kernel.accelerants, ["sample.accelerant"]);
        let other = check(&sample("accelerant"), None, None).unwrap();
        assert_eq!(other.kind, Kind::Accelerant);
        assert_eq!(other.libraries, ["libroot.so", "libc.so.6"]);
        // Nothing of what the kernel's loader wants is asked of it.
        assert_eq!(rules(&other), [Rule::Hash, Rule::Library], "{:#?}", other.findings);
        assert!(!other.is_loadable());
    }

    #[test]
    fn what_it_asks_for_is_looked_up_in_the_packages() {
        let report = check(&sample("graphics"), None, None).unwrap();
        assert_eq!(report.uses, ["bus_managers/pci/v1"]);
        for (paths, missing) in [
            (&[][..], 0),
            (&["add-ons/kernel/bus_managers/pci"], 0),
            (&["add-ons/kernel/bus_managers/pc"], 1),
            (&["lib/libroot.so"], 1),
        ] {
            let mut report = report.clone();
            report.compare(&packaged(paths));
            assert_eq!(rules(&report), vec![Rule::MissingModule; missing], "{paths:?}");
            assert!(report.is_loadable());
        }
        // The kernel itself has the device manager; its own modules it has, too.
        let mut report = report.clone();
        report.uses = vec!["system/device_manager/v1".to_owned(), "drivers/x/v1".to_owned()];
        report.modules = vec!["drivers/x/v1".to_owned()];
        report.compare(&packaged(&["lib/libroot.so"]));
        assert_eq!(report.findings, []);
        let mut report = check(&sample("accelerant"), None, None).unwrap();
        report.compare(&packaged(&["lib/libbe.so"]));
        let missing = report.findings.iter().filter(|finding| finding.rule == Rule::Library);
        let problems: Vec<_> = missing.map(|finding| finding.problem.as_str()).collect();
        assert_eq!(
            problems,
            ["it is linked against Linux's `libc.so.6`", "no package has the library `libroot.so`"]
        );
    }

    #[test]
    fn other_machines_and_kinds_are_named() {
        let mut other = sample("legacy");
        other[18] = 183;
        assert!(rules(&check(&other, None, None).unwrap()).contains(&Rule::Machine));
        let mut narrow = sample("legacy");
        narrow[4] = 1;
        assert!(matches!(check(&narrow, None, None), Err(ElfError::Bits32)));
        assert!(matches!(check(b"#!/bin/sh", None, None), Err(ElfError::NotElf)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            which in 0_usize..3,
            patches in proptest::collection::vec((0_usize..3700, proptest::num::u8::ANY), 0..8),
            cut in 0_usize..4000,
        ) {
            let mut bytes = sample(["legacy", "module", "ctor"][which]);
            for (place, value) in patches {
                let length = bytes.len();
                bytes[place % length] = value;
            }
            if cut < 2000 {
                bytes.truncate(cut * 2);
            }
            drop(check(&bytes, None, Some("drivers/misc/sample")));
            drop(Kernel::parse(&bytes));
        }
    }
}
