//! Capabilities are decoded as `lspci -vvv` decodes them, field by field, on generated
//! configuration spaces.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::process::Command;

use pci::config::{Acs, Aer, ConfigSpace, Detail, Link, ResizableBar};

/// How many functions are generated.
const FUNCTIONS: usize = 400;

/// Numbers that look random and are the same every time (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next().to_le_bytes()[0])
    }
}

/// A configuration space of an endpoint with one capability of each kind that is decoded, and
/// random registers.
fn space(numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0x00, &[0x86, 0x80, 0xd3, 0x10]);
    put(0x06, &[0x10]);
    put(0x0a, &[0x00, 0x02]);
    put(0x34, &[0x40]);
    put(0x40, &[0x01, 0x50]);
    put(0x42, &numbers.bytes::<6>());
    put(0x50, &[0x05, 0x70]);
    put(0x52, &numbers.bytes::<18>());
    put(0x70, &[0x11, 0x80]);
    put(0x72, &numbers.bytes::<10>());
    put(0x80, &[0x09, 0xa0, 0x10]);
    put(0xa0, &[0x10, 0xe0]);
    put(0xa2, &numbers.bytes::<0x3a>());
    // An endpoint or legacy endpoint of version 2, for an upstream port is no type 0 function.
    put(0xa2, &[0x02 | (numbers.next().to_le_bytes()[0] & 1) << 4, 0]);
    put(0xe0, &[0x13, 0x00, 0x06]);
    put(0xe3, &numbers.bytes::<3>());
    put(0x100, &[0x01, 0x00, 0x02, 0x14]);
    put(0x104, &numbers.bytes::<0x28>());
    put(0x140, &[0x0d, 0x00, 0x01, 0x16]);
    // The egress control vector is announced by the capability and not decoded here.
    let [low, high] = numbers.bytes::<2>();
    put(0x144, &[low & 0x5f, 0, high & 0x7f, 0]);
    put(0x160, &[0x10, 0x00, 0x01, 0x20]);
    put(0x164, &numbers.bytes::<0x3c>());
    put(0x200, &[0x15, 0x00, 0x01, 0x00]);
    let count = 1 + numbers.next().to_le_bytes()[0] % 6;
    for number in 0..usize::from(count) {
        let [a, b, c, d] = numbers.bytes::<4>();
        put(0x204 + 8 * number, &[a & 0xf0, b, c, d]);
        let exponent = numbers.next().to_le_bytes()[0] % 28;
        put(0x208 + 8 * number, &[count << 5 | u8::try_from(number).unwrap(), exponent, 0, 0]);
    }
    bytes
}

/// What lspci says of a dump of these spaces: a text for each.
fn lspci(spaces: &[Vec<u8>]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let mut dump = String::new();
    for (number, bytes) in spaces.iter().enumerate() {
        writeln!(dump, "{:02x}:{:02x}.0 Class 0200: 8086:10d3", number / 32, number % 32).unwrap();
        for (line, row) in bytes.chunks(16).enumerate() {
            let row: Vec<_> = row.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(dump, "{:03x}: {}", line * 16, row.join(" ")).unwrap();
        }
        dump.push('\n');
    }
    let file = dir.path().join("dump");
    std::fs::write(&file, dump).unwrap();
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
    flags(u32::from(register), names.map(|(bit, name)| (u8::try_from(bit).unwrap(), *name)))
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
            let kind = if express.kind == 0 { "Endpoint" } else { "Legacy Endpoint" };
            let link = express.link.expect("an endpoint has a link");
            let speed = |code| Link::speed_name(code).unwrap_or("unknown");
            vec![
                format!("Express (v{}) {kind}", express.version),
                format!("DevCap:\tMaxPayload {} bytes", express.max_payload),
                format!("FLReset{}", sign(express.function_reset)),
                format!("\t\t\tMaxPayload {} bytes", express.payload),
                format!(
                    "LnkCap:\tPort #{}, Speed {}, Width x{}",
                    link.port,
                    speed(link.max_speed),
                    link.max_width
                ),
                format!("LnkSta:\tSpeed {}", speed(link.speed)),
                format!("Width x{}", link.width),
            ]
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

#[test]
fn every_field_agrees() {
    let mut numbers = Numbers(1);
    let spaces: Vec<_> = (0..FUNCTIONS).map(|_| space(&mut numbers)).collect();
    let texts = lspci(&spaces);
    assert_eq!(texts.len(), spaces.len());
    let mut compared = 0;
    for (bytes, text) in spaces.into_iter().zip(texts) {
        let config = ConfigSpace::new(bytes);
        let lists = config.capabilities();
        let standard = lists.standard.iter().map(|one| (one.offset, config.detail(*one)));
        let extended = lists.extended.iter().map(|one| (one.offset, config.extended_detail(*one)));
        let details: Vec<_> = standard.chain(extended).collect();
        assert_eq!(details.len(), 10);
        for (offset, detail) in details {
            let detail = detail.unwrap_or_else(|| panic!("nothing decoded at {offset:#x}"));
            let head =
                [format!("Capabilities: [{offset:02x}]"), format!("Capabilities: [{offset:03x} v")];
            let part = text.split("\n\tCapabilities: ").map(|part| format!("Capabilities: {part}"));
            let part = part.into_iter().find(|part| head.iter().any(|head| part.starts_with(head)));
            let part = part.unwrap_or_else(|| panic!("lspci has nothing at {offset:#x}:\n{text}"));
            for words in expected(&detail) {
                assert!(part.contains(&words), "`{words}` is not in\n{part}");
                compared += 1;
            }
        }
    }
    assert!(compared > 20 * FUNCTIONS);
}
