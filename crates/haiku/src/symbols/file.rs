//! What an ELF file tells of the source that it was made from.

use std::io::Read;
use std::sync::Arc;

use super::bounded::is_bounded;
use addr2line::Context;
use gimli::{Dwarf, EndianArcSlice, LittleEndian, SectionId};
use object::read::elf::{ElfFile, FileHeader};
use object::{
    CompressionFormat, Object, ObjectSection, ObjectSegment, ObjectSymbol, SymbolKind, elf,
};

/// Bytes that all debug sections together have unpacked, at most.
const LARGEST_DEBUG: u64 = 1 << 30;
/// Functions that are read; a kernel has some ten thousand.
const MOST_FUNCTIONS: usize = 1 << 20;

pub(super) type Reader = EndianArcSlice<LittleEndian>;

/// A file cannot be used for symbols.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SymbolsError {
    /// It does not begin like an ELF file.
    #[error("not an ELF file")]
    NotElf,
    /// It contradicts itself.
    #[error("the ELF file is damaged: {0}")]
    Damaged(String),
    /// Its debug sections are too large, or packed in a way that is not known.
    #[error("its section {0} cannot be unpacked")]
    Packed(&'static str),
}

/// A function of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) start: u64,
    pub(super) size: u64,
    pub(super) name: String,
}

/// Where the code at an address comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The function as the compiler knows it, mangled.
    pub function: Option<String>,
    /// The source file.
    pub file: Option<String>,
    /// The line in it, from one on.
    pub line: Option<u32>,
}

/// The symbols of one image.
pub struct Symbols {
    /// What the image is called, the last part of its path.
    pub(super) name: String,
    /// By their addresses.
    functions: Vec<Function>,
    context: Option<Context<Reader>>,
    build_id: Option<String>,
    /// Whether nobody gave the file, but a package had it.
    pub(super) is_packaged: bool,
    /// Whether the table of all symbols is there, not only that of exported ones.
    pub(super) has_all_functions: bool,
    /// The address of its first byte in memory that it is linked for.
    pub(super) first: u64,
}

impl std::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symbols")
            .field("name", &self.name)
            .field("functions", &self.functions.len())
            .field("has_lines", &self.has_lines())
            .finish_non_exhaustive()
    }
}

impl Symbols {
    /// Reads the symbols of a file that is called `name`, the last part of its path.
    ///
    /// # Errors
    /// It is no ELF file, or damaged. A file without symbols is none: it has less to say.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, SymbolsError> {
        if !bytes.starts_with(b"\x7fELF") {
            return Err(SymbolsError::NotElf);
        }
        // The fifth byte tells 32 bits from 64 (ELF, `EI_CLASS`).
        if bytes.get(4) == Some(&1) {
            Self::read::<elf::FileHeader32<object::LittleEndian>>(name, bytes)
        } else {
            Self::read::<elf::FileHeader64<object::LittleEndian>>(name, bytes)
        }
    }

    fn read<H: FileHeader<Endian = object::LittleEndian>>(
        name: &str,
        bytes: &[u8],
    ) -> Result<Self, SymbolsError> {
        let damaged = |error: object::Error| SymbolsError::Damaged(error.to_string());
        let file = ElfFile::<H>::parse(bytes).map_err(damaged)?;
        let has_all_functions = file.symbol_table().is_some();
        let mut functions: Vec<_> = file
            .symbols()
            .chain(file.dynamic_symbols())
            .filter(|symbol| symbol.is_definition() && symbol.kind() == SymbolKind::Text)
            .filter_map(|symbol| {
                let name = symbol.name().ok().filter(|name| !name.is_empty())?.to_owned();
                Some(Function { start: symbol.address(), size: symbol.size(), name })
            })
            .take(MOST_FUNCTIONS)
            .collect();
        functions.sort_by(|one, other| (one.start, &one.name).cmp(&(other.start, &other.name)));
        functions.dedup();
        let mut left = LARGEST_DEBUG;
        let load = |id: SectionId| section(&file, id, &mut left);
        let dwarf = Dwarf::load(load)?;
        let has_units = file.section_by_name(".debug_info").is_some()
            && file.section_by_name(".debug_line").is_some();
        // Broken debug information is none; the names are still there.
        let is_usable = has_units && is_bounded(&dwarf);
        let context = is_usable.then(|| Context::from_dwarf(dwarf).ok()).flatten();
        let build_id = file.build_id().ok().flatten();
        Ok(Self {
            name: name.to_owned(),
            functions,
            context,
            build_id: build_id.map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()),
            is_packaged: false,
            has_all_functions,
            first: file.segments().map(|segment| segment.address()).min().unwrap_or_default(),
        })
    }

    /// The same, of a file that a package had: nothing is to be said of what it lacks.
    #[must_use]
    pub fn packaged(self) -> Self {
        Self { is_packaged: true, ..self }
    }

    /// The name of the image.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it tells files and lines.
    pub fn has_lines(&self) -> bool {
        self.context.is_some()
    }

    /// The identity of its build, as hexadecimal digits, if it has one.
    pub fn build_id(&self) -> Option<&str> {
        self.build_id.as_deref()
    }

    /// Where functions of this name begin.
    pub(super) fn starts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Function> {
        self.functions.iter().filter(move |function| function.name == name)
    }

    /// The functions whose names fit.
    pub(super) fn functions_where(
        &self,
        fits: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(move |function| fits(&function.name))
    }

    /// The function that an address is in.
    pub(super) fn function(&self, address: u64) -> Option<&Function> {
        let after = self.functions.partition_point(|function| function.start <= address);
        let before = self.functions[..after].iter().rev();
        // Some begin at one place; one without a size is a label in assembler.
        let start = self.functions.get(after.checked_sub(1)?)?.start;
        let mut same = before.take_while(|function| function.start == start);
        same.clone()
            .find(|function| address - function.start < function.size)
            .or_else(|| same.find(|function| function.size == 0))
    }

    /// The functions that were running at an address of the file, the innermost first; more than one
    /// where some are put into others.
    pub fn lines(&self, address: u64) -> Vec<Line> {
        let Some(context) = &self.context else { return Vec::new() };
        let Ok(mut frames) = context.find_frames(address).skip_all_loads() else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            let location = frame.location.as_ref();
            let name = frame.function.as_ref();
            lines.push(Line {
                function: name.and_then(|name| Some(name.raw_name().ok()?.into_owned())),
                file: location.and_then(|location| Some(location.file?.to_owned())),
                line: location.and_then(|location| location.line).filter(|line| *line > 0),
            });
        }
        lines
    }
}

/// A section's bytes, unpacked; none where there is no such section.
fn section<'a>(
    file: &impl Object<'a>,
    id: SectionId,
    left: &mut u64,
) -> Result<Reader, SymbolsError> {
    let empty = || Ok(Reader::new(Arc::from([]), LittleEndian));
    let Some(section) = file.section_by_name(id.name()) else { return empty() };
    let broken = || SymbolsError::Packed(id.name());
    let data = section.compressed_data().map_err(|_| broken())?;
    if data.uncompressed_size > *left {
        return Err(broken());
    }
    *left -= data.uncompressed_size;
    let mut unpacked = Vec::new();
    let limit = data.uncompressed_size;
    let read = match data.format {
        CompressionFormat::None => {
            return Ok(Reader::new(Arc::from(data.data), LittleEndian));
        }
        CompressionFormat::Zlib => {
            flate2::read::ZlibDecoder::new(data.data).take(limit).read_to_end(&mut unpacked)
        }
        CompressionFormat::Zstandard => zstd::Decoder::new(data.data)
            .and_then(|decoder| decoder.take(limit).read_to_end(&mut unpacked)),
        _ => return Err(broken()),
    };
    read.map_err(|_| broken())?;
    Ok(Reader::new(Arc::from(unpacked), LittleEndian))
}
