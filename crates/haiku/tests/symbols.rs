//! Symbols of real drivers: the examples, built by the compiler of this machine, and by clang.
//!
//! What clang built is in `data/clang`, for not every machine has it: Debian 12's clang 14.0.6, by
//! `make CC='clang -ffile-prefix-map=…=/src/edu' CXX='clang++ …'`, with DWARF 5.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use haiku::driver::{Kernel, Kind, check};
use haiku::kdl::{Event, Panic, Reader};
use haiku::symbols::{Remark, Symbols, is_same_code, symbolise};
use object::{Object, ObjectSymbol};

/// Builds the drivers; `option` is one more for the compilers.
fn make(option: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/edu");
    let made = Command::new("make")
        .arg("-C")
        .arg(examples)
        .arg(format!("OUT={}", directory.path().display()))
        .args([format!("CC=gcc {option}"), format!("CXX=g++ {option}")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(made.stderr.is_empty(), "{}", String::from_utf8_lossy(&made.stderr));
    directory
}

/// Where the drivers are built, once.
fn build() -> &'static Path {
    static BUILT: OnceLock<tempfile::TempDir> = OnceLock::new();
    BUILT.get_or_init(|| make("")).path()
}

/// Where the drivers are that clang built.
fn by_clang() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/clang")
}

fn driver(name: &str) -> (PathBuf, Vec<u8>) {
    let path = build().join(name);
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

/// The file without what `strip` with these options takes out.
fn stripped(name: &str, option: &str) -> Vec<u8> {
    let to = build().join(format!("{name}{option}"));
    let status = Command::new("strip")
        .arg(option)
        .arg("-o")
        .args([&to, &build().join(name)])
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::read(to).unwrap()
}

#[test]
fn the_examples_are_loadable() {
    let kernel = Kernel::parse(&driver("_KERNEL_").1).unwrap();
    for (name, kind, place) in [
        ("edu_legacy", Kind::Legacy, None),
        ("edu_driver", Kind::Driver, Some("drivers/misc/edu_driver")),
    ] {
        for bytes in [driver(name).1, std::fs::read(by_clang().join(name)).unwrap()] {
            let report = check(&bytes, Some(&kernel), place).unwrap();
            assert_eq!(report.kind, kind);
            assert_eq!(report.findings, [], "{name}");
        }
    }
}

#[test]
fn a_program_is_the_same_stripped_or_not() {
    let (_, whole) = driver("edu_legacy");
    for option in ["--strip-debug", "--strip-all"] {
        assert!(is_same_code(&whole, &stripped("edu_legacy", option)), "{option}");
    }
    assert!(!is_same_code(&whole, &driver("edu_driver").1));
    assert!(!is_same_code(&whole, b"text") && !is_same_code(b"text", b"text"));
    // Without the identities of their builds, one instruction makes the difference.
    let bare = stripped("edu_legacy", "--remove-section=.note.gnu.build-id");
    assert!(Symbols::parse("edu_legacy", &bare).unwrap().build_id().is_none());
    assert!(is_same_code(&whole, &bare));
    let section = object::File::parse(&*bare).unwrap();
    let text = object::ObjectSection::file_range(&section.section_by_name(".text").unwrap());
    let mut other = bare.clone();
    other[usize::try_from(text.unwrap().0).unwrap()] ^= 1;
    assert!(!is_same_code(&whole, &other));
}

/// Function, file and line of every address, the innermost first, as binutils tells them.
fn by_addr2line(path: &Path, addresses: std::ops::Range<u64>) -> Vec<Vec<(String, String)>> {
    let mut child = Command::new("addr2line")
        .args(["-a", "-i", "-f", "-e"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let text: String = addresses.map(|address| format!("{address:#x}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found: Vec<Vec<(String, String)>> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("0x") {
            found.push(Vec::new());
            continue;
        }
        let place = lines.next().unwrap().split(" (discriminator").next().unwrap();
        // It has two ways to say that it knows no file.
        let place = if place == ":?" { "??:0" } else { place };
        let (file, line_number) = place.rsplit_once(':').unwrap();
        let file = match std::fs::canonicalize(file) {
            Ok(file) => file.display().to_string(),
            Err(_) => file.to_owned(),
        };
        found.last_mut().unwrap().push((line.to_owned(), format!("{file}:{line_number}")));
    }
    found
}

#[test]
fn every_address_is_told_as_addr2line_tells_it() {
    let narrow = make("-m32");
    for directory in [build(), &by_clang(), narrow.path()] {
        for name in ["edu_legacy", "edu_driver"] {
            agree(directory, name);
        }
    }
}

fn agree(directory: &Path, name: &str) {
    let path = directory.join(name);
    let bytes = std::fs::read(&path).unwrap();
    let symbols = Symbols::parse(name, &bytes).unwrap();
    let text = object::File::parse(&*bytes).unwrap();
    let section = object::ObjectSection::address;
    let text = text.section_by_name(".text").unwrap();
    let range = section(&text)..section(&text) + object::ObjectSection::size(&text);
    let expected = by_addr2line(&path, range.clone());
    assert_eq!(expected.len() as u64, range.end - range.start);
    let mut inlined = 0;
    for (address, expected) in range.zip(expected) {
        let lines = symbols.lines(address);
        inlined += usize::from(lines.len() > 1);
        let known = |line: Option<u32>| line.map_or("?".to_owned(), |line| line.to_string());
        let found: Vec<_> = lines
            .iter()
            .map(|line| {
                let file = line.file.as_deref().unwrap_or("??");
                let file = std::fs::canonicalize(file).unwrap_or(file.into());
                let function = line.function.as_deref().unwrap_or("??");
                (function.to_owned(), format!("{}:{}", file.display(), known(line.line)))
            })
            .collect();
        // Padding between functions is of none.
        let nothing = vec![("??".to_owned(), "??:0".to_owned())];
        let mut found = if found.is_empty() { nothing } else { found };
        // Names that C++ does not export are in the symbols only, and it takes them from there,
        // also for what is inlined; so it does where there is no function.
        for (found, expected) in found.iter_mut().zip(&expected) {
            if name == "edu_driver" || found.0 == "??" {
                found.0.clone_from(&expected.0);
            }
        }
        assert_eq!(found, expected, "{name} {address:#x}");
    }
    assert!(inlined > 100, "{name} has {inlined} addresses in inlined functions");
}

const BASE: u64 = 0xffff_ffff_8209_d000;

/// What the kernel would say of a panic in `image`, with frames at these addresses of the file, the
/// first interrupted by a page fault, the others calls. The names are those of exported functions,
/// as it finds them in a stripped file.
fn report(image: &str, frames: &[(u64, &str)]) -> Panic {
    let stack = 0xffff_ffff_8130_f8c0_u64;
    let (ip, _) = frames[0];
    let ip = ip + BASE;
    let mut text = format!(
        "PANIC: vm_page_fault: unhandled page fault in kernel space at 0x10, ip {ip:#x}\r\n\r\n\
         Welcome to Kernel Debugging Land...\r\nrevision: hrev59000\r\n\
         Thread 28 \"test\" running on CPU 0\r\nstack trace for thread 28 \"test\"\r\n    \
         kernel stack: 0xffffffff8130b000 to 0xffffffff81310000\r\n\
         frame                       caller             <image>:function + offset\r\n \
         0 {:016x} (+  32) ffffffff80159bcb   <kernel_x86_64> panic + 0xb7\r\n \
         1 {:016x} (+  64) ffffffff8015b5ec   <kernel_x86_64> intr_bottom + 0x80\r\n\
         kernel iframe at {:#x} (end = 0xffffffff8130fe70)\r\n \
         rip {ip:#x}    rbp {:#x} rflags 0x10246\r\n vector: 0xe, error code: 0x2\r\n",
        stack,
        stack + 64,
        stack + 64,
        stack + 128,
    );
    for (index, (address, place)) in frames.iter().enumerate() {
        text += &format!(
            "{:2} {:016x} (+{:4}) {:016x}   <{image}> {place}\r\n",
            index + 2,
            stack + 128 + 64 * index as u64,
            64,
            address + BASE
        );
    }
    text += &format!("{:2} {:016x} (+{:4}) {:016x}   \r\nkdebug> ", frames.len() + 2, 0, 0, 0);
    let mut found = None;
    let mut reader = Reader::default();
    reader.push(text.as_bytes(), |_| ());
    reader.finish(|event| {
        if let Event::Complete(panic) = event {
            found = Some(*panic);
        }
    });
    let panic = found.unwrap();
    assert!(!panic.corrupted, "{:?}\n{text}", panic.damage);
    panic
}

/// Where a function begins, and the first address in it that has this line among its lines.
fn address_of(symbols: &Symbols, bytes: &[u8], name: &str, has: &str) -> (u64, u64) {
    let file = object::File::parse(bytes).unwrap();
    let found =
        file.symbols().find(|symbol| symbol.name().is_ok_and(|other| other.starts_with(name)));
    let symbol = found.unwrap();
    let inside = (symbol.address()..symbol.address() + symbol.size()).find(|address| {
        let lines = symbols.lines(*address);
        lines.iter().any(|line| line.function.as_deref().is_some_and(|other| other.contains(has)))
    });
    (symbol.address(), inside.unwrap())
}

#[test]
fn a_panic_in_an_inlined_function_has_its_line() {
    for (name, function, written) in [
        ("edu_legacy", "device_write", "device_write"),
        ("edu_driver", "_ZN12_GLOBAL__N_13Edu5WriteEPKvPm", {
            "(anonymous namespace)::Edu::Write(void const*, unsigned long*)"
        }),
    ] {
        let bytes = driver(name).1;
        let symbols = Symbols::parse(name, &bytes).unwrap();
        let (_, inside) = address_of(&symbols, &bytes, function, "edu_touch");
        // A static function is told by the exported one before it.
        let file = object::File::parse(&*bytes).unwrap();
        let exported = file
            .dynamic_symbols()
            .filter(|symbol| symbol.is_definition() && symbol.address() <= inside)
            .filter(|symbol| symbol.kind() == object::SymbolKind::Text)
            .max_by_key(ObjectSymbol::address);
        let mut image = format!("/boot/home/config/non-packaged/add-ons/kernel/drivers/bin/{name}");
        let place = if let Some(symbol) = &exported {
            format!("{} (nearest) + {:#04x}", symbol.name().unwrap(), inside - symbol.address())
        } else {
            image += &format!("@{BASE:#x}");
            format!("<unknown> + {inside:#04x}")
        };
        let mut panic = report(&image, &[(inside, &place)]);
        assert_eq!(panic.guilty.as_ref().unwrap().symbol, None);
        assert_eq!(symbolise(&mut panic, &[symbols]).len(), 0);
        let guilty = panic.guilty.unwrap();
        assert_eq!(guilty.symbol.as_deref(), Some(written));
        assert_eq!(guilty.offset, Some(inside));
        let nearest = exported.map(|symbol| symbol.name().unwrap().to_owned());
        assert_eq!(guilty.nearest_symbol, nearest);
        let file = std::fs::canonicalize(guilty.file.unwrap()).unwrap();
        let source = std::fs::read_to_string(&file).unwrap();
        let line = source.lines().nth(guilty.line.unwrap() as usize - 1).unwrap();
        assert_eq!(line.trim(), "registers->unused[1] = 42;", "{}", file.display());
        let inlined: Vec<_> = guilty.inlined.iter().map(|f| f.symbol.as_deref().unwrap()).collect();
        let inlined = inlined.join(" ");
        assert!(inlined.starts_with("edu_touch"), "{inlined}");
        assert!(inlined.contains("edu_panic_null"), "{inlined}");
        assert!(panic.title.contains(name), "{}", panic.title);
    }
}

#[test]
fn what_a_file_lacks_is_said() {
    let name = "edu_legacy";
    let bytes = driver(name).1;
    let symbols = Symbols::parse(name, &bytes).unwrap();
    let (start, inside) = address_of(&symbols, &bytes, "device_write", "edu_touch");
    let exact = format!("device_write + {:#04x}", inside - start);
    let by_base = format!("<unknown> + {inside:#04x}");
    let image = format!("{name}@{BASE:#x}");
    let remarks = |image: &str, place: &str, bytes: &[u8], name: &str| {
        let mut panic = report(image, &[(inside, place)]);
        let remarks = symbolise(&mut panic, &[Symbols::parse(name, bytes).unwrap()]);
        let guilty = panic.guilty.unwrap();
        (remarks.into_iter().collect::<Vec<_>>(), guilty.symbol, guilty.line.is_some())
    };
    let written = Some("device_write".to_owned());
    assert_eq!(remarks(name, &exact, &bytes, name), (vec![], written.clone(), true));
    assert_eq!(remarks(&image, &by_base, &bytes, name), (vec![], written.clone(), true));
    assert_eq!(remarks(name, &exact, &bytes, "edu_legacy.debug"), (vec![], written.clone(), true));
    let without_lines = stripped(name, "--strip-debug");
    assert_eq!(
        remarks(name, &exact, &without_lines, name),
        (vec![Remark::NoLines(name.into())], written.clone(), false)
    );
    let without_names = stripped(name, "--strip-all");
    assert_eq!(remarks(&image, &by_base, &without_names, name).0, [Remark::Stripped(name.into())]);
    assert_eq!(remarks(name, &exact, &without_names, name).0, [Remark::Mismatch(name.into())]);
    // Another build has its functions elsewhere.
    let elsewhere = format!("device_write + {:#04x}", inside - start + 5);
    assert_eq!(
        remarks(name, &elsewhere, &bytes, name),
        (vec![Remark::Mismatch(name.into())], written.clone(), false)
    );
    assert_eq!(
        remarks("other", &exact, &bytes, name),
        (vec![Remark::NotInTrace(name.into())], written, false)
    );
    assert!(Symbols::parse(name, b"#!/bin/sh").is_err());
    assert!(Symbols::parse(name, &bytes[..200]).is_err());
}
