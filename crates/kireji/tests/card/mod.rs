//! Runs of a fake guest with a card of a fake host, through the whole command.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Parser;
use host::{SystemClock, SystemRunner};
use kireji::cli::Cli;
use kireji::{Code, Context, Vars};
use testkit::fake_guest::{self, Script};
use testkit::fake_kernel::FakeKernel;
use testkit::tree::{Function, Tree};

/// A host with a network card that is driven by e1000e.
pub fn host(functions: &[&str]) -> FakeKernel {
    let mut tree = Tree::new();
    tree.write("/proc/self/mountinfo", "");
    tree.write("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
    tree.write("/dev/vfio/vfio", "");
    for address in functions {
        tree.add(Function::new(address, 0x8086, 0x10d3).class(0x02_0000).group(1).driver("e1000e"));
    }
    let mut kernel = FakeKernel::new(tree);
    functions.iter().for_each(|address| kernel.natural(address, "e1000e"));
    kernel
}

/// Writes a program for the shell.
fn write_program(path: &Path, text: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Runs `kireji run` as root with these arguments; what it writes and keeps is in `directory`.
pub fn run(
    kernel: &FakeKernel,
    script: &Script,
    directory: &Path,
    arguments: &[&str],
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> Code {
    let itself = env!("CARGO_BIN_EXE_kireji");
    let fake = fake_guest::program(Path::new(itself)).display();
    let (qemu, launcher) = (directory.join("qemu"), directory.join("kireji"));
    // What it plays comes by its environment, which is this process's.
    script.command(Path::new("kireji"), &qemu, directory);
    let played = directory.join("script.json");
    write_program(&qemu, &format!("FAKE_GUEST={} exec {fake} \"$@\"", played.display()));
    // Not everybody who runs this test may lock memory, which the fake QEMU has no need of.
    let unlocked =
        "launch=$(printf %s \"$3\" | sed 's/\"locked_memory\":[0-9]*/\"locked_memory\":null/')";
    write_program(
        &launcher,
        &format!("{unlocked}\nshift 3\nexec {itself} internal launch \"$launch\" \"$@\""),
    );
    let words: Vec<OsString> = ["kireji", "run", "--accel", "tcg", "--memory", "64"]
        .iter()
        .chain(arguments)
        .map(OsString::from)
        .chain(["--qemu-caps".into(), directory.join("capabilities.json").into()])
        .collect();
    let vars = Vars {
        is_root: true,
        program: launcher,
        args: words[1..].to_vec(),
        state: directory.join("state"),
        cache: directory.join("cache"),
        ..Vars::default()
    };
    let mut context = Context {
        host: &kernel.tree.sysroot(),
        writable: true,
        runner: &SystemRunner,
        writer: kernel,
        clock: &SystemClock,
        vars,
        out,
        err,
        width: None,
    };
    kireji::run(Cli::try_parse_from(words).unwrap(), &mut context)
}
