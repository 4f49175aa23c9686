//! Drivers and packages for Haiku.

use haiku::driver::{Kernel, Wanted, check, place};
use haiku::hpkg::{EntryKind, Package};
use haiku::symbols::Symbols;

/// Whether Haiku would load the input, and where it would go.
pub fn haiku_driver(data: &[u8]) {
    let kernel = Kernel::parse(data).ok();
    let Ok(report) = check(data, kernel.as_ref(), Some("drivers/misc/sample")) else { return };
    assert!(report.modules.len() <= 64);
    if let Ok(steps) = place(&report, "sample", Wanted { boot: true, ..Wanted::default() }, &[]) {
        let text = format!("{steps:?}");
        assert!(!text.contains("/../home"), "{text}");
    }
}

/// Everything in a package, as far as it can be read. Paths must not lead out of it.
pub fn haiku_package(data: &[u8]) {
    let Ok(mut package) = Package::open(data) else { return };
    let _ = package.info();
    let entries = package.entries().unwrap_or_default();
    let mut buffer = vec![0; 4096];
    for entry in entries.iter().take(100) {
        assert!(
            !entry.path.split(|byte| *byte == b'/').any(|part| part == b".." || part.is_empty())
        );
        if let EntryKind::File(content) = &entry.kind {
            let _ = package.read(content, 0, &mut buffer);
            let _ = package.read(content, content.size() / 2, &mut buffer);
        }
    }
}

/// What an ELF file says of its source. Each function has the lines of its places.
pub fn haiku_symbols(data: &[u8]) {
    let Ok(symbols) = Symbols::parse("sample", data) else { return };
    for address in (0..0x2000).step_by(7) {
        assert!(symbols.lines(address).len() < 1000);
    }
    let _ = symbols.build_id();
}
