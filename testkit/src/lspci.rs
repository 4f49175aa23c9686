//! Capabilities, compared with what `lspci -vvv` says of them, field by field.

use std::fmt::Write;
use std::process::Command;

use pci::config::{Acs, Aer, ConfigSpace, Detail, Link, ResizableBar};

/// Holds what is decoded of configuration spaces to what lspci says of them, and returns how many
/// fields were compared.
///
/// # Panics
/// A field differs, or there is no lspci.
pub fn compare(spaces: &[Vec<u8>]) -> usize {
    let texts = lspci(spaces);
    assert_eq!(texts.len(), spaces.len());
    let mut compared = 0;
    for (bytes, text) in spaces.iter().zip(texts) {
        let config = ConfigSpace::new(bytes.clone());
        let lists = config.capabilities();
        let standard = lists.standard.iter().map(|one| (one.offset, config.detail(*one)));
        let extended = lists.extended.iter().map(|one| (one.offset, config.extended_detail(*one)));
        for (offset, detail) in standard.chain(extended) {
            let Some(detail) = detail else { continue };
            let heads =
                [format!("Capabilities: [{offset:02x}]"), format!("Capabilities: [{offset:03x} v")];
            let parts =
                text.split("\n\tCapabilities: ").map(|part| format!("Capabilities: {part}"));
            let part =
                parts.into_iter().find(|part| heads.iter().any(|head| part.starts_with(head)));
            let part = part.unwrap_or_else(|| panic!("lspci has nothing at {offset:#x}:\n{text}"));
            for words in expected(&detail) {
                assert!(part.contains(&words), "`{words}` is not in\n{part}");
                compared += 1;
            }
        }
    }
    compared
}

/// What lspci says of a dump of these spaces: a text for each.
fn lspci(spaces: &[Vec<u8>]) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a directory");
    let mut dump = String::new();
    for (number, bytes) in spaces.iter().enumerate() {
        writeln!(dump, "{:02x}:{:02x}.0 Class 0200: 8086:10d3", number / 32, number % 32)
            .expect("a string");
        for (line, row) in bytes.chunks(16).enumerate() {
            let row: Vec<_> = row.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(dump, "{:03x}: {}", line * 16, row.join(" ")).expect("a string");
        }
        dump.push('\n');
    }
    let file = dir.path().join("dump");
    std::fs::write(&file, dump).expect("a file");
    let output = Command::new("lspci").arg("-F").arg(&file).arg("-vvv").output();
    let output = output.expect("lspci, of the package pciutils, is needed");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let texts: Vec<_> = text.split("\n\n").filter(|text| !text.trim().is_empty()).collect();
    texts.into_iter().map(str::to_owned).collect()
}

fn sign(is: bool) -> char {
    if is { '+' } else { '-' }
}

fn flags<'a>(register: u32, names: impl Iterator<Item = (u8, &'a str)>) -> String {
    let words: Vec<_> =
        names.map(|(bit, name)| format!("{name}{}", sign(register >> bit & 1 == 1))).collect();
    words.join(" ")
}

fn acs(register: u16) -> String {
    let names = Acs::NAMES.iter().enumerate();
    flags(
        u32::from(register),
        names.map(|(bit, name)| (u8::try_from(bit).expect("a small number"), *name)),
    )
}

fn resizable(bar: &ResizableBar) -> String {
    let size = |exponent: u32| match exponent {
        0..10 => format!("{}MB", 1u64 << exponent),
        10..20 => format!("{}GB", 1u64 << (exponent - 10)),
        _ => format!("{}TB", 1u64 << (exponent - 20)),
    };
    let current = size(bar.size.trailing_zeros() - 20);
    let supported: Vec<_> = (0..28).filter(|bit| bar.sizes >> bit & 1 == 1).map(size).collect();
    format!("BAR {}: current size: {current}, supported: {}", bar.bar, supported.join(" "))
}

/// What lspci must say of what was decoded.
fn expected(detail: &Detail) -> Vec<String> {
    match detail {
        Detail::Power(power) => {
            let wakes = ["D0", "D1", "D2", "D3hot", "D3cold"].iter().enumerate();
            let wakes: Vec<_> = wakes
                .map(|(bit, name)| format!("{name}{}", sign(power.wakes_from >> bit & 1 == 1)))
                .collect();
            vec![
                format!("Power Management version {}", power.version),
                format!("D1{} D2{}", sign(power.d1), sign(power.d2)),
                format!("PME({})", wakes.join(",")),
                format!("Status: D{} NoSoftRst{}", power.state, sign(power.no_soft_reset)),
            ]
        }
        Detail::Msi(msi) => vec![format!(
            "MSI: Enable{} Count={}/{} Maskable{} 64bit{}",
            sign(msi.enabled),
            msi.vectors_enabled,
            msi.vectors,
            sign(msi.maskable),
            sign(msi.is_64_bit)
        )],
        Detail::MsiX(msi) => vec![
            format!(
                "MSI-X: Enable{} Count={} Masked{}",
                sign(msi.enabled),
                msi.vectors,
                sign(msi.masked)
            ),
            format!("Vector table: BAR={} offset={:08x}", msi.table_bar, msi.table_offset),
            format!("PBA: BAR={} offset={:08x}", msi.pending_bar, msi.pending_offset),
        ],
        Detail::Express(express) => {
            let kind = match express.kind {
                0 => "Endpoint",
                1 => "Legacy Endpoint",
                4 => "Root Port",
                5 => "Upstream Port",
                6 => "Downstream Port",
                9 => "Root Complex Integrated Endpoint",
                _ => "",
            };
            let mut fields = vec![
                format!("Express (v{}) {kind}", express.version),
                format!("DevCap:\tMaxPayload {} bytes", express.max_payload),
                format!("MaxPayload {} bytes", express.payload),
            ];
            if express.kind < 2 {
                fields.push(format!("FLReset{}", sign(express.function_reset)));
            }
            let Some(link) = express.link else { return fields };
            let speed = |code| Link::speed_name(code).unwrap_or("unknown");
            fields.extend([
                format!(
                    "LnkCap:\tPort #{}, Speed {}, Width x{}",
                    link.port,
                    speed(link.max_speed),
                    link.max_width
                ),
                format!("LnkSta:\tSpeed {}", speed(link.speed)),
                format!("Width x{}", link.width),
            ]);
            fields
        }
        Detail::VendorSpecific { length } => {
            vec![format!("Vendor Specific Information: Len={length:02x}")]
        }
        Detail::AdvancedFeatures { function_reset } => {
            vec!["PCI Advanced Features".to_owned(), format!("FLR{}", sign(*function_reset))]
        }
        Detail::Acs(services) => vec![
            format!("ACSCap:\t{}", acs(services.supported)),
            format!("ACSCtl:\t{}", acs(services.enabled)),
        ],
        Detail::Aer(aer) => {
            let uncorrectable = |register| flags(register, Aer::UNCORRECTABLE.into_iter());
            let correctable = |register| flags(register, Aer::CORRECTABLE.into_iter());
            vec![
                format!("UESta:\t{}", uncorrectable(aer.uncorrectable)),
                format!("UEMsk:\t{}", uncorrectable(aer.uncorrectable_mask)),
                format!("UESvrt:\t{}", uncorrectable(aer.uncorrectable_severity)),
                format!("CESta:\t{}", correctable(aer.correctable)),
                format!("CEMsk:\t{}", correctable(aer.correctable_mask)),
            ]
        }
        Detail::SrIov(sr_iov) => vec![
            format!("IOVCtl:\tEnable{}", sign(sr_iov.enabled)),
            format!(
                "Initial VFs: {}, Total VFs: {}, Number of VFs: {}",
                sr_iov.initial, sr_iov.total, sr_iov.number
            ),
            format!(
                "VF offset: {}, stride: {}, Device ID: {:04x}",
                sr_iov.offset, sr_iov.stride, sr_iov.device
            ),
        ],
        Detail::ResizableBar { bars } => bars.iter().map(resizable).collect(),
    }
}
