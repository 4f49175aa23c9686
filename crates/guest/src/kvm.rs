//! Whether KVM works, proved by running something on it.
//!
//! `/dev/kvm` can be there, and even make a machine, without a guest ever getting anywhere: in a
//! nested or restricted host, its processor may lack a register that QEMU sets, or never leave the
//! firmware. So a machine like those of runs starts its BIOS and a small disk, whose code ends QEMU
//! with an exit status of its own.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use host::{Owner, Program, RunError, Runner, Sysroot};
use serde::{Deserialize, Serialize};

use crate::launch::{User, as_user};
use crate::qemu::{Cache, Identity, read_cached};

/// The device node.
const NODE: &str = "/dev/kvm";
/// How long the proof may take; where KVM works it takes a fifth of a second.
const LIMIT: Duration = Duration::from_secs(5);
/// What the code writes to the port of QEMU's `isa-debug-exit`.
const SIGN: u8 = 0x2a;
/// The exit status which that makes (hw/misc/debugexit.c of QEMU: the value, doubled, plus one).
const STATUS: i32 = (SIGN as i32) << 1 | 1;
/// The port of `isa-debug-exit`.
const PORT: u8 = 0xf4;

/// Whether KVM can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kvm", content = "why")]
pub enum Kvm {
    /// A guest ran.
    Usable,
    /// There is no `/dev/kvm`: the processor has no virtualisation, or it is off in the firmware.
    Absent,
    /// The user may not open `/dev/kvm`.
    Denied,
    /// `/dev/kvm` is there, but no guest runs on it.
    Broken(String),
}

/// Proves whether KVM works for the QEMU `executable`, which `runner` runs as `user` if that is not
/// the process's own. A scratch disk of the user's is made in `directory`.
///
/// # Errors
/// The scratch disk cannot be made.
pub fn prove(
    runner: &dyn Runner,
    executable: &Path,
    user: Option<&User>,
    directory: &Path,
) -> io::Result<Kvm> {
    match std::fs::OpenOptions::new().read(true).write(true).open(NODE) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kvm::Absent),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Kvm::Denied),
        Err(error) => return Ok(Kvm::Broken(error.to_string())),
    }
    let disk = directory.join(format!("kvm-proof-{}", std::process::id()));
    as_user(user, || make_disk(&disk))??;
    let result = runner.run(&program(executable, &disk, ["kvm", "host"]));
    std::fs::remove_file(&disk)?;
    Ok(judge(result))
}

fn judge(result: Result<host::Finished, RunError>) -> Kvm {
    match result {
        Ok(finished) if finished.status.code() == Some(STATUS) => Kvm::Usable,
        Ok(finished) => {
            let text = String::from_utf8_lossy(&finished.stderr);
            let line = text.lines().find(|line| line.contains("error") || line.contains("KVM"));
            let line = line.or(text.lines().next()).unwrap_or_default();
            if line.contains("Permission denied") {
                return Kvm::Denied;
            }
            Kvm::Broken(format!("QEMU ended with {}: {line}", finished.status))
        }
        Err(RunError::TimedOut { .. }) => {
            Kvm::Broken("the guest's firmware did not get to its disk".to_owned())
        }
        Err(error) => Kvm::Broken(error.to_string()),
    }
}

fn program(executable: &Path, disk: &Path, [accelerator, cpu]: [&str; 2]) -> Program {
    let mut node = OsString::from("driver=raw,node-name=disk,file.driver=file,file.filename=");
    // A comma in a value is written twice.
    node.push(disk.to_string_lossy().replace(',', ",,"));
    Program::new(executable)
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-machine",
            "q35",
        ])
        .args(["-accel", accelerator, "-cpu", cpu, "-m", "32M"])
        .args(["-device", &format!("isa-debug-exit,iobase={PORT:#x},iosize=1")])
        .arg("-blockdev")
        .arg(node)
        .args(["-device", "ide-hd,drive=disk,bus=ide.0,bootindex=0"])
        .limit(LIMIT)
}

/// Makes a disk whose first sector writes [`SIGN`] to [`PORT`] and halts.
fn make_disk(path: &Path) -> io::Result<()> {
    let mut sector = [0; 512];
    // mov al, SIGN; out PORT, al; hlt; jmp to the hlt
    sector[..7].copy_from_slice(&[0xb0, SIGN, 0xe6, PORT, 0xf4, 0xeb, 0xfd]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut file = std::fs::File::options().write(true).create_new(true).open(path)?;
    file.write_all(&sector)?;
    // SeaBIOS does not start disks of less than a cylinder.
    file.set_len(1 << 20)
}

#[derive(Serialize, Deserialize)]
struct Entry {
    identity: Identity,
    boot_id: String,
    user: Option<User>,
    kvm: Kvm,
}

impl Cache {
    /// Returns whether KVM works, proving it once in each boot of the host, for each state of the
    /// binary and each user.
    ///
    /// # Errors
    /// As [`prove`]. A cache that cannot be read or written costs time, nothing else.
    pub fn kvm(
        &self,
        host: &Sysroot,
        runner: &dyn Runner,
        executable: &Path,
        user: Option<&User>,
    ) -> io::Result<Kvm> {
        let identity = Identity::of(executable)?;
        // What was proved in another boot, under another kernel perhaps, is not proved.
        let owner = Owner::current(host).map_err(|error| error.source)?;
        let whom = user.cloned();
        let file = self.directory.join(identity.file_name("kvm"));
        let fits = |entry: &Entry| {
            entry.identity == identity && entry.boot_id == owner.boot_id && entry.user == whom
        };
        if let Some(entry) = read_cached::<Entry>(&file).filter(fits) {
            return Ok(entry.kvm);
        }
        let kvm = prove(runner, executable, user, &std::env::temp_dir())?;
        // Permission comes with joining a group, which nothing here would notice.
        if matches!(kvm, Kvm::Usable | Kvm::Broken(_)) {
            let entry = Entry { identity, boot_id: owner.boot_id, user: whom, kvm: kvm.clone() };
            self.keep(&file, &entry);
        }
        Ok(kvm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::Finished;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn ended(status: i32, stderr: &str) -> Kvm {
        judge(Ok(Finished {
            status: ExitStatus::from_raw(status),
            stdout: Vec::new(),
            stderr: stderr.as_bytes().to_vec(),
        }))
    }

    #[test]
    fn only_the_sign_of_the_guest_is_proof() {
        assert_eq!(ended(STATUS << 8, ""), Kvm::Usable);
        assert!(matches!(ended(0, ""), Kvm::Broken(_)));
        // QEMU 7.2 on a nested host, which ended by SIGABRT.
        let stderr = "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69\nassertion\n";
        assert!(matches!(ended(6, stderr), Kvm::Broken(why) if why.ends_with("0x10a to 0x69")));
        let stderr = "Could not access KVM kernel module: Permission denied\n";
        assert_eq!(ended(256, stderr), Kvm::Denied);
        let hung = RunError::TimedOut { executable: "qemu".into(), pid: 1, limit: LIMIT };
        assert!(matches!(judge(Err(hung)), Kvm::Broken(_)));
    }

    #[test]
    fn the_proof_itself_works_where_the_processor_is_translated() {
        let qemu = crate::qemu::for_tests();
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("a,disk");
        make_disk(&disk).unwrap();
        let program = program(&qemu, &disk, ["tcg", "max"]).limit(Duration::from_secs(60));
        assert_eq!(judge(host::SystemRunner.run(&program)), Kvm::Usable);
    }
}
