//! What `kireji doctor` finds of QEMU, by asking the binary.

use guest::kvm::Kvm;
use guest::qemu::{Cache, Firmware, locate};
use pci::doctor::{Finding, Status, Subject};
use pci::refusal::Code;

use crate::command::run::with_runner;
use crate::{CommandError, Context};

/// Judges QEMU and the firmware for guests, and proves whether KVM works; on a captured host there
/// is no QEMU to ask.
pub(super) fn check(
    context: &Context<'_>,
    findings: &mut [Finding],
) -> Result<Vec<Finding>, CommandError> {
    let mut found = Vec::new();
    if context.host.is_live() {
        found.extend(ask(context, findings));
    } else {
        let why = "a captured host has no QEMU to ask";
        for code in [Code::Qemu, Code::QemuDevices] {
            found.push(Finding::unmeasured(code, Subject::Qemu, why).advisory());
        }
    }
    found.push(firmware(context)?);
    Ok(found)
}

fn ask(context: &Context<'_>, findings: &mut [Finding]) -> Vec<Finding> {
    let path = std::env::var_os("PATH");
    let executable = match locate(context.vars.qemu.as_deref(), path.as_deref()) {
        Ok(executable) => executable,
        Err(error) => {
            return vec![
                Finding::fail(Code::Qemu, Subject::Qemu, error.to_string())
                    .seen("PATH", "no qemu-system-x86_64 and no qemu-kvm")
                    .remedy(Code::Qemu.explanation().remedy),
            ];
        }
    };
    let cache = Cache {
        directory: context.vars.cache.join("qemu"),
        writable: context.writable,
        owner: context.vars.user.clone(),
    };
    let shown = executable.display().to_string();
    let capabilities = match with_runner(context, |runner| cache.capabilities(runner, &executable))
    {
        Ok(capabilities) => capabilities,
        Err(error) => {
            let finding = Finding::unmeasured(Code::Qemu, Subject::Qemu, error.to_string());
            return vec![finding.seen(shown, "does not answer")];
        }
    };
    prove_kvm(context, &cache, &executable, findings);
    let says = format!("QEMU {} is there", capabilities.version);
    let present = Finding::pass(Code::Qemu, Subject::Qemu, says).seen(&shown, "answers");
    let has = |is: bool| if is { "yes" } else { "no" };
    let devices = match capabilities.is_pci("vfio-pci") {
        true => Finding::pass(Code::QemuDevices, Subject::Qemu, "it has vfio-pci"),
        false => Finding::fail(Code::QemuDevices, Subject::Qemu, "it lacks vfio-pci")
            .remedy(Code::QemuDevices.explanation().remedy),
    };
    let devices = devices.seen(
        shown,
        format!(
            "vfio-pci: {}, vfio-user-pci: {}, iommufd: {}",
            has(capabilities.is_pci("vfio-pci")),
            has(capabilities.is_pci("vfio-user-pci")),
            has(capabilities.has_iommufd()),
        ),
    );
    vec![present, devices]
}

/// A node that may be opened can still make machines in which no guest ever runs.
fn prove_kvm(
    context: &Context<'_>,
    cache: &Cache,
    executable: &std::path::Path,
    findings: &mut [Finding],
) {
    let passed =
        |finding: &&mut Finding| finding.code == Code::Kvm && finding.status == Status::Pass;
    let Some(finding) = findings.iter_mut().find(passed) else { return };
    let user = context.vars.user.as_ref();
    let proved =
        match with_runner(context, |runner| cache.kvm(context.host, runner, executable, user)) {
            Ok(proved) => proved,
            Err(error) => Kvm::Broken(error.to_string()),
        };
    if let Kvm::Broken(why) = proved {
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
