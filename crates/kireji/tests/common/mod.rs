//! Runs commands on a fake kernel.

use std::path::{Path, PathBuf};

use clap::Parser;
use host::{Sysroot, SystemClock, SystemRunner};
use kireji::cli::Cli;
use kireji::{Code, Context, Vars};
use testkit::fake_kernel::FakeKernel;

/// What a command left.
#[derive(Debug)]
#[must_use = "assert the exit code or compare the output"]
pub struct Ended {
    /// Its exit code.
    pub exit: Code,
    /// Data.
    pub out: String,
    /// Narration and errors.
    pub err: String,
}

/// Runs a command as root.
pub fn kireji(kernel: &FakeKernel, args: &[&str]) -> Ended {
    kireji_as(kernel, args, true)
}

/// Runs a command as root or as an ordinary user.
pub fn kireji_as(kernel: &FakeKernel, args: &[&str], is_root: bool) -> Ended {
    kireji_at(&kernel.tree.sysroot(), kernel, args, is_root)
}

/// Runs a command on another host than the kernel's own, such as a captured one.
pub fn kireji_at(host: &Sysroot, kernel: &FakeKernel, args: &[&str], is_root: bool) -> Ended {
    kireji_with(host, kernel, args, is_root, None)
}

/// Runs a command on a host, with this QEMU if one is given.
pub fn kireji_with(
    host: &Sysroot,
    kernel: &FakeKernel,
    args: &[&str],
    is_root: bool,
    qemu: Option<PathBuf>,
) -> Ended {
    let (mut out, mut err) =
        (anstream::StripStream::new(Vec::new()), anstream::StripStream::new(Vec::new()));
    let exit = kireji_to(host, kernel, args, is_root, qemu, [&mut out, &mut err]);
    let text = |stream: anstream::StripStream<Vec<u8>>| {
        String::from_utf8(stream.into_inner()).expect("text")
    };
    Ended { exit, out: text(out), err: text(err) }
}

/// The same, with what it writes going elsewhere: its output and its narration.
pub fn kireji_to(
    host: &Sysroot,
    kernel: &FakeKernel,
    args: &[&str],
    is_root: bool,
    qemu: Option<PathBuf>,
    [out, err]: [&mut dyn std::io::Write; 2],
) -> Code {
    let home = kernel.tree.locate("/home/user");
    let vars = Vars {
        is_root,
        program: Path::new("/usr/bin/kireji").to_owned(),
        args: args.iter().map(Into::into).collect(),
        state: home.join(".local/state/kireji"),
        cache: home.join(".cache/kireji"),
        qemu,
        ..Vars::default()
    };
    let mut context = Context {
        host,
        writable: true,
        runner: &SystemRunner,
        writer: kernel,
        clock: &SystemClock,
        vars,
        out,
        err,
        width: None,
    };
    let cli = Cli::try_parse_from([&["kireji"], args].concat()).expect("a valid command line");
    kireji::run(cli, &mut context)
}
