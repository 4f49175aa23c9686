//! A dry run as the kernel sees it: `strace` says that nothing is written.

use super::*;

use testkit::boot::{ALL, CARD};

/// The calls that change a file system (syscalls(2)); `open` is looked at by its flags.
const CHANGING: [&str; 24] = [
    "chmod",
    "chown",
    "creat",
    "fallocate",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "ftruncate",
    "lchown",
    "link",
    "linkat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "symlink",
    "symlinkat",
    "truncate",
    "unlink",
];

/// What of a trace is a change of a file system.
fn changes(trace: &str) -> Vec<&str> {
    let is_change = |line: &&str| {
        // A line begins with the number of the process, and may end with an error.
        let call = line.trim_start_matches(|char: char| char.is_ascii_digit() || char == ' ');
        let name = call.split('(').next().unwrap_or_default();
        let opens = name.starts_with("open")
            && ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].iter().any(|flag| call.contains(flag));
        let is_nothing = call.contains("\"/dev/null\"") || call.contains("\"/dev/tty\"");
        (opens && !is_nothing) || CHANGING.contains(&name) || name == "unlinkat"
    };
    trace.lines().filter(is_change).collect()
}

fn traced(command: &mut Command, at: &std::path::Path) -> (Option<i32>, String, String) {
    let program = command.get_program().to_owned();
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let done = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=%file,%desc", "-o"])
        .arg(at)
        .arg(program)
        .args(args)
        .env("XDG_STATE_HOME", at.with_extension("state"))
        .env("XDG_CACHE_HOME", at.with_extension("cache"))
        .stdin(Stdio::null())
        .output()
        .expect("strace, which `cargo xtask test` installs");
    let trace = std::fs::read_to_string(at).expect("a trace");
    (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned(), trace)
}

#[test]
fn a_dry_run_writes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path().join("trace");
    // That it would be seen.
    let (_, _, trace) = traced(Command::new("touch").arg(directory.path().join("x")), &at);
    assert!(!changes(&trace).is_empty(), "{trace}");
    for distribution in ALL {
        let tree = distribution.tree();
        tree.write("/sys/class/iommu/dmar0/x", "");
        let args = [
            "reserve",
            CARD,
            "--dry-run",
            "--allow",
            "E-UNMEASURED",
            "--allow",
            "E-NO-IOMMU-GROUP",
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_kireji"));
        let command = command.arg("--sysroot").arg(tree.root()).args(args);
        let (code, out, trace) = traced(command, &at);
        assert_eq!(code, Some(0), "{}", distribution.name);
        // A plan, or words for systems that are not changed from outside.
        let is_plan = out.contains("+++ b/etc/kireji/reservations");
        assert!(is_plan || out.contains("8086:10d3:1043:85b0"), "{}: {out}", distribution.name);
        assert!(trace.lines().count() > 100, "{trace}");
        assert_eq!(changes(&trace), Vec::<&str>::new(), "{}", distribution.name);
    }
}

/// On the machine itself, where nothing but the command keeps itself from writing.
#[test]
fn a_dry_run_on_this_machine_writes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path().join("trace");
    for args in [
        &["reserve", "00:01.0", "--dry-run"][..],
        &["release", "00:01.0", "--dry-run"],
        &["verify"],
        &["status"],
        &["explain", "rescue"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kireji"));
        // What becomes of it hangs on the machine.
        let (code, _, trace) = traced(command.args(args), &at);
        assert!(code.is_some_and(|code| code != 70), "{args:?}: {code:?}");
        assert!(trace.lines().count() > 50, "{args:?}: {trace}");
        assert_eq!(changes(&trace), Vec::<&str>::new(), "{args:?}");
    }
}

#[test]
fn a_captured_host_is_not_changed_by_consent() {
    let tree = ALL[0].tree();
    let done = Command::new(env!("CARGO_BIN_EXE_kireji"))
        .arg("--sysroot")
        .arg(tree.root())
        .args(["reserve", CARD, "--yes"])
        .output()
        .expect("kireji");
    assert_eq!(done.status.code(), Some(2));
    let err = String::from_utf8_lossy(&done.stderr);
    assert!(err.contains("a captured host is only looked at"), "{err}");
}
