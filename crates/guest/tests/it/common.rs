//! A real QEMU with small guests, for tests.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use guest::launch::Launch;
use guest::machine::{Machine, NewFile};
use guest::process::{Launcher, Qemu};
use guest::qemu::{Capabilities, locate, probe};
use guest::rundir::{Meta, RunDirectory};
use host::{Owner, Sysroot, SystemRunner};

/// The QEMU in `KIREJI_QEMU`, or the one in `PATH`; without one a test fails.
pub fn qemu() -> PathBuf {
    let explicit = std::env::var_os("KIREJI_QEMU").map(PathBuf::from);
    let found = locate(explicit.as_deref(), std::env::var_os("PATH").as_deref());
    found.expect("a QEMU in KIREJI_QEMU or PATH")
}

/// What it can do, asked once.
pub fn capabilities() -> &'static Capabilities {
    static KNOWN: OnceLock<Capabilities> = OnceLock::new();
    KNOWN.get_or_init(|| probe(&SystemRunner, &qemu()).unwrap())
}

pub fn launcher() -> Launcher {
    Launcher { program: env!("CARGO_BIN_EXE_test-launcher").into(), arguments: vec![] }
}

pub fn launch() -> Launch {
    Launch {
        parent: std::process::id(),
        locked_memory: None,
        open: vec![],
        user: None,
        environment: [].into(),
    }
}

pub fn run_directory(base: &Path) -> RunDirectory {
    let owner = Owner::current(&Sysroot::host().unwrap()).unwrap();
    let meta = Meta {
        schema: 1,
        started: String::new(),
        owner,
        command: vec![],
        guest: "test".into(),
        image: None,
        devices: vec![],
    };
    RunDirectory::create(base, SystemTime::max(SystemTime::now(), UNIX_EPOCH), &meta, None).unwrap()
}

/// Makes the files of a machine and starts it.
pub fn start(machine: &Machine, run: &RunDirectory) -> Qemu {
    for file in &machine.files {
        match file {
            NewFile::Copy { from, to } => drop(std::fs::copy(from, to).unwrap()),
            NewFile::Zeros { path, size } => {
                std::fs::File::create(path).unwrap().set_len(*size).unwrap();
            }
        }
    }
    Qemu::start(machine, &launcher(), &launch(), run, None, Instant::now()).unwrap()
}
