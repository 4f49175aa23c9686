//! What it takes to build a driver on this machine: a small project to begin with, and what a
//! revision of Haiku gives to build against.

mod sdk;

pub use sdk::{LARGEST_SDK, Sdk, SdkError};

const MAKEFILE: &str = include_str!("templates/Makefile");
const IGNORED: &str = include_str!("templates/gitignore");
const LEGACY: &str = include_str!("templates/legacy.c");
const MODULE: &str = include_str!("templates/module.c");

/// Options of the compiler: this machine is not Haiku, a driver is not a program, and its code runs
/// at any address on the kernel's stack (build/jam/ArchitectureRules and KernelRules of Haiku).
const COMPILE: [&str; 13] = [
    "-nostdinc",
    "-ffreestanding",
    "-fPIC",
    "-U__linux__",
    "-U__unix__",
    "-D__HAIKU__=1",
    "-D_KERNEL_MODE=1",
    "-mno-red-zone",
    "-fno-omit-frame-pointer",
    "-fno-stack-protector",
    "-fcf-protection=none",
    "-fno-strict-aliasing",
    "-fno-delete-null-pointer-checks",
];

/// Directories of headers, below `develop/headers` of the package `haiku_devel`
/// (build/jam/HeadersRules).
const INCLUDES: [&str; 7] =
    ["os", "os/drivers", "os/kernel", "os/storage", "os/support", "posix", "config"];

/// Options of the linker: what the kernel's loader wants (src/system/kernel/elf.cpp,
/// load_kernel_add_on), as [`crate::driver::Rule`] has it.
const LINK: [&str; 8] = [
    "-shared",
    "-nostdlib",
    "-Wl,--hash-style=sysv",
    "-Wl,-z,noseparate-code",
    "-Wl,-z,norelro",
    "-Wl,-z,max-page-size=0x1000",
    "-Wl,--build-id=none",
    "-Wl,--no-undefined",
];

/// Further options of the linker of LLVM.
const LLD: &str = "-fuse-ld=lld -Wl,--no-rosegment";

/// A compiler that runs on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// GCC with the linker of binutils.
    Gcc,
    /// Clang with lld.
    Clang,
}

impl Compiler {
    /// The command line's part for compiling against headers below `sdk`. The shell is to put in
    /// where the compiler's own headers are.
    pub fn compile(self, sdk: &str) -> String {
        let own = match self {
            Self::Gcc => "$(gcc -print-file-name=include)",
            Self::Clang => "$(clang -print-resource-dir)/include",
        };
        format!(
            "{} -isystem {own} {}",
            COMPILE.join(" "),
            includes(&format!("{sdk}/develop/headers"))
        )
    }

    /// The command line's part for linking the driver `name`.
    pub fn link(self, sdk: &str, name: &str) -> String {
        let linker = match self {
            Self::Gcc => String::new(),
            Self::Clang => format!(" {LLD}"),
        };
        format!("{} -Wl,-soname={name}{linker} {name}.o {sdk}/develop/lib/_KERNEL_", LINK.join(" "))
    }
}

fn includes(headers: &str) -> String {
    INCLUDES.map(|directory| format!("-I {headers}/{directory}")).join(" ")
}

/// The interface that a new driver has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// The old one, for any class of card.
    Legacy,
    /// That of the device manager.
    Module,
}

/// It is no name for a driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name for a driver: small letters, digits and `_`, beginning with a letter")]
pub struct NameError(String);

/// The files of a new project for the driver `name`: each file's name and what is in it.
///
/// # Errors
/// The name would not do as the name of a file, a module and a target.
pub fn files(name: &str, style: Style) -> Result<Vec<(String, String)>, NameError> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins || !name.chars().all(fine) || name.len() > 32 {
        return Err(NameError(name.to_owned()));
    }
    let source = match style {
        Style::Legacy => LEGACY,
        Style::Module => MODULE,
    };
    let filled = |text: &str| {
        text.replace("@NAME@", name)
            .replace("@COMPILE@", &COMPILE.join(" "))
            .replace("@INCLUDES@", &includes("$(HEADERS)"))
            .replace("@LINK@", &LINK.join(" "))
            .replace("@LLD@", LLD)
    };
    Ok(vec![
        ("Makefile".to_owned(), filled(MAKEFILE)),
        (format!("{name}.c"), filled(source)),
        (".gitignore".to_owned(), filled(IGNORED)),
    ])
}

#[cfg(test)]
mod tests;
