//! A program and the shared libraries that it needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use host::Sysroot;
use object::LittleEndian;
use object::elf::{self, FileHeader64};
use object::read::StringTable;
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
        self.file(path, 0o755, loaded_part(bytes))?;
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
            self.file(&found.to_string_lossy(), 0o755, loaded_part(bytes))?;
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
    // By segments, as the loader does it, for the sections may have been cut off.
    let segments = header.program_headers(endian, bytes).map_err(elf_error)?;
    let mut needs = Needs::default();
    let mut entries = &[][..];
    for segment in segments {
        if let Some(interpreter) = segment.interpreter(endian, bytes).map_err(elf_error)? {
            needs.interpreter = Some(text(interpreter).ok_or_else(|| bad("a bad loader path"))?);
        }
        if let Some(found) = segment.dynamic(endian, bytes).map_err(elf_error)? {
            entries = found;
        }
    }
    let value = |tag| {
        let entry = entries.iter().find(|entry| entry.tag(endian) == tag)?;
        Some(entry.d_val.get(endian))
    };
    let (Some(start), Some(size)) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else {
        return Ok(needs);
    };
    let strings = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
        .find_map(|segment| segment.data_range(endian, bytes, start, size).ok().flatten())
        .ok_or_else(|| bad("its table of names is nowhere"))?;
    let strings = StringTable::new(strings, 0, size);
    for entry in entries {
        if entry.tag(endian) == elf::DT_NEEDED {
            let name = entry.string(endian, strings).map_err(elf_error)?;
            needs.libraries.push(text(name).ok_or_else(|| bad("a bad library name"))?);
        }
    }
    Ok(needs)
}

/// Cuts off what nobody loads: symbols and debugging information, which lie behind the segments,
/// and are most of a debug build.
fn loaded_part(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = || -> Option<usize> {
        let header = FileHeader64::<LittleEndian>::parse(&bytes[..]).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, &bytes[..]).ok()?;
        let ends = segments
            .iter()
            .map(|segment| segment.p_offset(endian).checked_add(segment.p_filesz(endian)));
        let table = header
            .e_phoff(endian)
            .checked_add(u64::from(header.e_phentsize(endian)) * u64::from(header.e_phnum(endian)));
        let end = ends.chain([table]).collect::<Option<Vec<u64>>>()?.into_iter().max()?;
        usize::try_from(end).ok().filter(|end| *end <= bytes.len())
    };
    let Some(end) = end() else { return bytes };
    bytes.truncate(end);
    // The table of sections went with them (System V ABI, ELF header: `e_shoff`, `e_shnum`,
    // `e_shstrndx`).
    for field in [0x28..0x30, 0x3c..0x40] {
        if let Some(field) = bytes.get_mut(field) {
            field.fill(0);
        }
    }
    bytes
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
    fn what_is_cut_off_is_not_needed_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let cut = loaded_part(this.clone());
        assert_eq!(needs(Path::new("p"), &cut).unwrap(), needs(Path::new("p"), &this).unwrap());
        assert!(cut.len() < this.len() * 9 / 10, "{} of {} bytes", cut.len(), this.len());
        let program = dir.path().join("cut");
        std::fs::write(&program, cut).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let ran = std::process::Command::new(&program).arg("--list").output().unwrap();
        assert!(String::from_utf8_lossy(&ran.stdout).contains("what_is_cut_off"));
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
