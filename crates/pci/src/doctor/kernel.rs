//! The kernel and its modules.

use ::host::Measured;

use super::{Finding, Subject};
use crate::facts::{Facts, ModuleState, Release};
use crate::refusal::Code;

/// Judges the running kernel, and whether the other ones have vfio-pci too.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<_> = facts.kernel.releases.iter().map(vfio_pci).collect();
    if findings.is_empty() {
        let why = match &facts.kernel.release {
            Measured::Unmeasured { unmeasured } => unmeasured.clone(),
            Measured::Known(_) => "no kernel is installed".to_owned(),
        };
        findings.push(Finding::unmeasured(Code::VfioModule, Subject::Kernel, why));
    }
    findings.push(lockdown(facts));
    findings
}

fn vfio_pci(kernel: &Release) -> Finding {
    let Release { release, is_running, vfio_pci, source } = kernel;
    let code = Code::VfioModule;
    let finding = match vfio_pci {
        Measured::Known(ModuleState::BuiltIn) => {
            let says = format!("Linux {release} has vfio-pci built in");
            Finding::pass(code, Subject::Kernel, says).seen(source, "built in")
        }
        Measured::Known(ModuleState::Module) => {
            let says = format!("Linux {release} has vfio-pci as a module");
            Finding::pass(code, Subject::Kernel, says).seen(source, "vfio-pci")
        }
        Measured::Known(ModuleState::Missing) => {
            let says = format!("Linux {release} has no vfio-pci");
            Finding::fail(code, Subject::Kernel, says).seen(source, "no vfio-pci").remedy(
                "install the package with the kernel's other modules (linux-modules-extra on \
                 Ubuntu, kernel-modules on Fedora)",
            )
        }
        Measured::Unmeasured { unmeasured } => {
            let why = format!("Linux {release}: {unmeasured}");
            Finding::unmeasured(code, Subject::Kernel, why).settle("sudo modprobe vfio-pci")
        }
    };
    // Another kernel matters after the next reboot only.
    if *is_running { finding } else { finding.advisory() }
}

/// vfio-pci works in a kernel that is locked down.
fn lockdown(facts: &Facts) -> Finding {
    const FILE: &str = "/sys/kernel/security/lockdown";
    let code = Code::Lockdown;
    let finding = match &facts.kernel.lockdown {
        Measured::Known(None) => {
            Finding::pass(code, Subject::Kernel, "the kernel has no lockdown").seen(FILE, "absent")
        }
        Measured::Known(Some(mode)) if mode == "none" => {
            Finding::pass(code, Subject::Kernel, "the kernel is not locked down").seen(FILE, "none")
        }
        Measured::Known(Some(mode)) => {
            let says = format!("the kernel is locked down ({mode}): only signed modules load");
            Finding::fail(code, Subject::Kernel, says).seen(FILE, mode).remedy(
                "vfio-pci works all the same; a module from elsewhere, such as one that resets \
                 certain cards, must be signed with a key that mokutil enrolled",
            )
        }
        Measured::Unmeasured { unmeasured } => {
            Finding::unmeasured(code, Subject::Kernel, unmeasured)
        }
    };
    let secure_boot = match &facts.firmware.secure_boot {
        Measured::Known(Some(true)) => "on".to_owned(),
        Measured::Known(Some(false)) => "off".to_owned(),
        Measured::Known(None) => "none: the host was not started by UEFI".to_owned(),
        Measured::Unmeasured { unmeasured } => unmeasured.clone(),
    };
    finding.seen("Secure Boot", secure_boot).advisory()
}
