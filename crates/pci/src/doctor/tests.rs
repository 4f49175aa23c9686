//! Findings of synthetic hosts: the cause of an IOMMU that is off, and what a card's group and
//! reset tell.

use testkit::acpi;
use testkit::tree::{Bar, Function as Fake, Port, Tree};

use super::*;
use crate::Address;
use crate::facts::Devices;
use crate::refusal::{Code, Options, Target, judge, select};
use crate::uses::{Scope, Uses};

const CONFIG: &str = "CONFIG_AMD_IOMMU=y\nCONFIG_INTEL_IOMMU=y\nCONFIG_INTEL_IOMMU_DEFAULT_ON=y\n\
                      CONFIG_IRQ_REMAP=y\nCONFIG_VFIO_PCI=m\n";

fn intel(tree: &Tree) {
    tree.processor("GenuineIntel", 6, 0x9e, "Core i7-8700", "vmx");
}

fn findings(tree: &Tree) -> Vec<Finding> {
    let sysroot = tree.sysroot();
    let host = Host::read(&sysroot).unwrap();
    check_host(&host, &Facts::read(&sysroot, &host))
}

/// The first finding of the IOMMU that does not pass, as a line.
fn cause(tree: &Tree) -> String {
    let all = findings(tree);
    let found = all
        .iter()
        .find(|finding| finding.subject == Subject::Iommu && finding.status != Status::Pass);
    found.map_or_else(
        || "none".to_owned(),
        |one| format!("{} {:?}: {}", one.code, one.status, one.says),
    )
}

fn dmar() -> Vec<u8> {
    acpi::dmar(acpi::DMAR_INTERRUPT_REMAPPING, &[acpi::drhd(0, 0xfed9_0000, true, &[])])
}

#[test]
fn an_iommu_that_is_off_has_one_cause() {
    type Make = fn(&Tree);
    let cases: [(&str, Make, &str); 12] = [
        (
            "nothing can be read",
            |_| {},
            "E-IOMMU-HARDWARE Unmeasured: there is no /sys/firmware/acpi/tables",
        ),
        (
            "a virtual machine",
            |tree| {
                tree.processor("GenuineIntel", 6, 0x9e, "QEMU", "vmx hypervisor");
                tree.firmware_table(None);
            },
            "E-IOMMU-HARDWARE Fail: this host is a virtual machine, and its machine has no IOMMU",
        ),
        (
            "Intel, off in the firmware",
            |tree| {
                tree.processor("GenuineIntel", 6, 0x55, "Xeon Gold 6130", "vmx");
                tree.firmware_table(None);
            },
            "E-IOMMU-FIRMWARE Fail: the firmware has the IOMMU switched off",
        ),
        (
            "AMD since Zen, off in the firmware",
            |tree| {
                tree.processor("AuthenticAMD", 0x19, 0x21, "Ryzen 7 5800X", "svm");
                tree.firmware_table(None);
            },
            "E-IOMMU-FIRMWARE Fail: the firmware has the IOMMU switched off",
        ),
        (
            "AMD before Zen",
            |tree| {
                tree.processor("AuthenticAMD", 0x10, 4, "Phenom II", "svm");
                tree.firmware_table(None);
            },
            "E-IOMMU-HARDWARE Unmeasured: of AMD's processors before Zen, some have an IOMMU in \
             their chipset",
        ),
        (
            "Intel, whose model alone does not tell",
            |tree| {
                tree.processor("GenuineIntel", 6, 0x3a, "Core i7-3770K", "vmx");
                tree.firmware_table(None);
            },
            "E-IOMMU-HARDWARE Unmeasured: there is no host bridge of Intel's at 0000:00:00.0",
        ),
        (
            "Intel, off by a parameter",
            |tree| {
                intel(tree);
                tree.firmware_table(Some(("DMAR", &dmar())));
                tree.kernel("6.12.1", "quiet intel_iommu=off", CONFIG);
            },
            "E-IOMMU-KERNEL Fail: the kernel was started with intel_iommu=off",
        ),
        (
            "Intel, not asked for",
            |tree| {
                intel(tree);
                tree.firmware_table(Some(("DMAR", &dmar())));
                tree.kernel("6.1.0", "quiet", "CONFIG_INTEL_IOMMU=y\n");
            },
            "E-IOMMU-KERNEL Fail: the kernel leaves the IOMMU off unless it is asked for",
        ),
        (
            "Intel, not built in",
            |tree| {
                intel(tree);
                tree.firmware_table(Some(("DMAR", &dmar())));
                tree.kernel("6.1.0", "intel_iommu=on", "CONFIG_AMD_IOMMU=y\n");
            },
            "E-IOMMU-KERNEL Fail: the kernel was built without CONFIG_INTEL_IOMMU",
        ),
        (
            "AMD, off by a parameter, the harmless one beside it",
            |tree| {
                tree.processor("AuthenticAMD", 0x19, 0x21, "Ryzen 7 5800X", "svm");
                let ivrs = acpi::ivrs(&[acpi::ivhd(0x10, 0, 2, 0xfeb8_0000, &[])]);
                tree.firmware_table(Some(("IVRS", &ivrs)));
                tree.kernel("6.12.1", "amd_iommu=on iommu=off", CONFIG);
            },
            "E-IOMMU-KERNEL Fail: the kernel was started with iommu=off",
        ),
        (
            "a table that describes nothing",
            |tree| {
                intel(tree);
                tree.firmware_table(Some(("DMAR", &acpi::dmar(0, &[]))));
            },
            "E-IOMMU-FIRMWARE Fail: the firmware's table DMAR describes no IOMMU",
        ),
        (
            "on, but interrupts are not remapped",
            |tree| {
                intel(tree);
                tree.firmware_table(Some(("DMAR", &dmar())));
                tree.kernel("6.12.1", "nointremap", CONFIG);
                tree.iommu("dmar0");
                tree.interrupts(false);
            },
            "E-NO-INTERRUPT-REMAPPING Fail: interrupts are not remapped: the kernel was started with \
             nointremap",
        ),
    ];
    for (name, make, expected) in cases {
        let tree = Tree::new();
        make(&tree);
        assert_eq!(cause(&tree), expected, "{name}");
    }
}

#[test]
fn an_intel_host_bridge_tells_whether_vt_d_is_fused_off() {
    // An old client processor and a recent one.
    for model in [0x3a, 0xb7] {
        for (capabilities, expected) in [
            (0, "E-IOMMU-FIRMWARE Fail: the firmware has the IOMMU switched off"),
            (0x80, "E-IOMMU-HARDWARE Fail: Core has no IOMMU"),
        ] {
            let mut tree = Tree::new();
            tree.processor("GenuineIntel", 6, model, "Core", "vmx");
            tree.firmware_table(None);
            let bridge = Fake::new("0000:00:00.0", 0x8086, 0x0150).class(0x06_0000);
            tree.add(bridge.config(0xe6, &[capabilities]));
            assert_eq!(cause(&tree), expected, "{model:x}");
        }
    }
}

#[test]
fn an_amd_function_of_class_0806_is_an_iommu() {
    let mut tree = Tree::new();
    tree.processor("AuthenticAMD", 0x15, 2, "FX-8350", "svm");
    tree.firmware_table(None);
    tree.add(Fake::new("0000:00:00.2", 0x1002, 0x5a23).class(0x08_0600));
    assert_eq!(cause(&tree), "E-IOMMU-FIRMWARE Fail: the firmware has the IOMMU switched off");
}

#[test]
fn the_host_bridge_of_older_intel_processors_tells() {
    for (bits, expected) in [
        (0x80, "E-IOMMU-HARDWARE Fail: Core i7-3770K has no IOMMU"),
        (0x00, "E-IOMMU-FIRMWARE Fail: the firmware has the IOMMU switched off"),
    ] {
        let mut tree = Tree::new();
        tree.processor("GenuineIntel", 6, 0x3a, "Core i7-3770K", "vmx");
        tree.firmware_table(None);
        let bridge = Fake::new("0000:00:00.0", 0x8086, 0x0150).class(0x06_0000);
        tree.add(bridge.config(0xe6, &[bits]));
        assert_eq!(cause(&tree), expected);
    }
}

#[test]
fn a_harmless_parameter_is_never_suggested() {
    let text: String = Code::ALL.iter().map(|code| format!("{:?}", code.explanation())).collect();
    assert!(!text.contains("amd_iommu=on"));
}

#[test]
fn a_host_that_is_ready_passes() {
    let tree = Tree::new();
    intel(&tree);
    tree.firmware_table(Some(("DMAR", &dmar())));
    tree.kernel("6.12.1", "quiet", CONFIG);
    tree.iommu("dmar0");
    tree.interrupts(true);
    let all = findings(&tree);
    assert_eq!(readiness(&all), Readiness::Ready, "{all:#?}");
}

/// A card below a port in one group with another, as below a chipset without ACS.
fn shared(with_acs: &[u8]) -> Tree {
    let mut tree = Tree::new();
    tree.iommu("dmar0");
    let port =
        |address: &str, bus| Fake::port(address, Port::Root, bus).slot().config(0x100, with_acs);
    tree.add(port("0000:00:1c.0", 3).group(5));
    tree.add(port("0000:00:1c.4", 4).group(5));
    tree.add(port("0000:00:01.0", 9).group(1));
    let endpoint =
        |address, above| Fake::new(address, 0x8086, 0x10d3).class(0x02_0000).below(above).group(5);
    tree.add(endpoint("0000:03:00.0", "0000:00:1c.0").attribute("reset_method", "bus\n"));
    tree.add(endpoint("0000:04:00.0", "0000:00:1c.4").bar(0, 0xfe00_0000, 0x1000, Bar::Memory32));
    tree
}

fn card(tree: &Tree, address: &str) -> Vec<Finding> {
    let sysroot = tree.sysroot();
    let host = Host::read(&sysroot).unwrap();
    let facts = Facts::read(&sysroot, &host);
    let address: Address = address.parse().unwrap();
    let selection = select(&host, &[Target::Card(address)], false);
    let mut devices = Devices::read(&sysroot, &host, host.functions());
    for port in host.functions().filter(|function| function.class.is_pci_bridge()) {
        devices.add_bridge(&sysroot, &host, port.address);
    }
    let uses = Uses::read(&sysroot, &host, &Scope::default());
    let verdict = judge(&host, &selection, &uses, None, &Options::default());
    check_card(&CardCase {
        host: &host,
        facts: &facts,
        slots: &free_slots(&host, &devices),
        devices: &devices,
        selection: &selection,
        uses: &uses,
        verdict: &verdict,
    })
}

fn of(findings: &[Finding], code: Code) -> String {
    let found = findings.iter().find(|finding| finding.code == code);
    found.map_or_else(String::new, |one| {
        let remedy = one.remedy.as_deref().unwrap_or_default();
        format!("{:?}: {} | {remedy}", one.status, one.says)
    })
}

#[test]
fn the_bridge_without_acs_is_named_and_another_slot() {
    let none = card(&shared(&[]), "03:00.0");
    assert!(of(&none, Code::GroupShared).starts_with("Fail: 0000:03:00.0 → IOMMU group 5 → "));
    assert_eq!(
        of(&none, Code::Acs),
        "Fail: 0000:00:1c.0 has no ACS | none of the free slots would do: their ports do not \
         isolate either"
    );
    // ACS with all that it needs switched off, on all three ports.
    let off = card(&shared(&[0x0d, 0, 1, 0, 0x1f, 0, 0, 0]), "03:00.0");
    assert!(
        of(&off, Code::Acs).contains("not switched on: SrcValid ReqRedir CmpltRedir UpstreamFwd")
    );
    let on = card(&shared(&[0x0d, 0, 1, 0, 0x1f, 0, 0x1d, 0]), "03:00.0");
    assert!(of(&on, Code::Acs).starts_with("Pass: every port"));
}

#[test]
fn a_bus_reset_that_touches_more_is_told() {
    let mut tree = shared(&[]);
    let findings = card(&tree, "03:00.0");
    assert!(of(&findings, Code::BusReset).starts_with("Pass: a reset of the bus touches nothing"));
    tree.add(Fake::port("0000:00:1e.0", Port::Conventional, 7));
    for device in ["0000:07:01.0", "0000:07:02.0"] {
        let one = Fake::new(device, 0x8086, 0x100e).below("0000:00:1e.0").group(9);
        tree.add(one.attribute("reset_method", "bus\n"));
    }
    let findings = card(&tree, "07:01.0");
    assert!(
        of(&findings, Code::BusReset)
            .starts_with("Fail: a reset of the bus would touch 0000:07:02.0")
    );
    assert!(of(&findings, Code::Acs).contains("conventional PCI"));
}

#[test]
fn reserved_memory_refuses_and_a_device_left_out_is_told() {
    let tree = shared(&[]);
    tree.write(
        "/sys/kernel/iommu_groups/5/reserved_regions",
        "0x000000007b800000 0x000000007b8fffff direct\n",
    );
    let findings = card(&tree, "03:00.0");
    assert!(
        of(&findings, Code::ReservedMemory)
            .starts_with("Fail: the firmware keeps 1024 KiB at 0x7b800000")
    );
    let mut tree = Tree::new();
    tree.iommu("dmar0");
    tree.kernel("6.12.1", "intel_iommu=on,igfx_off", CONFIG);
    tree.add(Fake::new("0000:00:02.0", 0x8086, 0x3e92).class(0x03_0000));
    let findings = card(&tree, "00:02.0");
    assert!(of(&findings, Code::NoGroup).contains("started with igfx_off"));
    assert_eq!(readiness(&findings), Readiness::NotReady);
}

#[test]
fn cards_are_ranked_and_chipset_parts_left_out() {
    let mut tree = shared(&[]);
    tree.add(Fake::new("0000:00:00.0", 0x8086, 0x3ec2).class(0x06_0000).group(0));
    tree.add(Fake::new("0000:00:14.2", 0x8086, 0xa379).class(0x05_0000).group(2));
    tree.add(
        Fake::new("0000:09:00.0", 0x8086, 0x10d3).class(0x02_0000).below("0000:00:01.0").group(7),
    );
    let sysroot = tree.sysroot();
    let host = Host::read(&sysroot).unwrap();
    let facts = Facts::read(&sysroot, &host);
    let devices = Devices::read(&sysroot, &host, host.functions());
    let uses = Uses::read(&sysroot, &host, &Scope::default());
    let ranked: Vec<_> = inventory(&host, &facts, &devices, &uses)
        .iter()
        .map(|one| format!("{} {}", one.card, one.readiness.as_str()))
        .collect();
    assert_eq!(ranked, ["0000:09:00.0 ready", "0000:03:00.0 not ready", "0000:04:00.0 not ready"]);
}
