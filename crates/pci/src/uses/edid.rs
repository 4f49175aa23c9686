//! What a monitor says of itself (VESA E-EDID Standard, Release A).

/// Header of the base block.
const HEADER: [u8; 8] = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
/// Where the four descriptors of 18 bytes lie.
const DESCRIPTORS: [usize; 4] = [54, 72, 90, 108];
/// A descriptor that begins with this holds the monitor's name from its sixth byte on.
const NAME: [u8; 5] = [0, 0, 0, 0xfc, 0];

/// Returns the monitor's name, or else its maker and product code; `None` if this is no EDID.
pub(super) fn name(edid: &[u8]) -> Option<String> {
    let block = edid.get(..128)?;
    if !block.starts_with(&HEADER) {
        return None;
    }
    let named = DESCRIPTORS
        .iter()
        .map(|at| &block[*at..at + 18])
        .find(|descriptor| descriptor.starts_with(&NAME))
        .map(|descriptor| text(&descriptor[5..]));
    named.filter(|name| !name.is_empty()).or_else(|| Some(product(block)))
}

/// Text of up to 13 bytes, ended by a line feed.
fn text(bytes: &[u8]) -> String {
    let text = bytes.iter().take_while(|byte| **byte != b'\n').map(|byte| char::from(*byte));
    let text: String = text.filter(|char| char.is_ascii_graphic() || *char == ' ').collect();
    text.trim().to_owned()
}

/// Three letters of five bits each, then the product code.
fn product(block: &[u8]) -> String {
    let packed = u16::from_be_bytes([block[8], block[9]]);
    let letter = |shift: u16| {
        let [low, _] = (packed >> shift & 0x1f).to_le_bytes();
        if (1..=26).contains(&low) { char::from(b'@' + low) } else { '?' }
    };
    let code = u16::from_le_bytes([block[10], block[11]]);
    format!("{}{}{} {code:04x}", letter(10), letter(5), letter(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edid(descriptor: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        bytes[..8].copy_from_slice(&HEADER);
        // "DEL" and product 0xa0c4.
        bytes[8..12].copy_from_slice(&[0x10, 0xac, 0xc4, 0xa0]);
        bytes[72..72 + descriptor.len()].copy_from_slice(descriptor);
        bytes
    }

    #[test]
    fn a_monitor_has_a_name_or_a_product() {
        let named = edid(b"\0\0\0\xfc\0U2720Q\n      ");
        assert_eq!(name(&named).as_deref(), Some("U2720Q"));
        assert_eq!(name(&edid(&[])).as_deref(), Some("DEL a0c4"));
        assert_eq!(name(&named[..127]), None);
        assert_eq!(name(&[0; 128]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_give_printable_text(mut bytes: Vec<u8>, header: bool) {
            if header {
                bytes.resize(128, 7);
                bytes[..8].copy_from_slice(&HEADER);
            }
            let name = name(&bytes).unwrap_or_default();
            prop_assert!(name.chars().all(|char| !char.is_control()));
        }
    }
}
