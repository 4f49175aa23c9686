//! Functions, files and lines for the frames of a panic.
//!
//! The kernel names a function where the image that it loaded has the name, and never a line. Files
//! on the host know more: the driver as it was linked, before anything was stripped from it, and
//! the kernel of the package. Where an image was loaded follows from a frame whose function the
//! file has too (src/system/kernel/elf.cpp: the kernel is where it is linked for, an add-on where
//! there was room); that all such frames give one place, at the beginning of a page, shows that the
//! file is what ran.

mod bounded;
mod demangle;
mod file;
mod gdb;
mod same;

use std::collections::BTreeSet;
use std::fmt;

use crate::kdl::{Frame, Inlined, Panic, Place};

pub use demangle::demangle;
pub use file::{Line, Symbols, SymbolsError};
pub use gdb::{gdb_arguments, gdb_kernel_arguments};
pub use same::is_same_code;

/// Where the kernel is linked for, at the least (src/system/ldscripts/x86_64/kernel.ld).
const KERNEL: u64 = 0xffff_ffff_8000_0000;
/// Images are loaded at multiples of this.
const PAGE: u64 = 0x1000;

/// What is to be said of the symbols that were used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remark {
    /// No frame is of this image.
    NotInTrace(String),
    /// The file is not what ran.
    Mismatch(String),
    /// It is not known where the image was, for no frame names a function that the file has.
    NoPlace(String),
    /// The file names only what it exports.
    Stripped(String),
    /// The file has no lines.
    NoLines(String),
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInTrace(name) => write!(f, "no frame is of an image called `{name}`"),
            Self::Mismatch(name) => write!(
                f,
                "`{name}` is not the file that ran: its functions are at other places, so that it \
                 is not used"
            ),
            Self::NoPlace(name) => write!(
                f,
                "it is not known where `{name}` was loaded: no frame names a function that it has"
            ),
            Self::Stripped(name) => write!(
                f,
                "`{name}` is stripped: functions that it does not export have no names, and no \
                 frame has a line"
            ),
            Self::NoLines(name) => write!(
                f,
                "`{name}` has no debug information, so that its frames have no lines: compile with \
                 `-g`"
            ),
        }
    }
}

/// Names the functions, files and lines of a panic's frames, as far as these images know them.
pub fn symbolise(panic: &mut Panic, images: &[Symbols]) -> BTreeSet<Remark> {
    let mut remarks = BTreeSet::new();
    for image in images {
        let base = match image.place(panic) {
            Ok(base) => base,
            Err(remark) => {
                // What nobody gave need not be of use.
                if !image.is_packaged || matches!(remark, Remark::Mismatch(_)) {
                    remarks.insert(remark);
                }
                continue;
            }
        };
        for frame in all_frames(panic).filter(|frame| image.is_of(frame)) {
            image.apply(base, frame);
        }
        if image.is_packaged {
            // Those of packages have no lines, and some no names.
            continue;
        }
        remarks.extend(image.lacks());
    }
    for frame in all_frames(panic) {
        if let Some(symbol) = &mut frame.symbol {
            *symbol = demangle(symbol);
        }
    }
    panic.rename();
    remarks
}

impl Symbols {
    /// What a panic's frames will not have for want of symbols in this file.
    pub fn lacks(&self) -> Option<Remark> {
        if !self.has_all_functions {
            return Some(Remark::Stripped(self.name.clone()));
        }
        // The kernel of a package never has any.
        let has_none = !self.has_lines() && self.first < KERNEL;
        has_none.then(|| Remark::NoLines(self.name.clone()))
    }
}

fn all_frames(panic: &mut Panic) -> impl Iterator<Item = &mut Frame> {
    let others = panic.other_threads.iter_mut().flat_map(|trace| &mut trace.frames);
    panic.frames.iter_mut().chain(&mut panic.guilty).chain(others)
}

/// The images that the frames of panics are of, by their paths or names, but for the kernel and those
/// that these symbols are of.
pub fn unknown_images<'p>(panics: &'p [Panic], images: &[Symbols]) -> BTreeSet<&'p str> {
    let others = |panic: &'p Panic| panic.other_threads.iter().flat_map(|trace| &trace.frames);
    let frames = panics.iter().flat_map(|panic| panic.frames.iter().chain(others(panic)));
    frames
        .filter(|frame| !frame.is_kernel() && !images.iter().any(|image| image.is_of(frame)))
        .filter_map(|frame| frame.image.as_deref())
        .collect()
}

impl Symbols {
    /// Whether a frame is of this image.
    fn is_of(&self, frame: &Frame) -> bool {
        frame.image_name().is_some_and(|name| {
            // `.debug`, `.so` and the like are what the host calls a file.
            name == self.name
                || self.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))
        })
    }

    /// What is to be added to an address of the file, to get the one in the trace of a panic.
    ///
    /// # Errors
    /// It is not known, or the file is not what ran.
    pub fn place(&self, panic: &Panic) -> Result<u64, Remark> {
        let others = panic.other_threads.iter().flat_map(|trace| &trace.frames);
        let frames = panic.frames.iter().chain(others);
        self.base(&frames.filter(|frame| self.is_of(frame)).collect::<Vec<_>>())
    }

    fn base(&self, frames: &[&Frame]) -> Result<u64, Remark> {
        if frames.is_empty() {
            return Err(Remark::NotInTrace(self.name.clone()));
        }
        let mismatch = || Remark::Mismatch(self.name.clone());
        // Of each frame the places that it allows; a name can stand for several functions.
        let mut possible: Option<BTreeSet<u64>> = None;
        for frame in frames {
            let Some(bases) = self.bases(frame) else { continue };
            let bases = match possible {
                None => bases,
                Some(before) => before.intersection(&bases).copied().collect(),
            };
            if bases.is_empty() {
                return Err(mismatch());
            }
            possible = Some(bases);
        }
        let Some(possible) = possible else {
            return Err(Remark::NoPlace(self.name.clone()));
        };
        possible.first().copied().ok_or_else(mismatch)
    }

    /// The places of the image that a frame allows; `None` if it says nothing of them.
    fn bases(&self, frame: &Frame) -> Option<BTreeSet<u64>> {
        let is_kernel = frame.is_kernel();
        let fits = |base: &u64| if is_kernel { *base == 0 } else { base.is_multiple_of(PAGE) };
        let by_offset = frame.offset.filter(|_| !is_kernel).and_then(|offset| {
            // An image begins with the page that its first segment is in.
            frame.address.checked_sub(offset)?.checked_sub(self.first & !(PAGE - 1))
        });
        let written = frame.symbol.as_deref().or(frame.nearest_symbol.as_deref());
        let by_name: Option<BTreeSet<u64>> =
            written.zip(frame.symbol_offset).map(|(name, offset)| {
                let name = name.strip_suffix("()").unwrap_or(name);
                let is_exact = frame.symbol.is_some();
                self.named(name)
                    .filter(|function| !is_exact || function.size == 0 || offset <= function.size)
                    .filter_map(|function| {
                        frame.address.checked_sub(offset)?.checked_sub(function.start)
                    })
                    .filter(fits)
                    .collect()
            });
        match (by_offset, by_name) {
            (None, None) => None,
            (Some(base), None) => Some(BTreeSet::from([base]).into_iter().filter(fits).collect()),
            (None, Some(bases)) => Some(bases),
            (Some(base), Some(bases)) => {
                Some(bases.into_iter().filter(|other| *other == base).collect())
            }
        }
    }

    /// Functions that the kernel would write so.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a file::Function> {
        // With its arguments, it was demangled.
        let is_demangled = name.contains(['(', ':', '<']);
        self.starts(name).chain(
            self.functions_where(move |mangled| is_demangled && demangle::is_same(mangled, name)),
        )
    }

    fn apply(&self, base: u64, frame: &mut Frame) {
        let Some(address) = frame.address.checked_sub(base) else { return };
        if !frame.is_kernel() {
            frame.offset = address.checked_sub(self.first & !(PAGE - 1));
        }
        // A call that does not return may be the last instruction of its function.
        let inside = if frame.is_exact { address } else { address.saturating_sub(1) };
        if let Some(function) = self.function(inside) {
            frame.symbol = Some(function.name.clone());
            frame.symbol_offset = Some(address - function.start);
        }
        let lines = self.lines(inside);
        if let Some(innermost) = lines.first() {
            frame.file.clone_from(&innermost.file);
            frame.line = innermost.line;
        }
        frame.inlined = lines
            .iter()
            .zip(lines.iter().skip(1))
            .map(|(line, outer)| Inlined {
                symbol: line.function.as_deref().map(demangle),
                file: line.file.clone(),
                line: line.line,
                called_from: Place { file: outer.file.clone(), line: outer.line },
            })
            .collect();
    }
}
