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

/// What a guest does after it has written a line to its serial port.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    PowerOff,
    Halt,
    Reset,
    Echo,
    Write,
}

/// A disk whose first sector writes `text` to COM1 and then does as told.
pub fn guest_disk(path: &Path, text: &str, then: Then) {
    let mut code = vec![
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xfc, // cld
        0xbe, 0, 0,    // mov si, text
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x06, // jz done
        0xba, 0xf8, 0x03, // mov dx, COM1
        0xee, // out dx, al
        0xeb, 0xf5, // jmp next
    ];
    let rest: &[u8] = match then {
        // mov dx, PM1a_CNT of q35 as SeaBIOS places it; mov ax, SLP_EN; out dx, ax
        Then::PowerOff => &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef],
        Then::Halt => &[],
        // mov al, 0xfe; out 0x64, al: the keyboard controller pulls the reset line
        Then::Reset => &[0xb0, 0xfe, 0xe6, 0x64],
        // mov ax, 0x0301; mov cx, 2; mov dx, 0x0080; mov bx, 0x7c00; int 0x13: the BIOS writes the
        // second sector of the first disk
        Then::Write => {
            &[0xb8, 0x01, 0x03, 0xb9, 0x02, 0x00, 0xba, 0x80, 0x00, 0xbb, 0x00, 0x7c, 0xcd, 0x13]
        }
        // wait: mov dx, COM1+5; in al, dx; test al, 1; jz wait; mov dx, COM1; in al, dx;
        // out dx, al; jmp wait
        Then::Echo => &[
            0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb,
            0xf1,
        ],
    };
    code.extend(rest);
    code.extend([0xf4, 0xeb, 0xfd]); // halt: hlt; jmp halt
    let text_at = u16::try_from(0x7c00 + code.len()).unwrap().to_le_bytes();
    code[6..8].copy_from_slice(&text_at);
    code.extend(text.as_bytes());
    code.push(0);
    assert!(code.len() <= 440);
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    // SeaBIOS does not start disks of less than a cylinder.
    code.resize(1 << 20, 0);
    std::fs::write(path, code).unwrap();
}
