//! The processor, KVM, and what this user may use.

use ::host::Measured;

use super::{Finding, Subject};
use crate::facts::{DeviceRules, Facts, Limit, Node, Processor, Virtualisation};
use crate::refusal::Code;

const CPUINFO: &str = "/proc/cpuinfo";
/// What a small guest and the regions of its card take, in bytes.
const ENOUGH_LOCKED: u64 = 3 << 30;

/// Judges the processor and KVM. A guest runs without either, only slowly.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    [virtualisation(facts), kvm(facts)].into_iter().map(Finding::advisory).collect()
}

fn virtualisation(facts: &Facts) -> Finding {
    let code = Code::CpuVirtualisation;
    let processor = match &facts.processor {
        Measured::Known(processor) => processor,
        Measured::Unmeasured { unmeasured } => {
            return Finding::unmeasured(code, Subject::Processor, unmeasured);
        }
    };
    let flag = match processor.virtualisation {
        Virtualisation::Vmx => "vmx",
        Virtualisation::Svm => "svm",
        Virtualisation::None => {
            return Finding::fail(code, Subject::Processor, lacks(processor))
                .seen(CPUINFO, "flags: neither vmx nor svm")
                .remedy(switch(processor));
        }
    };
    Finding::pass(code, Subject::Processor, format!("{} runs guests", processor.name))
        .seen(CPUINFO, format!("flags: {flag}"))
}

fn lacks(processor: &Processor) -> String {
    match processor.is_guest {
        true => {
            format!("this host is a virtual machine, and its {} runs no guests", processor.name)
        }
        false => format!("{} shows no virtualisation", processor.name),
    }
}

fn switch(processor: &Processor) -> &'static str {
    if processor.is_guest {
        "switch on nested virtualisation for this machine on the outer host"
    } else if processor.is_intel() {
        "in the firmware's setup switch on Intel Virtualization Technology, also called VT-x"
    } else if processor.is_amd() {
        "in the firmware's setup switch on SVM Mode"
    } else {
        "in the firmware's setup switch on the processor's virtualisation"
    }
}

fn kvm(facts: &Facts) -> Finding {
    const NODE: &str = "/dev/kvm";
    let code = Code::Kvm;
    match &facts.access.kvm {
        Node::Present(Measured::Known(true)) => {
            Finding::pass(code, Subject::Processor, "KVM can be used").seen(NODE, "may be opened")
        }
        Node::Present(Measured::Known(false)) => {
            Finding::fail(code, Subject::Processor, "this user may not open /dev/kvm")
                .seen(NODE, "permission denied")
                .remedy(
                    "sudo usermod -aG kvm \"$USER\", then log in again; or run kireji under sudo",
                )
        }
        Node::Present(Measured::Unmeasured { unmeasured }) => {
            Finding::unmeasured(code, Subject::Processor, unmeasured)
        }
        Node::Absent => {
            let processor = facts.processor.known();
            let module = match processor.map(|processor| processor.virtualisation) {
                Some(Virtualisation::Vmx) => Some("kvm_intel"),
                Some(Virtualisation::Svm) => Some("kvm_amd"),
                _ => None,
            };
            let remedy = match module {
                Some(module) => format!(
                    "sudo modprobe {module}; if that fails, virtualisation is off in the firmware's \
                     setup: {}",
                    processor.map_or("", switch)
                ),
                None => {
                    processor.map_or_else(|| "see above".to_owned(), |one| switch(one).to_owned())
                }
            };
            Finding::fail(code, Subject::Processor, "there is no /dev/kvm")
                .seen(NODE, "absent")
                .remedy(remedy)
        }
    }
}

/// Judges what this user may use.
pub(super) fn check_access(facts: &Facts) -> Vec<Finding> {
    vec![vfio(facts), device_rules(facts), locked_memory(facts)]
}

/// Under sudo kireji opens the nodes and hands them on, so that this alone decides nothing.
fn vfio(facts: &Facts) -> Finding {
    const NODE: &str = "/dev/vfio/vfio";
    let code = Code::VfioAccess;
    let finding = match &facts.access.vfio {
        Node::Present(Measured::Known(true)) => {
            Finding::pass(code, Subject::Access, "VFIO's container can be used")
                .seen(NODE, "may be opened")
        }
        Node::Present(Measured::Known(false)) => {
            Finding::fail(code, Subject::Access, "this user may not open /dev/vfio/vfio")
                .seen(NODE, "permission denied")
                .remedy("run kireji under sudo: it opens the nodes and runs QEMU as you")
        }
        Node::Present(Measured::Unmeasured { unmeasured }) => {
            Finding::unmeasured(code, Subject::Access, unmeasured).seen(NODE, "present")
        }
        Node::Absent => Finding::unmeasured(
            code,
            Subject::Access,
            "there is no /dev/vfio/vfio before the module vfio is loaded",
        )
        .settle("sudo modprobe vfio-pci"),
    };
    let iommufd = match facts.access.iommufd {
        Node::Present(_) => "present",
        Node::Absent => "absent: the kernel has no iommufd, or has not loaded it",
    };
    finding.seen("/dev/iommu", iommufd).advisory()
}

fn device_rules(facts: &Facts) -> Finding {
    let code = Code::DeviceRules;
    match &facts.access.device_rules {
        Measured::Known(DeviceRules::Open) => {
            Finding::pass(code, Subject::Access, "the control group lets VFIO's nodes be used")
        }
        Measured::Known(DeviceRules::Closed { list }) => {
            Finding::fail(code, Subject::Access, "the control group forbids VFIO's nodes")
                .seen(list, "no rule for c 10:196")
                .remedy(
                    "give the container or service the devices /dev/vfio/vfio and /dev/vfio/GROUP \
                     (DeviceAllow= of systemd, --device of container tools)",
                )
        }
        // That they show only in use is so on nearly every host.
        Measured::Unmeasured { unmeasured } => {
            Finding::unmeasured(code, Subject::Access, unmeasured).advisory()
        }
    }
}

/// Under sudo kireji raises the limit for QEMU.
fn locked_memory(facts: &Facts) -> Finding {
    const LIMITS: &str = "/proc/self/limits";
    let code = Code::LockedMemory;
    let finding = match &facts.access.locked_memory {
        Measured::Known(Limit::Unlimited) => {
            Finding::pass(code, Subject::Access, "any amount of memory may be locked")
        }
        Measured::Known(Limit::Bytes(bytes)) => {
            let mib = bytes >> 20;
            let says = format!("{mib} MiB of memory may be locked");
            let finding = if *bytes >= ENOUGH_LOCKED {
                Finding::pass(code, Subject::Access, says)
            } else {
                Finding::fail(code, Subject::Access, says).remedy(
                    "run kireji under sudo, which raises the limit for QEMU; or raise memlock in \
                     /etc/security/limits.d and log in again",
                )
            };
            finding.seen(LIMITS, format!("Max locked memory {bytes} bytes"))
        }
        Measured::Unmeasured { unmeasured } => {
            Finding::unmeasured(code, Subject::Access, unmeasured)
        }
    };
    finding.advisory()
}
