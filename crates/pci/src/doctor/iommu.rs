//! The IOMMU: whether the hardware has one, the firmware has it on, the kernel uses it.
//!
//! The three are asked in turn, and the first that fails ends it: what comes after could only
//! repeat it. So there is one cause and one remedy.

use ::host::Measured;

use super::{Finding, Subject};
use crate::Host;
use crate::facts::{Facts, Processor, Table};
use crate::refusal::Code;

const TABLES: &str = "/sys/firmware/acpi/tables";
const UNITS: &str = "/sys/class/iommu";
const CMDLINE: &str = "/proc/cmdline";
const CPUINFO: &str = "/proc/cpuinfo";

/// The IOMMU that a table describes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Maker {
    Intel,
    Amd,
}

impl Maker {
    fn table(self) -> &'static str {
        match self {
            Self::Intel => "DMAR",
            Self::Amd => "IVRS",
        }
    }
}

/// Judges the IOMMU.
pub(super) fn check(host: &Host, facts: &Facts) -> Vec<Finding> {
    if let Some(units) = facts.iommu.units.known().filter(|units| !units.is_empty()) {
        return in_use(facts, units);
    }
    let maker = if facts.firmware.dmar.is_present() {
        Some(Maker::Intel)
    } else if facts.firmware.ivrs.is_present() {
        Some(Maker::Amd)
    } else {
        None
    };
    match maker {
        Some(maker) => described(facts, maker),
        None => undescribed(host, facts),
    }
}

fn in_use(facts: &Facts, units: &[String]) -> Vec<Finding> {
    let count = match units.len() {
        1 => "an IOMMU".to_owned(),
        count => format!("{count} IOMMUs"),
    };
    let firmware = Finding::pass(Code::IommuFirmware, Subject::Iommu, "the firmware has it on");
    let firmware = match (facts.firmware.dmar.is_present(), facts.firmware.ivrs.is_present()) {
        (true, _) => firmware.seen(format!("{TABLES}/DMAR"), "present"),
        (_, true) => firmware.seen(format!("{TABLES}/IVRS"), "present"),
        _ => firmware.seen(UNITS, units.join(" ")),
    };
    vec![
        Finding::pass(Code::IommuHardware, Subject::Iommu, format!("the hardware has {count}"))
            .seen(UNITS, units.join(" ")),
        firmware,
        Finding::pass(Code::IommuKernel, Subject::Iommu, format!("the kernel uses {count}"))
            .seen(UNITS, units.join(" ")),
    ]
}

/// The firmware describes an IOMMU, and the kernel does not use it.
fn described(facts: &Facts, maker: Maker) -> Vec<Finding> {
    let table = format!("{TABLES}/{}", maker.table());
    let hardware = Finding::pass(Code::IommuHardware, Subject::Iommu, "the hardware has an IOMMU")
        .seen(&table, "present");
    let counted = match maker {
        Maker::Intel => facts.firmware.dmar.content().map(|dmar| dmar.units.len()),
        Maker::Amd => facts.firmware.ivrs.content().map(|ivrs| ivrs.units.len()),
    };
    if counted == Some(0) {
        let says = format!("the firmware's table {} describes no IOMMU", maker.table());
        let firmware = Finding::fail(Code::IommuFirmware, Subject::Iommu, says)
            .seen(table, "no unit")
            .remedy(switch(Some(maker)));
        return vec![hardware, firmware];
    }
    let damage = match (&facts.firmware.dmar, &facts.firmware.ivrs) {
        (Table::Damaged(error), _) if maker == Maker::Intel => Some(error),
        (_, Table::Damaged(error)) if maker == Maker::Amd => Some(error),
        _ => None,
    };
    let firmware = match damage {
        Some(error) => Finding::unmeasured(
            Code::IommuFirmware,
            Subject::Iommu,
            format!("the firmware's table {} cannot be understood: {error}", maker.table()),
        )
        .seen(&table, "damaged")
        .remedy("update the firmware"),
        None => Finding::pass(Code::IommuFirmware, Subject::Iommu, "the firmware has it on")
            .seen(&table, "present"),
    };
    vec![hardware, firmware, kernel(facts, maker)]
}

fn kernel(facts: &Facts, maker: Maker) -> Finding {
    let code = Code::IommuKernel;
    if let Measured::Unmeasured { unmeasured } = &facts.iommu.units {
        return Finding::unmeasured(code, Subject::Iommu, unmeasured);
    }
    let fail = |says: String| Finding::fail(code, Subject::Iommu, says).seen(UNITS, "empty");
    let kernel = &facts.kernel;
    let (parameter, option) = match maker {
        Maker::Intel => ("intel_iommu", "CONFIG_INTEL_IOMMU"),
        Maker::Amd => ("amd_iommu", "CONFIG_AMD_IOMMU"),
    };
    // What comes last wins, and a value may be a list (drivers/iommu/{intel/iommu,amd/init}.c,
    // arch/x86/kernel/pci-dma.c).
    for name in [parameter, "iommu"] {
        let value = kernel.parameter(name);
        if value.is_some_and(|value| value.split(',').any(|word| word == "off")) {
            return fail(format!("the kernel was started with {name}=off"))
                .seen(CMDLINE, format!("{name}=off"))
                .remedy(format!("remove {name}=off from the kernel's command line, and reboot"));
        }
    }
    if let Some(config) = kernel.config.known() {
        if !config.has(option) {
            return fail(format!("the kernel was built without {option}"))
                .seen(&config.source, format!("{option} is not set"))
                .remedy(format!("use a kernel that was built with {option}"));
        }
        let asked = kernel
            .parameter(parameter)
            .is_some_and(|value| value.split(',').any(|word| word == "on"));
        let on = ["CONFIG_INTEL_IOMMU_DEFAULT_ON", "CONFIG_INTEL_IOMMU_DEFAULT_ON_INTGPU_OFF"];
        if maker == Maker::Intel && !asked && !on.iter().any(|option| config.has(option)) {
            if let Measured::Unmeasured { unmeasured } = &kernel.command_line {
                return Finding::unmeasured(code, Subject::Iommu, unmeasured).seen(UNITS, "empty");
            }
            return fail("the kernel leaves the IOMMU off unless it is asked for".to_owned())
                .seen(&config.source, format!("{} is not set", on[0]))
                .seen(CMDLINE, "no intel_iommu=on")
                .remedy("add intel_iommu=on to the kernel's command line, and reboot");
        }
    }
    let finding = fail(
        "the kernel does not use the IOMMU, and neither its configuration nor its \
                        command line says why"
            .to_owned(),
    );
    let finding = match &kernel.config {
        Measured::Known(config) => finding.seen(&config.source, format!("{option}=y")),
        Measured::Unmeasured { unmeasured } => finding.seen("the configuration", unmeasured),
    };
    finding
        .remedy("see what the kernel says of it: sudo dmesg | grep -e DMAR -e AMD-Vi -e IOMMU")
        .settle("sudo dmesg | grep -e DMAR -e AMD-Vi -e IOMMU")
}

/// The firmware describes no IOMMU: there is none, or it is switched off.
fn undescribed(host: &Host, facts: &Facts) -> Vec<Finding> {
    let hardware = Code::IommuHardware;
    if let Measured::Unmeasured { unmeasured } = &facts.firmware.has_tables {
        return vec![Finding::unmeasured(hardware, Subject::Iommu, unmeasured)];
    }
    if let Some(function) = facts.firmware.iommu_functions.first() {
        let class = host.function(*function).map(|function| function.class.to_string());
        let path = format!("{}/class", crate::Function::path(*function));
        let found = Finding::pass(hardware, Subject::Iommu, format!("{function} is an IOMMU"))
            .seen(path, class.unwrap_or_default());
        return vec![found, firmware_off(Some(Maker::Amd))];
    }
    let processor = match &facts.processor {
        Measured::Known(processor) => processor,
        Measured::Unmeasured { unmeasured } => {
            return vec![Finding::unmeasured(hardware, Subject::Iommu, unmeasured)];
        }
    };
    let identity =
        format!("{}, family {}, model {}", processor.vendor, processor.family, processor.model);
    if processor.is_guest {
        let says = "this host is a virtual machine, and its machine has no IOMMU";
        return vec![
            Finding::fail(hardware, Subject::Iommu, says)
                .seen(CPUINFO, "flags: hypervisor")
                .seen(TABLES, "neither DMAR nor IVRS")
                .remedy(
                    "give the machine one on the outer host (QEMU: -machine q35,\
                     kernel-irqchip=split -device intel-iommu,intremap=on); or use kireji lab",
                ),
        ];
    }
    let maker = if processor.is_intel() {
        Some(Maker::Intel)
    } else {
        processor.is_amd().then_some(Maker::Amd)
    };
    let finding = match has_iommu(processor, &facts.firmware.vtd_fused_off) {
        Measured::Known(true) => {
            let says = format!("{} has an IOMMU", processor.name);
            let found = Finding::pass(hardware, Subject::Iommu, says).seen(CPUINFO, identity);
            return vec![found, firmware_off(maker)];
        }
        Measured::Known(false) => {
            let says = format!("{} has no IOMMU", processor.name);
            Finding::fail(hardware, Subject::Iommu, says)
                .seen(TABLES, "neither DMAR nor IVRS")
                .remedy("another processor is needed; kireji lab runs everything without one")
        }
        Measured::Unmeasured { unmeasured } => {
            Finding::unmeasured(hardware, Subject::Iommu, unmeasured)
                .seen(TABLES, "neither DMAR nor IVRS")
                .remedy(switch(maker))
        }
    };
    vec![finding.seen(CPUINFO, identity)]
}

fn firmware_off(maker: Option<Maker>) -> Finding {
    Finding::fail(Code::IommuFirmware, Subject::Iommu, "the firmware has the IOMMU switched off")
        .seen(TABLES, "neither DMAR nor IVRS")
        .remedy(switch(maker))
}

fn switch(maker: Option<Maker>) -> &'static str {
    match maker {
        Some(Maker::Intel) => {
            "in the firmware's setup switch on VT-d, also called Intel Virtualization Technology for \
             Directed I/O, often under Advanced, Chipset or System Agent; VT-x is another switch"
        }
        Some(Maker::Amd) => {
            "in the firmware's setup set IOMMU (also called AMD-Vi) to Enabled rather than Auto, \
             often under Advanced, AMD CBS, NBIO or North Bridge; SVM Mode is another switch"
        }
        None => "look for IOMMU in the firmware's setup, and switch it on",
    }
}

/// Client processors of Intel's of family 6 whose host bridge tells whether VT-d is fused off, as
/// it is in some of each generation ("may not be available on all SKUs" in their datasheets):
/// Sandy Bridge to Raptor Lake and Meteor Lake. Models of arch/x86/include/asm/intel-family.h; the
/// register as in coreboot's headers of these generations.
const TELLING: [u32; 26] = [
    0x2a, 0x3a, 0x3c, 0x45, 0x46, 0x3d, 0x47, 0x4e, 0x5e, 0x8e, 0x9e, 0xa5, 0xa6, 0x66, 0x7d, 0x7e,
    0x8c, 0x8d, 0x97, 0x9a, 0xbe, 0xb7, 0xba, 0xbf, 0xaa, 0xac,
];
/// Server processors of Intel's of family 6, whose datasheets list VT-d without an exception: from
/// Ivy Bridge on. Of Sandy Bridge some steppings have one that does not work.
const WITH_VTD: [u32; 12] =
    [0x3e, 0x3f, 0x4f, 0x56, 0x55, 0x6a, 0x6c, 0x8f, 0xcf, 0xad, 0xae, 0xaf];
/// AMD's Zen and what followed: the IOMMU is on the processor.
const ZEN: u32 = 0x17;

/// Whether a processor, or the chipset that it needs, has an IOMMU.
fn has_iommu(processor: &Processor, fused_off: &Measured<bool>) -> Measured<bool> {
    if processor.is_amd() {
        return match processor.family {
            ZEN.. => Measured::Known(true),
            _ => Measured::unmeasured(
                "of AMD's processors before Zen, some have an IOMMU in their chipset",
            ),
        };
    }
    if processor.is_intel() && processor.family == 6 {
        if TELLING.contains(&processor.model) {
            return fused_off.clone().map(|off| !off);
        }
        if WITH_VTD.contains(&processor.model) {
            return Measured::Known(true);
        }
    }
    Measured::unmeasured(format!(
        "whether this processor has an IOMMU is not known here ({} family {} model {})",
        processor.vendor, processor.family, processor.model
    ))
}
