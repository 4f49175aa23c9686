//! Runs commands on a fake kernel.

use std::path::Path;

use clap::Parser;
use host::{Runner, SystemClock, SystemRunner};
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
    kireji_with(kernel, args, is_root, &SystemRunner)
}

/// Runs a command with a runner of programs in place of the machine's.
pub fn kireji_with(
    kernel: &FakeKernel,
    args: &[&str],
    is_root: bool,
    runner: &dyn Runner,
) -> Ended {
    let host = kernel.tree.sysroot();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let home = kernel.tree.locate("/home/user");
    let vars = Vars {
        is_root,
        program: Path::new("/usr/bin/kireji").to_owned(),
        args: args.iter().map(Into::into).collect(),
        state: home.join(".local/state/kireji"),
        cache: home.join(".cache/kireji"),
        ..Vars::default()
    };
    let mut context = Context {
        host: &host,
        writable: true,
        runner,
        writer: kernel,
        clock: &SystemClock,
        vars,
        out: &mut anstream::StripStream::new(&mut out),
        err: &mut anstream::StripStream::new(&mut err),
        width: None,
    };
    let cli = Cli::try_parse_from([&["kireji"], args].concat()).expect("a valid command line");
    let exit = kireji::run(cli, &mut context);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ended { exit, out: text(out), err: text(err) }
}
