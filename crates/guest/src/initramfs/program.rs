//! A program and the shared libraries that it needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use host::Sysroot;
use object::LittleEndian;
use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

use super::{Initramfs, InitramfsError};

/// What a program or a library may hold, in bytes; an unstripped debug build is large.
const PROGRAM_LIMIT: u64 = 512 << 20;

/// How many libraries one program may pull in.
const LIBRARIES_LIMIT: usize = 256;

/// Where the loader looks when nothing tells it otherwise (ld.so(8)), for the file layouts of
/// Debian, Fedora and Arch.
const LIBRARY_DIRS: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// What a program asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    /// The loader (`PT_INTERP`).
    interpreter: Option<String>,
    /// The libraries (`DT_NEEDED`).
    libraries: Vec<String>,
}

impl Initramfs {
    /// Adds the program at `source` of the host as `path`. Where it is linked dynamically, its
    /// loader and libraries are added at the places where the host has them.
    ///
    /// # Errors
    /// The file is not an x86-64 ELF program, cannot be read, or a library is missing.
    pub fn program(
        &mut self,
        host: &Sysroot,
        source: &Path,
        path: &str,
    ) -> Result<(), InitramfsError> {
        let bytes = host.read_limited(source, PROGRAM_LIMIT)?;
        let needs = needs(source, &bytes)?;
        self.file(path, 0o755, bytes)?;
        let mut seen: BTreeSet<String> = BTreeSet::new();
        if let Some(loader) = needs.interpreter {
            let bytes = host.read_limited(&loader, PROGRAM_LIMIT)?;
            seen.extend(Path::new(&loader).file_name().map(|name| name.to_string_lossy().into()));
            self.file(&loader, 0o755, bytes)?;
        }
        let mut wanted: Vec<(PathBuf, String)> =
            needs.libraries.into_iter().map(|library| (source.to_owned(), library)).collect();
        while let Some((by, library)) = wanted.pop() {
            if !seen.insert(library.clone()) {
                continue;
            }
            if seen.len() > LIBRARIES_LIMIT {
                let reason = format!("it needs more than {LIBRARIES_LIMIT} libraries");
                return Err(InitramfsError::NotProgram { path: source.to_owned(), reason });
            }
            let found = find(host, &library)
                .ok_or_else(|| InitramfsError::NoLibrary { path: by, library: library.clone() })?;
            let bytes = host.read_limited(&found, PROGRAM_LIMIT)?;
            let more = self::needs(&found, &bytes)?.libraries;
            wanted.extend(more.into_iter().map(|library| (found.clone(), library)));
            self.file(&found.to_string_lossy(), 0o755, bytes)?;
        }
        Ok(())
    }
}

fn find(host: &Sysroot, library: &str) -> Option<PathBuf> {
    if library.contains('/') {
        return library.starts_with('/').then(|| PathBuf::from(library));
    }
    LIBRARY_DIRS.iter().map(|dir| Path::new(dir).join(library)).find(|path| host.exists(path))
}

fn needs(path: &Path, bytes: &[u8]) -> Result<Needs, InitramfsError> {
    let bad =
        |reason: &str| InitramfsError::NotProgram { path: path.to_owned(), reason: reason.into() };
    let elf_error = |error: object::Error| bad(&error.to_string());
    let header = FileHeader64::<LittleEndian>::parse(bytes).map_err(elf_error)?;
    let endian = header.endian().map_err(elf_error)?;
    if header.e_machine(endian) != elf::EM_X86_64 {
        return Err(bad("not an x86-64 program"));
    }
    let mut needs = Needs::default();
    for segment in header.program_headers(endian, bytes).map_err(elf_error)? {
        if let Some(interpreter) = segment.interpreter(endian, bytes).map_err(elf_error)? {
            needs.interpreter = Some(text(interpreter).ok_or_else(|| bad("a bad loader path"))?);
        }
    }
    let sections = header.sections(endian, bytes).map_err(elf_error)?;
    let Some((entries, strings)) = sections.dynamic(endian, bytes).map_err(elf_error)? else {
        return Ok(needs);
    };
    let strings = sections.strings(endian, bytes, strings).map_err(elf_error)?;
    for entry in entries {
        if entry.tag(endian) == elf::DT_NEEDED {
            let name = entry.string(endian, strings).map_err(elf_error)?;
            needs.libraries.push(text(name).ok_or_else(|| bad("a bad library name"))?);
        }
    }
    Ok(needs)
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_owned()).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_brings_its_loader_and_libraries() {
        let host = Sysroot::host().unwrap();
        let this = std::env::current_exe().unwrap();
        let mut tree = Initramfs::new();
        tree.program(&host, &this, "bin/this").unwrap();
        assert!(tree.contains("bin/this"));
        assert!(tree.contains("lib64/ld-linux-x86-64.so.2"));
        assert!(tree.nodes.keys().any(|path| path.ends_with("/libc.so.6")));
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let host = Sysroot::at(dir.path()).unwrap();
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF", &[0x7f; 64]] {
            std::fs::write(dir.path().join("p"), bytes).unwrap();
            let error = Initramfs::new().program(&host, Path::new("/p"), "p").unwrap_err();
            assert!(matches!(error, InitramfsError::NotProgram { .. }), "{error}");
        }
    }

    #[test]
    fn a_missing_library_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let host = Sysroot::at(dir.path()).unwrap();
        std::fs::create_dir_all(dir.path().join("lib64")).unwrap();
        let this = std::env::current_exe().unwrap();
        std::fs::copy(&this, dir.path().join("p")).unwrap();
        std::fs::write(dir.path().join("lib64/ld-linux-x86-64.so.2"), "loader").unwrap();
        let error = Initramfs::new().program(&host, Path::new("/p"), "p").unwrap_err();
        assert!(matches!(error, InitramfsError::NoLibrary { .. }), "{error}");
    }
}
