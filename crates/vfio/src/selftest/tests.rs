use super::*;
use crate::Interface;
use crate::fixture::{Fixture, capability, pairs};
use crate::sys::mock::MockRegion;
use crate::take::Unwell;
use rustix::io::Errno;

/// A configuration space with a memory BAR, an I/O BAR and MSI-X in BAR 0.
fn config() -> Vec<u8> {
    let mut config = vec![0; 256];
    config[..4].copy_from_slice(&[0x86, 0x80, 0xd3, 0x10]);
    config[6] = 0x10;
    config[0x10..0x14].copy_from_slice(&0xfebc_0000_u32.to_le_bytes());
    config[0x14..0x18].copy_from_slice(&0xc001_u32.to_le_bytes());
    config[0x34] = 0x40;
    config[0x40] = Capability::MSI_X;
    config
}

fn fixture() -> Fixture {
    let fixture = Fixture::new().with_iommufd();
    fixture.mock.state().config = config();
    let ranges = pairs(1, &[[0, 0xffff_ffff]]);
    fixture.mock.state().iommu_capabilities = capability(1, 0, &ranges);
    fixture
}

fn test(fixture: &Fixture, interface: Interface, options: Options) -> Report {
    let choice = Choice { interface, reason: "for the test".to_owned() };
    let open = |choice: &Choice| fixture.open(choice.interface);
    run_with(&fixture.host(), fixture.address(), options, Ok(choice), open)
}

fn outcome(report: &Report, what: Subject) -> &Outcome {
    &report.checks.iter().find(|check| check.what == what).unwrap().outcome
}

fn failure(report: &Report, what: Subject) -> &str {
    match outcome(report, what) {
        Outcome::Fail(why) => why,
        other => panic!("{what:?}: {other:?}"),
    }
}

#[test]
fn a_good_card_passes_by_both_interfaces_and_all_is_undone() {
    for interface in [Interface::Group, Interface::Iommufd] {
        let fixture = fixture();
        let report = test(&fixture, interface, Options { reset: true });
        assert!(report.passed(), "{report:?}");
        assert_eq!(outcome(&report, Subject::Reset), &Outcome::Pass);
        let bars: Vec<_> =
            report.bars.iter().map(|bar| (bar.index, bar.kind, bar.size, bar.msix_table)).collect();
        assert_eq!(
            bars,
            [(0, RegionKind::Memory32, 0x2_0000, true), (1, RegionKind::Io, 32, false)]
        );
        assert_eq!(report.bars[0].mapping, BarMapping::Mapped);
        assert!(fixture.mock.state().mapped.is_empty());
        let log = fixture.mock.take_log();
        let count = |flags: &str| {
            log.iter()
                .filter(|line| line.starts_with(&format!("VFIO_DEVICE_SET_IRQS {flags}")))
                .count()
        };
        // Four kinds: each enabled, triggered, disabled.
        assert_eq!((count("0x24"), count("0x21")), (4, 8));
    }
}

#[test]
fn a_report_is_plain_data() {
    let report = test(&fixture(), Interface::Group, Options::default());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["address"], "0000:01:00.0");
    assert_eq!(json["interface"]["interface"], "group");
    assert_eq!(json["checks"][0], serde_json::json!({"what": "open", "outcome": "pass"}));
    // One type for all: what has a number or a name has it under a key of its own.
    let checks = json["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["what"].is_string()), "{checks:?}");
    let bar = serde_json::to_value(Subject::Bar(2)).unwrap();
    assert_eq!(bar, serde_json::json!({"what": "bar", "which": 2}));
    assert_eq!(json["config"]["ids"], "8086:10d3");
    assert_eq!(json["bars"][1]["mapping"]["not"], "I/O ports cannot be mapped");
    assert_eq!(json["interrupts"][1]["kind"], "msix");
    assert_eq!(json["interrupts"][1]["count"], 5);
    assert_eq!(json["dma"]["ranges"][0], serde_json::json!(["0x0", "0xffffffff"]));
    assert_eq!(json["reset"]["bus_scope"][0]["address"], "0000:01:00.0");
    assert_eq!(
        json["reset"]["methods"],
        serde_json::json!({"unmeasured": "the kernel does not list them"})
    );
}

#[test]
fn without_being_asked_for_no_reset_is_made() {
    let fixture = fixture();
    let report = test(&fixture, Interface::Group, Options::default());
    assert!(matches!(outcome(&report, Subject::Reset), Outcome::Unmeasured(_)));
    assert!(report.passed());
    assert!(!fixture.mock.take_log().contains(&"VFIO_DEVICE_RESET".to_owned()));
    fixture.mock.state().device_flags = 2;
    let report = test(&fixture, Interface::Group, Options { reset: true });
    let why = "the function has no reset of its own".to_owned();
    assert_eq!(outcome(&report, Subject::Reset), &Outcome::Unmeasured(why));
}

#[test]
fn a_card_that_does_not_open_gives_the_reason() {
    let fixture = fixture();
    fixture.mock.state().missing.insert("/dev/vfio/7".to_owned(), Errno::BUSY);
    let report = test(&fixture, Interface::Group, Options::default());
    assert!(!report.passed());
    assert!(report.refusal.as_ref().unwrap().is_busy());
    assert!(failure(&report, Subject::Open).contains("/dev/vfio/7"));
    assert_eq!(report.checks.len(), 1);
}

#[test]
fn each_fault_fails_its_own_check() {
    type Break = fn(&Fixture);
    let faults: [(Subject, Break, &str); 9] = [
        (Subject::Config, |f| f.mock.state().config = vec![0xff; 256], "reads as all ones"),
        (Subject::Config, |f| f.mock.state().config[2] = 0, "shows 8086:1000 where sysfs shows"),
        (Subject::Capabilities, |f| f.mock.state().config[0x41] = 0x40, "leads back to 0x40"),
        (Subject::BusMaster, |f| f.mock.state().config[4] = 4, "bus mastering is on"),
        (
            Subject::Bar(0),
            |f| {
                let region = MockRegion { flags: 7, size: 0x1000, capabilities: Vec::new() };
                f.mock.state().regions.insert(0, region);
            },
            "VFIO shows 4096 bytes where sysfs shows 131072",
        ),
        (
            Subject::Interrupt(Interrupt::Msix),
            |f| f.mock.returns("VFIO_DEVICE_SET_IRQS", 3),
            "3 are available",
        ),
        (
            Subject::Interrupt(Interrupt::Intx),
            |f| f.mock.returns("VFIO_DEVICE_SET_IRQS", 0),
            "no event arrived",
        ),
        (Subject::Dma, |f| f.mock.refuse("VFIO_IOMMU_UNMAP_DMA", Errno::IO), "UNMAP_DMA failed"),
        (
            Subject::Dma,
            |f| {
                let ranges = pairs(1, &[[0, 0xfff]]);
                f.mock.state().iommu_capabilities = capability(1, 0, &ranges);
            },
            "no room for a page",
        ),
    ];
    for (what, fault, expected) in faults {
        let fixture = fixture();
        fault(&fixture);
        let report = test(&fixture, Interface::Group, Options::default());
        assert!(failure(&report, what).contains(expected), "{:?}", report.checks);
        assert!(!report.passed());
    }
}

#[test]
fn a_reset_that_kills_the_card_fails() {
    let fixture = fixture();
    fixture.mock.refuse("VFIO_DEVICE_RESET", Errno::IO);
    let report = test(&fixture, Interface::Group, Options { reset: true });
    let why = failure(&report, Subject::Reset);
    assert!(why.starts_with("VFIO_DEVICE_RESET failed"), "{why}");
    // So no native driver is let at it afterwards.
    let unwell = Unwell::ResetFailed(fixture.address(), why.to_owned());
    assert_eq!(report.unwell(), Some(unwell));
    let unasked = test(&self::fixture(), Interface::Group, Options::default());
    assert_eq!(unasked.unwell(), None);
}

#[test]
fn a_bus_reset_that_cannot_be_asked_about_is_unmeasured() {
    let fixture = fixture();
    fixture.mock.refuse("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", Errno::PERM);
    let report = test(&fixture, Interface::Group, Options::default());
    assert!(report.passed());
    assert!(report.reset.unwrap().bus_scope.known().is_none());
}
