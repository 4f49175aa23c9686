//! What a function of PCI says of itself, and how people name it.

use std::collections::BTreeSet;

use pci::config::{ConfigSpace, Detail};
use pci::rom::{Expected, Rom};
use pci::{Address, Ids, Named};

use crate::text;

/// A configuration space and its capability lists.
pub fn config_space(data: &[u8]) {
    let config = ConfigSpace::new(data.to_vec());
    let lists = config.capabilities();
    let mut seen = BTreeSet::new();
    for capability in &lists.standard {
        assert!(config.u8(capability.offset).is_some(), "{capability:?} lies outside");
        assert!(capability.offset >= 0x40 && seen.insert(capability.offset), "{capability:?}");
        assert!(!capability.name().is_empty());
        let _ = config.detail(*capability);
    }
    for capability in &lists.extended {
        assert!(config.u32(capability.offset).is_some(), "{capability:?} lies outside");
        assert!(capability.offset >= 0x100 && seen.insert(capability.offset), "{capability:?}");
        assert!(!capability.name().is_empty());
        if let Some(Detail::ResizableBar { bars }) = config.extended_detail(*capability) {
            assert!(bars.len() <= 6);
        }
    }
    let _ = (config.express(), config.header_type(), config.secondary_bus());
    let _ = (config.vendor(), config.device(), config.is_all_ones());
}

/// An option ROM.
pub fn option_rom(data: &[u8]) {
    let Ok(rom) = Rom::parse(data) else { return };
    assert!(!rom.images.is_empty());
    let mut end = 0;
    for image in &rom.images {
        assert_eq!(image.offset, end, "an image that does not follow the one before");
        assert!(image.length > 0 && image.offset < data.len());
        end = image.offset + image.length;
    }
    assert_eq!(rom.length(), end);
    let ids = Ids { vendor: 0x8086, device: 0x10d3 };
    let _ = rom.judge(&Expected { ids: Some(ids), region: Some(0x1_0000) });
    let _ = (rom.has_legacy(), rom.has_efi_x86_64());
}

/// A PCI address as people write it.
pub fn address(data: &[u8]) {
    let text = text(data);
    if let Ok(named) = text.parse::<Named>() {
        let shown = named.address.to_string();
        assert_eq!(shown.parse(), Ok(named.address), "{text} became {shown}");
    }
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(text.parse(), Ok(Named { address, has_function: true }));
    }
}
