//! Interrupt remapping.

use ::host::Measured;

use super::{Finding, Subject};
use crate::facts::{Facts, Interrupts};
use crate::refusal::Code;

const INTERRUPTS: &str = "/proc/interrupts";
const UNSAFE: &str = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";

/// Judges interrupt remapping, if there is an IOMMU to do it.
pub(super) fn check(facts: &Facts) -> Option<Finding> {
    if facts.iommu.is_used() != Some(true) {
        return None;
    }
    let code = Code::InterruptRemapping;
    let chip = match &facts.iommu.interrupts {
        Measured::Known(Interrupts::Remapped(chip)) => {
            return Some(
                Finding::pass(code, Subject::Iommu, "interrupts are remapped")
                    .seen(INTERRUPTS, chip),
            );
        }
        Measured::Known(Interrupts::Direct(chip)) => chip,
        Measured::Unmeasured { unmeasured } => {
            return Some(Finding::unmeasured(code, Subject::Iommu, unmeasured));
        }
    };
    if facts.iommu.unsafe_interrupts == Measured::Known(Some(true)) {
        let says = "interrupts are not remapped, and VFIO was told to do without";
        let finding = Finding::fail(code, Subject::Iommu, says)
            .seen(INTERRUPTS, chip)
            .seen(UNSAFE, "Y")
            .remedy("give cards to trusted guests only");
        return Some(finding.advisory());
    }
    let (says, remedy) = cause(facts);
    Some(
        Finding::fail(code, Subject::Iommu, says)
            .seen(INTERRUPTS, format!("{chip}, none that begins with IR-"))
            .remedy(remedy),
    )
}

fn cause(facts: &Facts) -> (String, String) {
    let kernel = &facts.kernel;
    let off =
        kernel.parameter("intremap").is_some_and(|value| value.split(',').any(|w| w == "off"));
    let word = if kernel.has_word("nointremap") {
        Some("nointremap")
    } else {
        off.then_some("intremap=off")
    };
    if let Some(word) = word {
        return (
            format!("interrupts are not remapped: the kernel was started with {word}"),
            format!("remove {word} from the kernel's command line, and reboot"),
        );
    }
    if let Some(config) = kernel.config.known().filter(|config| !config.has("CONFIG_IRQ_REMAP")) {
        return (
            "interrupts are not remapped: the kernel was built without it".to_owned(),
            format!(
                "use a kernel that was built with CONFIG_IRQ_REMAP ({} lacks it)",
                config.source
            ),
        );
    }
    let unsafe_way = "if the guest is trusted, write `options vfio_iommu_type1 \
                      allow_unsafe_interrupts=1` to a file in /etc/modprobe.d";
    match facts.firmware.dmar.content() {
        Some(dmar) if !dmar.interrupt_remapping => (
            "interrupts are not remapped: the firmware says that the platform cannot".to_owned(),
            format!("look for x2APIC or interrupt remapping in the firmware's setup; {unsafe_way}"),
        ),
        _ => (
            "interrupts are not remapped".to_owned(),
            format!("see why: sudo dmesg | grep -i remap; {unsafe_way}"),
        ),
    }
}
