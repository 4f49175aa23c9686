//! Expansion ROMs (PCI Firmware Specification 3.3, 5; UEFI 2.10, 14.4.2), read from hostile bytes.

use std::fmt;

use serde::Serialize;

use crate::{Class, Ids};

/// First two bytes of each image.
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// Images and their lengths are counted in these units, in bytes.
const BLOCK: usize = 512;
/// Where an image says how much of it the firmware copies, in blocks; legacy and EFI images.
const INITIALISATION_SIZE: usize = 0x02;
/// Where an image points to its PCI data structure.
const DATA_POINTER: usize = 0x18;
const DATA_SIGNATURE: &[u8] = b"PCIR";
/// Length of the data structure without the fields that revision 3 added.
const DATA_LENGTH: usize = 0x18;
/// `0x0ef1`, little-endian, at 0x04 of an EFI image.
const EFI_SIGNATURE: [u8; 4] = [0xf1, 0x0e, 0, 0];
/// More devices than any image lists.
const MOST_DEVICES: usize = 256;
/// What vendors' flash tools put before the ROM has never been longer than this, in bytes.
const LONGEST_PREFIX: usize = 64 << 10;

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ImageKind {
    /// Code for a PC's BIOS.
    Legacy,
    /// Open Firmware's code.
    OpenFirmware,
    /// Code of HP PA-RISC machines.
    PaRisc,
    /// An EFI driver; on a display card, its Graphics Output Protocol.
    Efi {
        /// Machine type of the PE/COFF format, such as 0x8664 for x86-64.
        machine: u16,
        /// Subsystem of the PE/COFF format, such as 11 for a boot service driver.
        subsystem: u16,
        /// Whether it is compressed with the algorithm of the UEFI specification.
        compressed: bool,
    },
    /// A code type that the specification does not name.
    Other {
        /// The code type.
        code_type: u8,
    },
}

impl fmt::Display for ImageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Legacy => f.write_str("legacy BIOS"),
            Self::OpenFirmware => f.write_str("Open Firmware"),
            Self::PaRisc => f.write_str("PA-RISC"),
            Self::Efi { machine: 0x8664, .. } => f.write_str("EFI x86-64"),
            Self::Efi { machine: 0x014c, .. } => f.write_str("EFI IA-32"),
            Self::Efi { machine: 0xaa64, .. } => f.write_str("EFI AArch64"),
            Self::Efi { machine: 0x0ebc, .. } => f.write_str("EFI byte code"),
            Self::Efi { machine, .. } => write!(f, "EFI machine {machine:04x}"),
            Self::Other { code_type } => write!(f, "code type {code_type:02x}"),
        }
    }
}

/// One image of a ROM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Where it begins, in bytes.
    pub offset: usize,
    /// How long it says that it is, in bytes.
    pub length: usize,
    /// The ids that it says it is for.
    pub ids: Ids,
    /// Further device ids of the same vendor that it says it is for.
    pub also: Vec<u16>,
    /// The class code that it says it is for.
    pub class: Class,
    /// What it is for.
    pub kind: ImageKind,
    /// Whether the bytes of a legacy image that the firmware copies sum up to zero; `None` where
    /// there is no such rule or not all of them were given.
    pub sum_is_zero: Option<bool>,
    last: bool,
}

impl Image {
    /// Whether the image says that it is for a function with these ids.
    pub fn is_for(&self, ids: Ids) -> bool {
        self.ids.vendor == ids.vendor
            && (self.ids.device == ids.device || self.also.contains(&ids.device))
    }
}

/// The images of a ROM, as far as they could be followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rom {
    /// Its images, in their order. Never empty.
    pub images: Vec<Image>,
    /// How the chain of images ends.
    pub end: End,
}

/// How the chain of images ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// With an image that says it is the last, and is there to its end.
    Last,
    /// Before the end that the images declare.
    Short {
        /// How many bytes are missing, at least.
        missing: usize,
    },
    /// At bytes that are no image, though one should begin there.
    Broken {
        /// Where.
        offset: usize,
    },
}

/// Bytes that are no expansion ROM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum NotARom {
    /// There are no bytes.
    #[error("it is empty")]
    Empty,
    /// All bytes are the same: the ROM was not enabled, or the function does not answer.
    #[error("all its bytes are {0:#04x}, as a ROM reads that is not enabled")]
    Blank(u8),
    /// A ROM begins later, behind a header of a vendor's flash tool.
    #[error("a ROM begins only at byte {0}, behind something else")]
    Prefixed(usize),
    /// It ends before the PCI data structure of its first image.
    #[error("it ends within the headers of its first image: at least {0} bytes are missing")]
    CutHeader(usize),
    /// There is no image.
    #[error("it has no image with the signature 55 aa and a PCI data structure")]
    NoImage,
}

/// What a ROM should agree with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The function's vendor and device id.
    pub ids: Option<Ids>,
    /// Size of the function's ROM region, in bytes.
    pub region: Option<u64>,
}

/// A sign that bytes are not what the card's flash holds, but a copy that the firmware made or the
/// ROM of another card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Sign {
    /// A legacy image does not sum up to zero: it was changed, as an image is while it runs.
    Checksum {
        /// Where the image begins, in bytes.
        offset: usize,
    },
    /// No image is for the function.
    OtherIds {
        /// The ids of the first image.
        found: Ids,
    },
    /// The images need more than the function's ROM region has.
    LargerThanRegion {
        /// What they need, in bytes.
        needed: u64,
        /// What the region has, in bytes.
        region: u64,
    },
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum { offset } => {
                write!(f, "the legacy image at byte {offset} does not sum up to zero")
            }
            Self::OtherIds { found } => write!(f, "it is for {found}"),
            Self::LargerThanRegion { needed, region } => {
                write!(f, "its images need {needed} bytes, and the card's ROM has {region}")
            }
        }
    }
}

/// What is to be thought of a ROM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is whole.
    Whole,
    /// Its end is missing.
    Truncated {
        /// How many bytes are missing, at least.
        missing: usize,
    },
    /// The chain of images breaks.
    Damaged {
        /// Where an image should begin, in bytes.
        offset: usize,
    },
    /// It is not what this card's flash holds: a copy that was initialised, such as the one that
    /// the firmware leaves at 0xc0000, or another card's.
    Shadowed {
        /// What tells.
        signs: Vec<Sign>,
    },
}

impl Rom {
    /// Follows the images in `bytes`.
    ///
    /// # Errors
    /// No image begins at the first byte.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotARom> {
        let first = Image::parse(bytes, 0).ok_or_else(|| what_else(bytes))?;
        let mut rom = Self { images: vec![first], end: End::Last };
        // Each image has at least one block, so that this ends.
        while let Some(image) = rom.images.last() {
            let end = image.offset.saturating_add(image.length);
            if let Some(missing) = end.checked_sub(bytes.len()).filter(|missing| *missing > 0) {
                rom.end = End::Short { missing };
                break;
            }
            if image.last {
                break;
            }
            let Some(next) = Image::parse(bytes, end) else {
                rom.end = match cut_header(&bytes[end..]) {
                    Some(missing) => End::Short { missing },
                    None => End::Broken { offset: end },
                };
                break;
            };
            rom.images.push(next);
        }
        Ok(rom)
    }

    /// Judges whether this is what the card's flash holds.
    pub fn judge(&self, expected: &Expected) -> Verdict {
        match self.end {
            End::Short { missing } => return Verdict::Truncated { missing },
            End::Broken { offset } => return Verdict::Damaged { offset },
            End::Last => {}
        }
        let mut signs: Vec<_> = self
            .images
            .iter()
            .filter(|image| image.sum_is_zero == Some(false))
            .map(|image| Sign::Checksum { offset: image.offset })
            .collect();
        if let Some(ids) = expected.ids
            && !self.images.iter().any(|image| image.is_for(ids))
        {
            signs.extend(self.images.first().map(|image| Sign::OtherIds { found: image.ids }));
        }
        let needed = u64::try_from(self.length()).unwrap_or(u64::MAX);
        if let Some(region) = expected.region.filter(|region| *region < needed) {
            signs.push(Sign::LargerThanRegion { needed, region });
        }
        if signs.is_empty() { Verdict::Whole } else { Verdict::Shadowed { signs } }
    }

    /// What the images declare to need together, in bytes. Whatever follows is padding.
    pub fn length(&self) -> usize {
        self.images.last().map_or(0, |image| image.offset.saturating_add(image.length))
    }

    /// Whether a PC's BIOS finds code for itself in it.
    pub fn has_legacy(&self) -> bool {
        self.images.iter().any(|image| image.kind == ImageKind::Legacy)
    }

    /// Whether a 64-bit UEFI of a PC finds a driver for itself in it.
    pub fn has_efi_x86_64(&self) -> bool {
        let suits = |kind| matches!(kind, ImageKind::Efi { machine: 0x8664 | 0x0ebc, .. });
        self.images.iter().any(|image| suits(image.kind))
    }
}

impl Image {
    fn parse(bytes: &[u8], offset: usize) -> Option<Self> {
        let image = bytes.get(offset..)?;
        let data_at = usize::from(word(image, DATA_POINTER)?);
        let data = image.get(data_at..)?;
        if !image.starts_with(&SIGNATURE)
            || !data.starts_with(DATA_SIGNATURE)
            || data.len() < DATA_LENGTH
        {
            return None;
        }
        let length = BLOCK * usize::from(word(data, 0x10)?);
        if length == 0 {
            return None;
        }
        let kind = match data[0x14] {
            0 => ImageKind::Legacy,
            1 => ImageKind::OpenFirmware,
            2 => ImageKind::PaRisc,
            3 if image.get(4..8)? == EFI_SIGNATURE => ImageKind::Efi {
                subsystem: word(image, 0x08)?,
                machine: word(image, 0x0a)?,
                compressed: word(image, 0x0c)? != 0,
            },
            code_type => ImageKind::Other { code_type },
        };
        let vendor = word(data, 0x04)?;
        Some(Self {
            offset,
            length,
            ids: Ids { vendor, device: word(data, 0x06)? },
            also: device_list(data),
            class: Class(u32::from_le_bytes([data[0x0d], data[0x0e], data[0x0f], 0])),
            kind,
            sum_is_zero: (kind == ImageKind::Legacy).then(|| sum_is_zero(image, length)).flatten(),
            last: data[0x15] & 0x80 != 0,
        })
    }
}

/// Returns how many bytes are missing, at least, of an image that ends within its headers.
fn cut_header(image: &[u8]) -> Option<usize> {
    let signature = image.get(..SIGNATURE.len()).unwrap_or(image);
    let end = word(image, DATA_POINTER).map_or(BLOCK, |data| usize::from(data) + DATA_LENGTH);
    let is_cut = SIGNATURE.starts_with(signature) && end > image.len();
    is_cut.then(|| BLOCK.max(end).saturating_sub(image.len()).max(1))
}

/// Other device ids that the image serves: a list that ends with zero, since revision 3 of the data
/// structure. Earlier, vital product data was at this place.
fn device_list(data: &[u8]) -> Vec<u16> {
    let pointer = usize::from(word(data, 0x08).unwrap_or(0));
    if data.get(0x0c).is_none_or(|revision| *revision < 3) || pointer == 0 {
        return Vec::new();
    }
    (0..MOST_DEVICES)
        .map_while(|index| word(data, pointer + 2 * index))
        .take_while(|device| *device != 0)
        .collect()
}

/// The firmware copies the image's own size in blocks and sums that up (PCI Firmware 3.3, 5.2).
fn sum_is_zero(image: &[u8], length: usize) -> Option<bool> {
    let copied = BLOCK * usize::from(*image.get(INITIALISATION_SIZE)?);
    let summed = image.get(..if copied == 0 { length } else { copied })?;
    Some(summed.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0)
}

fn what_else(bytes: &[u8]) -> NotARom {
    let Some(first) = bytes.first() else { return NotARom::Empty };
    if matches!(first, 0 | 0xff) && bytes.iter().all(|byte| byte == first) {
        return NotARom::Blank(*first);
    }
    let begins = (BLOCK..bytes.len().min(LONGEST_PREFIX))
        .step_by(BLOCK)
        .find(|offset| Image::parse(bytes, *offset).is_some());
    match (cut_header(bytes), begins) {
        (_, Some(offset)) => NotARom::Prefixed(offset),
        (Some(missing), None) => NotARom::CutHeader(missing),
        (None, None) => NotARom::NoImage,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
