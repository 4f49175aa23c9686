//! How long looking at a host takes, beside lspci on the same tree at the same time.
//!
//! The floor is one open, read and close per attribute that is needed. lspci opens more of them
//! for each function, and without a `uevent` kireji has to, too.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use testkit::fake_kernel::FakeKernel;
use testkit::tree::{Bar, Function, Tree};

/// Functions of the large host, and of an ordinary one.
const MANY: usize = 4096;
const FEW: usize = 100;
/// Functions of the hosts by which it is seen whether time and memory grow with them and no faster.
///
/// The first is the start; the database of names, read at once and dropped, hides what the first
/// thousands take of memory.
const COUNTS: [usize; 4] = [64, 4096, 8192, 16_384];
/// How often each is measured, one after the other, so that all meet the same load.
const ROUNDS: usize = 9;

/// Makes this program list the host that follows, and print the memory that it took at most.
const PEAK: &str = "--peak";

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, first, root] = &arguments[..]
        && first == PEAK
    {
        return list_and_tell(Path::new(root));
    }
    // `cargo test --all-targets` starts it too.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let many = host(MANY);
    let few = host(FEW);
    let list = measured(|| kireji(many.root(), &["list", "--json"]));
    let names = measured(|| lspci(many.root(), "-nnk"));
    let numbers = measured(|| lspci(many.root(), "-n"));
    println!("{ROUNDS} rounds; median in milliseconds");
    println!("  kireji list --json, {MANY} functions: {:.1}", ms(list));
    println!("  lspci -nnk: {:.1}", ms(names));
    println!("  lspci -n: {:.1}", ms(numbers));
    goal("of lspci -nnk", ratio(list, names), 1.0 / 3.0);
    goal("of lspci -n", ratio(list, numbers), 1.0);
    for (args, most) in [(&["list", "--json"][..], 30.0), (&["doctor", "--json"], 100.0)] {
        let took = measured(|| kireji(few.root(), args));
        goal(&format!("ms for kireji {}, {FEW} functions", args.join(" ")), ms(took), most);
    }
    let [_, few, more, many] = COUNTS.map(|count| {
        let tree = host(count);
        let took = measured(|| kireji(tree.root(), &["list", "--json"]));
        let (took, peak) = (ms(took), peak(tree.root()));
        println!("  {count} functions: {took:.1} ms, {peak:.0} KiB at most");
        (took, peak, count_of(count))
    });
    // Beside what a start takes, each function of the largest host takes what one of the second
    // largest does.
    let each = |value: fn(&(f64, f64, f64)) -> f64| {
        let slope = |one: &(f64, f64, f64), other: &(f64, f64, f64)| {
            (value(other) - value(one)) / (other.2 - one.2)
        };
        slope(&more, &many) / slope(&few, &more)
    };
    goal("of the time for each further function, where there are many", each(|at| at.0), 1.5);
    goal("of the memory for each further function, where there are many", each(|at| at.1), 1.5);
}

/// What a list of the host takes of memory at most, in KiB.
fn peak(root: &Path) -> f64 {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this).arg(PEAK).arg(root).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Lists in this process, which then tells its own peak (proc_pid_status(5), VmHWM).
fn list_and_tell(root: &Path) {
    let host = host::Sysroot::at(root).unwrap();
    let kernel = FakeKernel::new(Tree::new());
    let mut context = kireji::Context {
        host: &host,
        writable: false,
        runner: &host::SystemRunner,
        writer: &kernel,
        clock: &host::SystemClock,
        vars: kireji::Vars::default(),
        out: &mut std::io::sink(),
        err: &mut std::io::sink(),
        width: None,
    };
    let cli = kireji::cli::Cli::try_parse_from(["kireji", "list", "--json"]).unwrap();
    assert_eq!(kireji::run(cli, &mut context), kireji::Exit::Done);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("{}", line.trim().trim_end_matches(" kB"));
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn count_of(count: usize) -> f64 {
    count as f64
}

fn goal(what: &str, value: f64, most: f64) {
    let verdict = if value <= most { "kept" } else { "MISSED" };
    println!("  {value:.2} {what}; goal: {most:.2} at most: {verdict}");
}

/// A host with so many functions, on buses of 256.
fn host(count: usize) -> Tree {
    let mut tree = Tree::new();
    for number in 0..count {
        let (bus, device, function) = (number / 256, number / 8 % 32, number % 8);
        let (domain, bus) = (bus / 256, bus % 256);
        let address = format!("{domain:04x}:{bus:02x}:{device:02x}.{function}");
        tree.add(
            Function::new(&address, 0x8086, 0x10d3)
                .subsystem(0x8086, 0xa01f)
                .class(0x02_0000)
                .group(u32::try_from(number).unwrap())
                .driver("e1000e")
                .bar(0, 0xfe40_0000, 0x2_0000, Bar::Memory32),
        );
    }
    let database = std::fs::read("/usr/share/misc/pci.ids").unwrap_or_default();
    tree.write("/usr/share/misc/pci.ids", database);
    tree
}

fn kireji(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kireji"));
    command.arg("--sysroot").arg(root).args(args);
    command
}

fn lspci(root: &Path, how: &str) -> Command {
    let mut command = Command::new("lspci");
    let path = format!("sysfs.path={}", root.join("sys/bus/pci").display());
    command.args([how, "-A", "linux-sysfs", "-O", &path]);
    command
}

/// The median time of a command, its start and end included.
fn measured(command: impl Fn() -> Command) -> Duration {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            let status = command().stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            // `doctor` says no.
            assert!(status.code().is_some_and(|code| code < 2), "{status}");
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}
