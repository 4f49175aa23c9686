//! Unified kernel images: PE files with a kernel, an initramfs and a command line as sections
//! (the UAPI group's specification "Unified Kernel Image").

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use host::{ReadError, Sysroot};
use object::read::ReadCache;
use object::read::pe::PeFile64;
use object::{Object, ObjectSection};

use super::{Digest, Hasher, Image, ImageError, Limits, Member};

/// What a section of text may hold, in bytes; the kernel takes a command line of some thousand.
const TEXT_LIMIT: u64 = 1 << 20;
/// How many sections are looked at; a PE file cannot have more than 96 for Windows, and ukify
/// makes a dozen for each profile.
const MOST_SECTIONS: usize = 1024;

/// A unified kernel image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    /// The file cannot be opened.
    #[error("the unified kernel image cannot be opened")]
    Open(#[from] ReadError),
    /// The file cannot be read.
    #[error("the unified kernel image {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file is no PE file, or a damaged one.
    #[error("{} is not a unified kernel image", path.display())]
    NotPe {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: object::read::Error,
    },
    /// A section is not there.
    #[error("{} has no section {name}", path.display())]
    NoSection {
        /// The file.
        path: PathBuf,
        /// The section.
        name: String,
    },
    /// The initramfs in it cannot be read.
    #[error("the initramfs in {} cannot be read", path.display())]
    Initramfs {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ImageError,
    },
}

/// A section of a PE file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, such as `.cmdline`.
    pub name: String,
    /// Where its contents begin in the file, in bytes.
    pub offset: u64,
    /// The length of its contents in bytes, without what pads them in the file.
    pub size: u64,
}

/// A unified kernel image, of which the sections are read where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uki {
    path: PathBuf,
    sections: Vec<Section>,
}

impl Uki {
    /// Opens the image at `path` of the host.
    ///
    /// # Errors
    /// It cannot be read or is no PE file of 64 bits.
    pub fn open(host: &Sysroot, path: impl AsRef<Path>) -> Result<Self, UkiError> {
        let path = path.as_ref();
        let sections = sections(host.open_file(path)?)
            .map_err(|source| UkiError::NotPe { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), sections })
    }

    /// Its sections, in order. Where one comes several times, the first belongs to the profile
    /// that is started by default.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    fn at(&self, host: &Sysroot, section: &Section) -> Result<impl Read + use<>, UkiError> {
        let failed = |source| UkiError::Read { path: self.path.clone(), source };
        let mut file = host.open_file(&self.path)?;
        file.seek(SeekFrom::Start(section.offset)).map_err(failed)?;
        Ok(file.take(section.size))
    }

    /// Reads a section of text, such as `.cmdline`, `.osrel` or `.uname`, without the zeros and
    /// white space at its end; `None` where there is no such section.
    ///
    /// # Errors
    /// The file cannot be read, or the section is larger than text is.
    pub fn text(&self, host: &Sysroot, name: &str) -> Result<Option<String>, UkiError> {
        let failed = |source| UkiError::Read { path: self.path.clone(), source };
        let Some(section) = self.section(name) else { return Ok(None) };
        if section.size > TEXT_LIMIT {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        let mut bytes = Vec::new();
        self.at(host, section)?.read_to_end(&mut bytes).map_err(failed)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(Some(text.trim_end_matches(['\0', '\n', ' ', '\t', '\r']).to_owned()))
    }

    /// Reads the initramfs of its section `.initrd`.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn initramfs(
        &self,
        host: &Sysroot,
        keep: impl Fn(&Member) -> bool,
    ) -> Result<Image, UkiError> {
        let section = self.section(".initrd").ok_or_else(|| UkiError::NoSection {
            path: self.path.clone(),
            name: ".initrd".to_owned(),
        })?;
        Image::read(self.at(host, section)?, keep, Limits::default())
            .map_err(|source| UkiError::Initramfs { path: self.path.clone(), source })
    }

    /// Reads the initramfs of a section, with digests in place of contents.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn digested(&self, host: &Sysroot, section: &Section) -> Result<Image, UkiError> {
        Image::digested(self.at(host, section)?, Limits::default())
            .map_err(|source| UkiError::Initramfs { path: self.path.clone(), source })
    }

    /// Returns the digest of a section.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn digest(&self, host: &Sysroot, section: &Section) -> Result<Digest, UkiError> {
        let mut hasher = Hasher::default();
        hasher
            .read(self.at(host, section)?)
            .map_err(|source| UkiError::Read { path: self.path.clone(), source })?;
        Ok(hasher.digest())
    }
}

/// The sections of a PE file.
pub(super) fn sections(file: impl Read + Seek) -> Result<Vec<Section>, object::read::Error> {
    let cache = ReadCache::new(file);
    let pe = PeFile64::parse(&cache)?;
    let mut found = Vec::new();
    for section in pe.sections().take(MOST_SECTIONS) {
        let name = String::from_utf8_lossy(section.name_bytes()?).into_owned();
        if let Some((offset, size)) = section.file_range() {
            found.push(Section { name, offset, size });
        }
    }
    Ok(found)
}
