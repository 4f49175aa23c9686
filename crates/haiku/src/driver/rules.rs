//! The rules, each with where it comes from and what to do.

use std::collections::HashMap;

use object::elf::{
    DT_HASH, EM_X86_64, ET_DYN, PF_W, PF_X, R_X86_64_64, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT,
    R_X86_64_NONE, R_X86_64_PC32, R_X86_64_RELATIVE, STT_NOTYPE,
};
use serde::Serialize;

use super::elf::File;
use super::{Finding, Kind, Severity};
use crate::packages::PackagedAddOn;

/// What the loader may leave between segments (src/system/kernel/elf.cpp, load_kernel_add_on).
const SLACK: u64 = 8192;

/// A rule of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// It must be for x86-64.
    Machine,
    /// It must be a shared object.
    SharedObject,
    /// Every loaded segment must be executable or writable.
    ReadOnlySegment,
    /// There is one executable segment and one writable.
    Segments,
    /// The segments lie close together.
    Span,
    /// It must have a hash table of the old kind.
    Hash,
    /// It should have a soname.
    Soname,
    /// Nobody runs its constructors.
    Constructors,
    /// Only some relocations are known.
    Relocation,
    /// The kernel must have every symbol that it needs.
    Symbol,
    /// A symbol must be of the same type in both.
    SymbolType,
    /// It must export an interface that something asks for.
    Interface,
    /// A legacy driver's `api_version` must be 2.
    ApiVersion,
    /// A module is looked up by a name that begins with the place of its file.
    ModuleName,
    /// A module's name ends with its version.
    ModuleVersion,
    /// A new-style driver has a module that ends with `/driver_v1`.
    DriverModule,
    /// A file system has a module `file_systems/NAME/v1`.
    FileSystemModule,
    /// The network stack looks into some directories only.
    NetworkModule,
    /// A module that it asks for must be there.
    MissingModule,
    /// A library that an add-on of user space needs must be there.
    Library,
}

impl Rule {
    /// What to do, with the exact options where it is about those.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Machine => "compile for x86_64",
            Self::SharedObject => "link with `-shared -nostdlib`",
            Self::ReadOnlySegment => {
                "link with `-Wl,-z,noseparate-code -Wl,-z,norelro`, and with lld \
                 `-Wl,--no-rosegment`"
            }
            Self::Segments => "link without a linker script of your own",
            Self::Span => "link with `-Wl,-z,max-page-size=0x1000`",
            Self::Hash => "link with `-Wl,--hash-style=sysv`",
            Self::Soname => "link with `-Wl,-soname=NAME`",
            Self::Constructors => "initialise such objects in `init_driver` or `std_ops`",
            Self::Relocation => "compile with `-fPIC`, without thread-local storage",
            Self::Symbol => "use what the kernel of that revision exports",
            Self::SymbolType => {
                "link against that kernel or a stub of it (`_KERNEL_` of haiku_devel), not with \
                 undefined symbols left open"
            }
            Self::Interface => {
                "export `modules`, or the legacy `api_version`, `init_hardware`, `init_driver`, \
                 `uninit_driver`, `publish_devices` and `find_device`"
            }
            Self::ApiVersion => "define `int32 api_version = B_CUR_DRIVER_API_VERSION;`",
            Self::ModuleName => "name the module PLACE/NAME_v1, by the place of its file",
            Self::ModuleVersion => "end the name with `/v1`, or `/driver_v1` and `/device_v1`",
            Self::DriverModule => "name the module of the driver `drivers/CATEGORY/NAME/driver_v1`",
            Self::FileSystemModule => "name the module `file_systems/NAME/v1`",
            Self::NetworkModule => {
                "name it `network/devices/NAME/v1`, `network/protocols/NAME/v1` or \
                 `network/datalink_protocols/NAME/v1`; the driver of a card is a driver below \
                 `drivers/net`"
            }
            Self::MissingModule => "install what has that module too, or use another version of it",
            Self::Library => {
                "link against Haiku's own libraries with a cross tool chain for \
                 x86_64-unknown-haiku, not against those of this machine"
            }
        }
    }

    /// Where Haiku has the rule.
    pub fn source(self) -> &'static str {
        match self {
            Self::Machine | Self::SharedObject => "elf.cpp, verify_eheader",
            Self::ReadOnlySegment | Self::Segments | Self::Span => "elf.cpp, load_kernel_add_on",
            Self::Hash | Self::Soname | Self::Constructors => "elf.cpp, elf_parse_dynamic_section",
            Self::Relocation => "arch/x86/arch_elf.cpp, arch_elf_relocate_rela",
            Self::Symbol | Self::SymbolType => "elf.cpp, elf_resolve_symbol",
            Self::Interface | Self::ApiVersion => "device_manager/legacy_drivers.cpp, load_driver",
            Self::ModuleName | Self::MissingModule => "module.cpp, search_module",
            Self::ModuleVersion => "headers/os/drivers/module.h, module_info",
            Self::DriverModule => "device_manager/device_manager.cpp, _FindBestDriver",
            Self::FileSystemModule => "fs/vfs.cpp, get_file_system",
            Self::NetworkModule => "network/stack/stack.cpp, scan_modules",
            Self::Library => "runtime_loader/elf.cpp, load_dependencies",
        }
    }
}

pub(super) fn error(findings: &mut Vec<Finding>, rule: Rule, problem: impl Into<String>) {
    findings.push(Finding { rule, severity: Severity::Error, problem: problem.into() });
}

pub(super) fn warning(findings: &mut Vec<Finding>, rule: Rule, problem: impl Into<String>) {
    findings.push(Finding { rule, severity: Severity::Warning, problem: problem.into() });
}

pub(super) fn machine(file: &File<'_>, findings: &mut Vec<Finding>) {
    if file.machine != EM_X86_64.0 {
        let problem = format!("it is for machine {}, not for x86-64", file.machine);
        error(findings, Rule::Machine, problem);
    }
    if file.kind != ET_DYN.0 {
        let problem = format!("it is of ELF type {}, not a shared object", file.kind);
        error(findings, Rule::SharedObject, problem);
    }
}

pub(super) fn segments(file: &File<'_>, findings: &mut Vec<Finding>) {
    let (mut executable, mut writable) = (0, 0);
    for segment in &file.loads {
        match segment.flags {
            flags if flags & PF_W.0 != 0 => {
                writable += 1;
                executable += usize::from(flags & PF_X.0 != 0);
            }
            flags if flags & PF_X.0 != 0 => executable += 1,
            _ => {
                let problem = format!(
                    "the {} bytes at {:#x} are read-only: they are not loaded",
                    segment.size, segment.address
                );
                error(findings, Rule::ReadOnlySegment, problem);
            }
        }
    }
    if executable != 1 || writable > 1 {
        let problem = format!("it has {executable} executable and {writable} writable segments");
        error(findings, Rule::Segments, problem);
    }
    let start = file.loads.iter().map(|segment| segment.address).min().unwrap_or_default();
    let end = file.loads.iter().map(|segment| segment.address.saturating_add(segment.size)).max();
    let span = end.unwrap_or_default().saturating_sub(start);
    let sum = file.loads.iter().fold(0, |sum: u64, segment| sum.saturating_add(segment.size));
    if span > sum.saturating_add(SLACK) && findings.iter().all(|f| f.rule != Rule::ReadOnlySegment)
    {
        let problem = format!("its segments have {sum} bytes, but span {span}");
        error(findings, Rule::Span, problem);
    }
}

pub(super) fn dynamic(file: &File<'_>, findings: &mut Vec<Finding>) {
    if file.tag(DT_HASH).is_none() {
        error(findings, Rule::Hash, "it has no DT_HASH");
    }
    if file.soname().is_none_or(<[u8]>::is_empty) {
        warning(findings, Rule::Soname, "it has no soname");
    }
    if file.has_constructors() {
        warning(findings, Rule::Constructors, "it has constructors, which nobody runs");
    }
}

pub(super) fn relocations(file: &File<'_>, findings: &mut Vec<Finding>) {
    let known = [
        R_X86_64_NONE,
        R_X86_64_64,
        R_X86_64_PC32,
        R_X86_64_GLOB_DAT,
        R_X86_64_JUMP_SLOT,
        R_X86_64_RELATIVE,
    ];
    let mut unknown: Vec<u32> = file
        .relocations
        .iter()
        .map(|relocation| relocation.kind)
        .filter(|kind| known.iter().all(|known| known.0 != *kind))
        .collect();
    unknown.sort_unstable();
    unknown.dedup();
    for kind in unknown {
        error(findings, Rule::Relocation, format!("it has relocations of type {kind}"));
    }
}

/// Symbols against those of a kernel.
pub(super) fn symbols(file: &File<'_>, kernel: &HashMap<Vec<u8>, u8>, findings: &mut Vec<Finding>) {
    for symbol in file.symbols.iter().filter(|symbol| !symbol.defined) {
        let name = String::from_utf8_lossy(&symbol.name);
        match kernel.get(&symbol.name) {
            None if symbol.weak => {}
            None => error(findings, Rule::Symbol, format!("the kernel has no `{name}`")),
            Some(kind) if *kind != symbol.kind => {
                let problem =
                    format!("`{name}` is of type {kind} in the kernel, of {} here", symbol.kind);
                error(findings, Rule::SymbolType, problem);
            }
            Some(_) => {}
        }
    }
}

/// Without a kernel to look into: symbols without a type are of none that a kernel has.
pub(super) fn untyped(file: &File<'_>, findings: &mut Vec<Finding>) {
    let untyped = |symbol: &&super::elf::Symbol| !symbol.defined && symbol.kind == STT_NOTYPE.0;
    let count = file.symbols.iter().filter(untyped).count();
    if count > 0 {
        let problem = format!("{count} of the symbols that it needs have no type");
        error(findings, Rule::SymbolType, problem);
    }
}

/// Directories of modules that are files; others, such as `system/device_manager/v1`, are in the
/// kernel itself (src/system/kernel/module.cpp, sBuiltInModules).
const IN_FILES: [&str; 6] =
    ["bus_managers/", "busses/", "drivers/", "file_systems/", "generic/", "network/"];

/// Modules that it asks for, against those that packages have: a module is in the file whose path
/// its name begins with. There may be more beside packages, so that it is a warning.
pub(super) fn uses(
    uses: &[String],
    own: &[String],
    packaged: &[PackagedAddOn],
    findings: &mut Vec<Finding>,
) {
    if packaged.is_empty() {
        return;
    }
    let of_a_file =
        |name: &&String| IN_FILES.iter().any(|top| name.starts_with(top)) && !own.contains(name);
    for name in uses.iter().filter(of_a_file) {
        let is_in = |entry: &PackagedAddOn| {
            entry.path.strip_prefix("add-ons/kernel/").is_some_and(|place| {
                name.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
            })
        };
        if !packaged.iter().any(is_in) {
            let problem = format!("no package has the module `{name}`, which it asks for");
            warning(findings, Rule::MissingModule, problem);
        }
    }
}

/// An add-on of user space is loaded by the run-time loader, which looks for its libraries.
pub(super) fn user_space(file: &File<'_>, findings: &mut Vec<Finding>) {
    if file.tag(DT_HASH).is_none() {
        warning(findings, Rule::Hash, "it has no DT_HASH, the only table that older loaders read");
    }
    for name in file.libraries() {
        // Haiku's C library is libroot.so; its libraries have no such versions.
        let is_linux = name.starts_with("libc.so.")
            || name.starts_with("libm.so.")
            || name.starts_with("ld-linux")
            || name.starts_with("libpthread.so.");
        if is_linux {
            error(findings, Rule::Library, format!("it is linked against Linux's `{name}`"));
        }
    }
}

/// Libraries that it needs, against those that packages have.
pub(super) fn libraries(
    libraries: &[String],
    packaged: &[PackagedAddOn],
    findings: &mut Vec<Finding>,
) {
    let known = |problem: &str| findings.iter().any(|f| f.problem.contains(problem));
    let is_there = |name: &str| {
        packaged.iter().any(|entry| entry.path.strip_prefix("lib/").is_some_and(|lib| lib == name))
    };
    let missing: Vec<_> = libraries
        .iter()
        .filter(|name| !packaged.is_empty() && !is_there(name) && !known(&format!("`{name}`")))
        .map(|name| format!("no package has the library `{name}`"))
        .collect();
    for problem in missing {
        error(findings, Rule::Library, problem);
    }
}

pub(super) fn interface(
    file: &File<'_>,
    kind: Kind,
    modules: &[String],
    place: Option<&str>,
    findings: &mut Vec<Finding>,
) {
    if kind == Kind::Unknown {
        error(findings, Rule::Interface, "it exports neither `modules` nor `publish_devices`");
    }
    if kind == Kind::Legacy {
        for name in ["init_driver", "find_device"] {
            if file.symbol(name.as_bytes()).is_none() {
                error(findings, Rule::Interface, format!("it does not export `{name}`"));
            }
        }
        api_version(file, findings);
        return;
    }
    if kind != Kind::Unknown && modules.is_empty() {
        error(findings, Rule::Interface, "its `modules` name no module");
    }
    let Some(place) = place else { return };
    let place = place.trim_matches('/');
    for name in modules {
        let fits = name.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
        if !fits {
            let problem = format!("the module `{name}` is not found at `{place}`");
            error(findings, Rule::ModuleName, problem);
        }
    }
}

fn api_version(file: &File<'_>, findings: &mut Vec<Finding>) {
    let Some(symbol) = file.symbol(b"api_version") else {
        return error(findings, Rule::ApiVersion, "it does not export `api_version`");
    };
    let value = file.at(symbol.address).and_then(|bytes| bytes.first_chunk::<4>());
    match value.map(|raw| i32::from_le_bytes(*raw)) {
        Some(2) => {}
        Some(value) => error(findings, Rule::ApiVersion, format!("its `api_version` is {value}")),
        None => error(findings, Rule::ApiVersion, "its `api_version` has no value"),
    }
}
