//! What the kernel's loader reads of an ELF file.

use std::collections::HashMap;

use object::elf::{
    DT_HASH, DT_INIT, DT_INIT_ARRAY, DT_JMPREL, DT_NEEDED, DT_NULL, DT_PLTRELSZ, DT_RELA,
    DT_RELASZ, DT_SONAME, DT_STRTAB, DT_SYMTAB, DynamicTag, FileHeader64, PT_DYNAMIC, PT_LOAD,
    ProgramHeader64, R_X86_64_64, R_X86_64_RELATIVE, Rela64, Sym64,
};
use object::read::elf::{FileHeader, ProgramHeader, Rela, Sym};
use object::{LittleEndian as LE, pod};

/// Symbols and relocations that are read; no driver has as many.
const MOST: usize = 1 << 20;

/// Libraries and modules by name that are listed.
const MOST_NAMES: usize = 64;
/// Bytes of such a name (headers/posix/limits.h, B_FILE_NAME_LENGTH).
const LONGEST_NAME: usize = 256;

/// A file is not one that the loader could look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// It does not begin like an ELF file.
    #[error("not an ELF file")]
    NotElf,
    /// It is for 32 bits.
    #[error("an ELF file for 32 bits, which is not checked yet")]
    Bits32,
    /// It is big-endian.
    #[error("a big-endian ELF file")]
    BigEndian,
    /// A part of it lies outside, or contradicts another.
    #[error("the ELF file is damaged: {0}")]
    Damaged(&'static str),
}

/// A file, as far as the loader looks.
#[derive(Debug)]
pub(super) struct File<'a> {
    bytes: &'a [u8],
    pub(super) machine: u16,
    pub(super) kind: u16,
    pub(super) loads: Vec<Segment>,
    /// The values of the dynamic section, the last of each tag.
    pub(super) dynamic: HashMap<i64, u64>,
    /// The places of the names of libraries that it needs, in the table of strings.
    needed: Vec<u64>,
    pub(super) symbols: Vec<Symbol>,
    pub(super) relocations: Vec<Relocation>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) flags: u32,
    pub(super) address: u64,
    pub(super) size: u64,
    offset: u64,
    in_file: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Symbol {
    pub(super) name: Vec<u8>,
    pub(super) kind: u8,
    pub(super) weak: bool,
    pub(super) defined: bool,
    pub(super) address: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Relocation {
    pub(super) place: u64,
    pub(super) kind: u32,
    /// The address that it makes the place hold, where that is known before loading.
    pub(super) target: Option<u64>,
}

impl<'a> File<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, ElfError> {
        if !bytes.starts_with(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        match (bytes.get(4), bytes.get(5)) {
            (Some(1), _) => return Err(ElfError::Bits32),
            (_, Some(2)) => return Err(ElfError::BigEndian),
            _ => {}
        }
        let header =
            FileHeader64::<LE>::parse(bytes).map_err(|_| ElfError::Damaged("its header"))?;
        let headers = header
            .program_headers(LE, bytes)
            .map_err(|_| ElfError::Damaged("its program headers"))?;
        let segment = |header: &ProgramHeader64<LE>| Segment {
            flags: header.p_flags(LE).0,
            address: header.p_vaddr(LE),
            size: header.p_memsz(LE),
            offset: header.p_offset(LE),
            in_file: header.p_filesz(LE),
        };
        let of = |kind| headers.iter().filter(move |header| header.p_type(LE) == kind);
        let mut this = Self {
            bytes,
            machine: header.e_machine(LE).0,
            kind: header.e_type(LE).0,
            loads: of(PT_LOAD).map(segment).collect(),
            dynamic: HashMap::new(),
            needed: Vec::new(),
            symbols: Vec::new(),
            relocations: Vec::new(),
        };
        if let Some(dynamic) = of(PT_DYNAMIC).next() {
            let at = usize::try_from(dynamic.p_offset(LE)).unwrap_or(usize::MAX);
            let size = usize::try_from(dynamic.p_filesz(LE)).unwrap_or(usize::MAX);
            let section = at.checked_add(size).and_then(|end| bytes.get(at..end));
            let section = section.ok_or(ElfError::Damaged("its dynamic section"))?;
            for entry in section.chunks_exact(16) {
                let (tag, value) = (number(entry, 0) as i64, number(entry, 8));
                if tag == DT_NULL.0 {
                    break;
                }
                if tag == DT_NEEDED.0 {
                    this.needed.push(value);
                }
                this.dynamic.insert(tag, value);
            }
        }
        this.read_symbols()?;
        this.read_relocations()?;
        Ok(this)
    }

    pub(super) fn tag(&self, tag: DynamicTag) -> Option<u64> {
        self.dynamic.get(&tag.0).copied()
    }

    /// The bytes of the file from an address on, to the end of its segment.
    pub(super) fn at(&self, address: u64) -> Option<&'a [u8]> {
        let segment = self.loads.iter().find(|segment| {
            address >= segment.address && address - segment.address < segment.in_file
        })?;
        let start = usize::try_from(segment.offset.checked_add(address - segment.address)?).ok()?;
        let end = usize::try_from(segment.offset.checked_add(segment.in_file)?).ok()?;
        self.bytes.get(start..end.min(self.bytes.len()))
    }

    /// The text at an address.
    pub(super) fn text(&self, address: u64) -> Option<&'a [u8]> {
        let bytes = self.at(address)?;
        bytes.get(..bytes.iter().position(|byte| *byte == 0)?)
    }

    /// The pointer at an address, as it will be.
    pub(super) fn pointer(&self, address: u64) -> Option<u64> {
        let found = self.relocations.iter().find(|relocation| relocation.place == address);
        found?.target
    }

    pub(super) fn symbol(&self, name: &[u8]) -> Option<&Symbol> {
        self.symbols.iter().find(|symbol| symbol.defined && symbol.name == name)
    }

    /// Symbols are counted by the hash table, as the loader does; without one, as far as the
    /// string table is away.
    fn read_symbols(&mut self) -> Result<(), ElfError> {
        let (Some(table), Some(strings)) = (self.tag(DT_SYMTAB), self.tag(DT_STRTAB)) else {
            return Ok(());
        };
        let damaged = ElfError::Damaged("its symbols");
        let count = match self.tag(DT_HASH).and_then(|at| self.at(at)) {
            Some(hash) => hash
                .get(4..8)
                .map_or(0, |raw| u64::from(u32::from_le_bytes(raw.try_into().unwrap_or_default()))),
            None => strings.saturating_sub(table) / size_of::<Sym64<LE>>() as u64,
        };
        let count = usize::try_from(count).ok().filter(|count| *count <= MOST).ok_or(damaged)?;
        if count == 0 {
            return Ok(());
        }
        let bytes = self.at(table).ok_or(damaged)?;
        let (entries, _) =
            pod::slice_from_bytes::<Sym64<LE>>(bytes, count).map_err(|()| damaged)?;
        for entry in entries.iter().skip(1) {
            let name = strings.checked_add(u64::from(entry.st_name(LE))).ok_or(damaged)?;
            let name = self.text(name).ok_or(damaged)?.to_vec();
            if name.is_empty() || entry.is_local() {
                continue;
            }
            self.symbols.push(Symbol {
                name,
                kind: entry.st_type().0,
                weak: entry.is_weak(),
                defined: !entry.is_undefined(LE),
                address: entry.st_value(LE),
            });
        }
        Ok(())
    }

    fn read_relocations(&mut self) -> Result<(), ElfError> {
        let damaged = ElfError::Damaged("its relocations");
        let tables = [
            (self.tag(DT_RELA), self.tag(DT_RELASZ)),
            (self.tag(DT_JMPREL), self.tag(DT_PLTRELSZ)),
        ];
        for (table, size) in tables {
            let (Some(table), Some(size)) = (table, size) else { continue };
            let count = usize::try_from(size).unwrap_or(usize::MAX) / size_of::<Rela64<LE>>();
            if count == 0 {
                continue;
            }
            let bytes = self.at(table).filter(|_| count <= MOST).ok_or(damaged)?;
            let (entries, _) =
                pod::slice_from_bytes::<Rela64<LE>>(bytes, count).map_err(|()| damaged)?;
            for entry in entries {
                let kind = entry.r_type(LE, false).0;
                let addend = entry.r_addend(LE) as u64;
                let symbol = self.symbol_value(entry.r_sym(LE, false));
                self.relocations.push(Relocation {
                    place: entry.r_offset(LE),
                    kind,
                    target: match kind {
                        _ if kind == R_X86_64_RELATIVE.0 => Some(addend),
                        _ if kind == R_X86_64_64.0 => {
                            symbol.map(|value| value.wrapping_add(addend))
                        }
                        _ => None,
                    },
                });
            }
        }
        Ok(())
    }

    /// The address of a symbol by its index, if it is defined here.
    fn symbol_value(&self, index: u32) -> Option<u64> {
        let place = u64::from(index).checked_mul(size_of::<Sym64<LE>>() as u64)?;
        let entry = self.at(self.tag(DT_SYMTAB)?.checked_add(place)?)?;
        let (entry, _) = pod::from_bytes::<Sym64<LE>>(entry).ok()?;
        (!entry.is_undefined(LE)).then(|| entry.st_value(LE))
    }

    pub(super) fn soname(&self) -> Option<&'a [u8]> {
        let place = self.tag(DT_STRTAB)?.checked_add(self.tag(DT_SONAME)?)?;
        self.text(place)
    }

    /// The libraries that it needs.
    pub(super) fn libraries(&self) -> Vec<String> {
        let Some(strings) = self.tag(DT_STRTAB) else { return Vec::new() };
        let names = self.needed.iter().take(MOST_NAMES);
        names
            .filter_map(|place| self.text(strings.checked_add(*place)?))
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    /// Texts in what is loaded that begin with `start` and end with `end`, each once.
    pub(super) fn texts(&self, start: &str, end: &str) -> Vec<String> {
        let mut found = Vec::new();
        for segment in &self.loads {
            let bytes = self.at(segment.address).unwrap_or_default();
            for text in bytes.split(|byte| *byte == 0) {
                let fits = text.starts_with(start.as_bytes())
                    && text.ends_with(end.as_bytes())
                    && text.len() < LONGEST_NAME
                    && text.iter().all(|byte| byte.is_ascii_graphic());
                let text = String::from_utf8_lossy(text);
                if fits && found.len() < MOST_NAMES && found.iter().all(|known| *known != text) {
                    found.push(text.into_owned());
                }
            }
        }
        found
    }

    pub(super) fn has_constructors(&self) -> bool {
        self.tag(DT_INIT).is_some() || self.tag(DT_INIT_ARRAY).is_some()
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |raw| u64::from_le_bytes(raw.try_into().unwrap_or_default()))
}
