use proptest::prelude::*;

use super::super::line::encode;
use super::super::report::SeenFunction;
use super::*;
use crate::guests::Observer as _;
use crate::lines::LINE_LIMIT;

fn nonce() -> Nonce {
    Nonce::try_from("0123456789abcdef0123456789abcdef".to_owned()).unwrap()
}

fn function(index: usize, driver: Option<&str>) -> Record {
    Record::Function(Box::new(FunctionReport {
        index,
        name: format!("0000:29:00.{index}"),
        candidates: vec!["e1000e".into()],
        seen: Some(SeenFunction {
            address: "0000:01:00.0".into(),
            ids: "8086:10d3".into(),
            class: "020000".into(),
            driver: driver.map(str::to_owned),
            interrupts: Vec::new(),
            networks: Vec::new(),
            blocks: Vec::new(),
            log: vec!["probe of 0000:01:00.0 failed with error -22".into()],
        }),
    }))
}

fn text(records: &[Record]) -> String {
    records.iter().map(|record| encode(&nonce(), record).unwrap()).collect()
}

fn whole(drivers: &[Option<&str>]) -> String {
    let mut records = vec![
        Record::Started { kernel: "6.12".into(), uptime_ms: 1 },
        Record::Loaded { refused: Vec::new(), uptime_ms: 2 },
    ];
    records.extend(drivers.iter().enumerate().map(|(index, driver)| function(index, *driver)));
    records.push(Record::Ended { functions: drivers.len(), uptime_ms: 3 });
    format!("SeaBIOS\r\n[    0.000000] Linux version 6.12 (x) #1\r\n{}", text(&records))
}

fn observe(text: &str, functions: usize) -> Observer {
    let mut observer = Observer::new(nonce(), functions);
    observer.feed(text.as_bytes());
    observer
}

#[test]
fn a_run_is_followed_stage_by_stage() {
    let mut observer = Observer::new(nonce(), 1);
    let mut seen = Vec::new();
    for byte in whole(&[Some("e1000e")]).bytes() {
        seen.extend(observer.feed(&[byte]));
    }
    let [stages @ .., Sign::Report { outcome, .. }, end] = &seen[..] else { panic!("{seen:?}") };
    let reached = |stage: Stage| Sign::Reached { stage: stage.name() };
    assert_eq!(stages, [Stage::Kernel, Stage::Init, Stage::Drivers].map(reached));
    assert_eq!(*outcome, Outcome::Bound { driver: "e1000e".into() });
    assert_eq!(*end, reached(Stage::Report));
    assert_eq!(observer.verdict(), Verdict::Passed);
    assert_eq!(observer.reports().count(), 1);
}

#[test]
fn the_verdict_names_what_is_wrong() {
    let observer = observe(&whole(&[Some("e1000e"), None]), 2);
    assert_eq!(
        observer.verdict().reasons(),
        ["0000:29:00.1: no driver bound it: probe of 0000:01:00.0 failed with error -22"]
    );
    let absent = Record::Function(Box::new(FunctionReport {
        index: 0,
        name: "0000:29:00.0".into(),
        candidates: vec!["e1000e".into()],
        seen: None,
    }));
    let end = Record::Ended { functions: 1, uptime_ms: 3 };
    let observer = observe(&text(&[absent, end]), 1);
    assert_eq!(observer.verdict().reasons(), ["0000:29:00.0: the guest did not see it"]);
    let refused = vec![Refused { module: "e1000e".into(), reason: "Exec format error".into() }];
    let loaded = Record::Loaded { refused, uptime_ms: 2 };
    let end = Record::Ended { functions: 1, uptime_ms: 3 };
    let observer = observe(&text(&[loaded, function(0, None), end]), 1);
    assert_eq!(
        observer.verdict().reasons(),
        ["0000:29:00.0: no driver bound it: cannot load e1000e: Exec format error"]
    );
}

#[test]
fn without_a_report_it_says_how_far_the_guest_came() {
    let observer = observe("", 1);
    assert_eq!(observer.verdict().reasons(), ["it came as far as its firmware"]);
    let panic = "[ 1.0] Kernel panic - not syncing: Attempted to kill init!\r\n";
    let observer = observe(panic, 1);
    assert_eq!(observer.verdict().to_string(), "the reference guest's kernel panicked");
    assert_eq!(observer.verdict().reasons(), ["Attempted to kill init!"]);
    let failed = Record::Failed { reason: "cannot mount /sys".into() };
    let observer = observe(&text(&[failed]), 1);
    assert_eq!(observer.verdict().reasons(), ["cannot mount /sys"]);
}

#[test]
fn a_report_on_fewer_functions_than_were_passed_is_no_pass() {
    let observer = observe(&whole(&[Some("e1000e")]), 2);
    assert!(matches!(observer.verdict(), Verdict::Incomplete { .. }));
}

#[test]
fn a_whole_report_counts_more_than_how_the_run_ended() {
    let passed = whole(&[Some("e1000e")]);
    let bound = whole(&[None]);
    let panic = "Kernel panic - not syncing: x\n";
    for (text, end, expected) in [
        (&*passed, GuestEnd::ShutDown, Finding::Done),
        (&passed, GuestEnd::Stopped, Finding::Done),
        (&bound, GuestEnd::TimedOut, Finding::NotDriven),
        (panic, GuestEnd::Reset, Finding::Panicked),
        ("", GuestEnd::Panicked, Finding::Panicked),
        ("", GuestEnd::ShutDown, Finding::NotBooted),
        ("", GuestEnd::Closed, Finding::NotBooted),
        ("", GuestEnd::Reset, Finding::NotBooted),
        ("", GuestEnd::Stopped, Finding::Stopped),
        ("", GuestEnd::TimedOut, Finding::Hung),
    ] {
        assert_eq!(observe(text, 1).judge(end).finding, expected, "{end:?}");
    }
}

#[test]
fn a_report_with_another_nonce_is_no_report() {
    let forged = whole(&[Some("e1000e")]).replace("0123456789abcdef", "fedcba9876543210");
    assert!(matches!(observe(&forged, 1).verdict(), Verdict::Incomplete { .. }));
}

#[test]
fn an_endless_line_is_bounded() {
    let mut observer = Observer::new(nonce(), 1);
    for _ in 0..64 {
        observer.feed(&[b'x'; 16 << 10]);
        assert!(observer.lines.rest().len() <= LINE_LIMIT);
    }
    observer.feed(b"\n");
    observer.feed(whole(&[Some("e1000e")]).as_bytes());
    assert_eq!(observer.verdict(), Verdict::Passed);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(pieces in prop::collection::vec(any::<Vec<u8>>(), 0..20)) {
        let mut observer = Observer::new(nonce(), 1);
        for piece in pieces {
            observer.feed(&piece);
        }
        prop_assert_ne!(observer.verdict(), Verdict::Passed);
        prop_assert_eq!(observer.reports().count(), 0);
    }

    // Kernel messages, terminal noise and lost bytes may hide a pass, never make one up.
    #[test]
    fn a_garbled_report_never_passes_falsely(
        bound in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<Change>()), 1..6),
    ) {
        let good = whole(&[bound.then_some("e1000e")]);
        let mut bytes = good.into_bytes();
        for (at, change) in changes {
            let at = at.index(bytes.len());
            change.apply(&mut bytes, at);
        }
        let mut observer = Observer::new(nonce(), 1);
        for piece in bytes.chunks(7) {
            observer.feed(piece);
        }
        let passed = observer.verdict() == Verdict::Passed;
        prop_assert!(!passed || bound);
        if passed {
            prop_assert_eq!(observer.reports().count(), 1);
        }
    }

    // Whole lines of others between those of the report change nothing.
    #[test]
    fn lines_between_do_no_harm(noise in prop::collection::vec("[ -~]{0,40}", 12)) {
        let mut noise = noise.into_iter();
        let mut text = String::new();
        for line in whole(&[Some("e1000e")]).split_inclusive('\n') {
            text.push_str(line);
            text.push_str(&noise.next().unwrap_or_default());
            text.push_str("\r\n");
        }
        prop_assert_eq!(observe(&text, 1).verdict(), Verdict::Passed);
    }
}

#[derive(Clone, Debug)]
enum Change {
    Flip(u8),
    Cut(usize),
    Insert(Vec<u8>),
    CarriageReturn,
    KernelLine,
}

impl Change {
    fn apply(self, bytes: &mut Vec<u8>, at: usize) {
        match self {
            Self::Flip(mask) => bytes[at] ^= mask,
            Self::Cut(length) => {
                let end = bytes.len().min(at + length);
                bytes.drain(at..end);
                if bytes.is_empty() {
                    bytes.push(b' ');
                }
            }
            Self::Insert(more) => drop(bytes.splice(at..at, more)),
            Self::CarriageReturn => bytes.insert(at, b'\r'),
            Self::KernelLine => {
                drop(bytes.splice(at..at, *b"\r\n[    1.0] e1000e: NIC Link is Up\x1b[0m\r\n"));
            }
        }
    }
}

impl Arbitrary for Change {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        prop_oneof![
            any::<u8>().prop_map(Self::Flip),
            (1_usize..300).prop_map(Self::Cut),
            any::<Vec<u8>>().prop_map(Self::Insert),
            Just(Self::CarriageReturn),
            Just(Self::KernelLine),
        ]
        .boxed()
    }
}
