//! What `kireji doctor` finds of QEMU, by asking the binary.

use std::path::Path;

use guest::kvm::Kvm;
use guest::qemu::{Cache, Firmware, locate};
use pci::doctor::{Finding, Status, Subject};
use pci::refusal::Code;
use serde::{Deserialize, Serialize};

use crate::command::run::with_runner;
use crate::{CommandError, Context};

/// Where a captured host holds what its QEMU answered.
pub(in crate::command) const CAPTURED: &str = "/kireji-qemu.json";

/// What QEMU answered, as a captured host holds it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "qemu", rename_all = "kebab-case", deny_unknown_fields)]
pub(in crate::command) enum Answer {
    /// There is none.
    Absent {
        /// Where it was looked for.
        why: String,
    },
    /// It says nothing that can be understood.
    Mute {
        /// The binary.
        executable: String,
        /// What it did.
        why: String,
    },
    /// It answered.
    Known {
        /// The binary.
        executable: String,
        /// Its version.
        version: String,
        /// Whether it can be given a card by VFIO.
        vfio_pci: bool,
        /// Whether it can be given a device by a socket.
        vfio_user_pci: bool,
        /// Whether it can use VFIO through iommufd.
        iommufd: bool,
        /// Why no guest runs on `/dev/kvm`, where that was tried and none did.
        kvm_broken: Option<String>,
    },
}

/// Judges QEMU and the firmware for guests, and proves whether KVM works; on a captured host as it
/// was answered there.
pub(super) fn check(
    context: &Context<'_>,
    findings: &mut [Finding],
) -> Result<Vec<Finding>, CommandError> {
    let mut found = match context.host.is_live() {
        true => judge(&ask(context), findings),
        false => match captured(context) {
            Ok(answer) => judge(&answer, findings),
            Err(why) => [Code::Qemu, Code::QemuDevices]
                .map(|code| Finding::unmeasured(code, Subject::Qemu, why).advisory())
                .to_vec(),
        },
    };
    found.push(firmware(context)?);
    Ok(found)
}

fn captured(context: &Context<'_>) -> Result<Answer, &'static str> {
    let bytes = match context.host.read(CAPTURED) {
        Ok(bytes) => bytes,
        Err(error) if error.is_absent() => return Err("a captured host has no QEMU to ask"),
        Err(_) => return Err("what QEMU answered on this host cannot be read"),
    };
    serde_json::from_slice(&bytes).map_err(|_| "what QEMU answered on this host is damaged")
}

/// Asks the QEMU of this host, as whoever would run it.
pub(in crate::command) fn ask(context: &Context<'_>) -> Answer {
    let path = std::env::var_os("PATH");
    let executable = match locate(context.vars.qemu.as_deref(), path.as_deref()) {
        Ok(executable) => executable,
        Err(error) => return Answer::Absent { why: error.to_string() },
    };
    let cache = Cache {
        directory: context.vars.cache.join("qemu"),
        writable: context.writable && context.vars.may_keep(&context.vars.cache),
        owner: context.vars.user.clone(),
    };
    let shown = executable.display().to_string();
    match with_runner(context, |runner| cache.capabilities(runner, &executable)) {
        Ok(capabilities) => Answer::Known {
            executable: shown,
            version: capabilities.version.to_string(),
            vfio_pci: capabilities.is_pci("vfio-pci"),
            vfio_user_pci: capabilities.is_pci("vfio-user-pci"),
            iommufd: capabilities.has_iommufd(),
            kvm_broken: kvm_broken(context, &cache, &executable),
        },
        Err(error) => Answer::Mute { executable: shown, why: error.to_string() },
    }
}

/// A node that may be opened can still make machines in which no guest ever runs.
fn kvm_broken(context: &Context<'_>, cache: &Cache, executable: &Path) -> Option<String> {
    let may = context.host.may_use("/dev/kvm").ok()?;
    if may.known() != Some(&true) {
        return None;
    }
    let user = context.vars.user.as_ref();
    match with_runner(context, |runner| cache.kvm(context.host, runner, executable, user)) {
        Ok(Kvm::Broken(why)) => Some(why),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// Judges what QEMU answered, and takes back what `findings` say of KVM where it does not work.
fn judge(answer: &Answer, findings: &mut [Finding]) -> Vec<Finding> {
    let plain = |text: &str| text.chars().filter(|char| !char.is_control()).collect::<String>();
    match answer {
        Answer::Absent { why } => vec![
            Finding::fail(Code::Qemu, Subject::Qemu, plain(why))
                .seen("PATH", "no qemu-system-x86_64 and no qemu-kvm")
                .remedy(Code::Qemu.explanation().remedy),
        ],
        Answer::Mute { executable, why } => {
            let finding = Finding::unmeasured(Code::Qemu, Subject::Qemu, plain(why));
            vec![finding.seen(plain(executable), "does not answer")]
        }
        Answer::Known { executable, version, vfio_pci, vfio_user_pci, iommufd, kvm_broken } => {
            if let Some(why) = kvm_broken {
                no_kvm(&plain(why), findings);
            }
            let executable = plain(executable);
            let says = format!("QEMU {} is there", plain(version));
            let present =
                Finding::pass(Code::Qemu, Subject::Qemu, says).seen(&executable, "answers");
            let devices = match vfio_pci {
                true => Finding::pass(Code::QemuDevices, Subject::Qemu, "it has vfio-pci"),
                false => Finding::fail(Code::QemuDevices, Subject::Qemu, "it lacks vfio-pci")
                    .remedy(Code::QemuDevices.explanation().remedy),
            };
            let has = |is: &bool| if *is { "yes" } else { "no" };
            let seen = format!(
                "vfio-pci: {}, vfio-user-pci: {}, iommufd: {}",
                has(vfio_pci),
                has(vfio_user_pci),
                has(iommufd),
            );
            vec![present, devices.seen(executable, seen)]
        }
    }
}

fn no_kvm(why: &str, findings: &mut [Finding]) {
    let passed =
        |finding: &&mut Finding| finding.code == Code::Kvm && finding.status == Status::Pass;
    if let Some(finding) = findings.iter_mut().find(passed) {
        *finding = Finding::fail(Code::Kvm, Subject::Processor, "no guest runs on /dev/kvm")
            .seen("/dev/kvm", why)
            .remedy("on a nested host, look at the outer one; guests run without KVM, only slowly")
            .advisory();
    }
}

/// Guests that start by BIOS do without.
fn firmware(context: &Context<'_>) -> Result<Finding, CommandError> {
    let code = Code::QemuFirmware;
    let finding = match Firmware::find(context.host) {
        Ok(Firmware { uefi: Some(uefi) }) => {
            let file = uefi.code.display().to_string();
            Finding::pass(code, Subject::Qemu, "UEFI firmware is there").seen(file, "present")
        }
        Ok(Firmware { uefi: None }) => {
            Finding::fail(code, Subject::Qemu, "there is no UEFI firmware for guests")
                .seen("/usr/share/qemu/firmware", "no description that fits")
                .remedy(code.explanation().remedy)
        }
        Err(error) => Finding::unmeasured(code, Subject::Qemu, error.to_string()),
    };
    Ok(finding.advisory())
}
