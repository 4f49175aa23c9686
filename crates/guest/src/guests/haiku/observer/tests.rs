//! Genuine logs, and logs made of genuine lines, with times that pass as the test says.

use haiku::loading::Place;
use proptest::prelude::*;

use super::*;
use crate::guests::Finding;
use crate::guests::haiku::goal::{Driver, Pattern};

fn log(compressed: &[u8]) -> Vec<u8> {
    zstd::decode_all(compressed).unwrap()
}

fn shut_down() -> Vec<u8> {
    log(include_bytes!(
        "../../../../../haiku/fixtures/serial/q35-ahci-boot-userland-shutdown.log.zst"
    ))
}

fn no_volume() -> Vec<u8> {
    log(include_bytes!("../../../../../haiku/fixtures/serial/k_noboot.log.zst"))
}

fn crashed() -> Vec<u8> {
    log(include_bytes!("../../../../../haiku/fixtures/serial/kdl-null.log.zst"))
}

/// The log up to and without `until`.
fn cut(mut log: Vec<u8>, until: &str) -> Vec<u8> {
    let at = log.windows(until.len()).position(|part| part == until.as_bytes()).unwrap();
    log.truncate(at);
    log
}

fn observe(pieces: &[&[u8]]) -> (HaikuObserver, Vec<Sign>) {
    let mut observer = HaikuObserver::default();
    let signs = pieces.iter().flat_map(|piece| observer.feed(piece)).collect();
    (observer, signs)
}

fn reached(stage: &'static str) -> Sign {
    Sign::Reached { stage }
}

#[test]
fn genuine_logs_are_judged_by_what_happened() {
    let mounted = "Mounted boot partition: ";
    let twice = [crashed(), shut_down()].concat();
    let looping = [shut_down(), shut_down(), shut_down()].concat();
    let silent = b"SeaBIOS (version 1.16.2)\r\n\xff".to_vec();
    for (name, log, end, expected) in [
        ("shut down", shut_down(), GuestEnd::ShutDown, Finding::Done),
        ("closed", shut_down(), GuestEnd::Closed, Finding::Done),
        ("stopped", shut_down(), GuestEnd::Stopped, Finding::Stopped),
        ("too long", shut_down(), GuestEnd::TimedOut, Finding::Hung),
        ("not booted", cut(shut_down(), mounted), GuestEnd::TimedOut, Finding::NotBooted),
        ("no volume", no_volume(), GuestEnd::TimedOut, Finding::NotBooted),
        ("no volume, stopped", no_volume(), GuestEnd::Stopped, Finding::NotBooted),
        ("crashed", crashed(), GuestEnd::TimedOut, Finding::Panicked),
        ("crashed, stopped", crashed(), GuestEnd::Stopped, Finding::Panicked),
        ("crashed, shut down", crashed(), GuestEnd::ShutDown, Finding::Panicked),
        ("well after a crash", twice, GuestEnd::ShutDown, Finding::Done),
        ("looping", looping, GuestEnd::TimedOut, Finding::Reset),
        ("reset", shut_down(), GuestEnd::Reset, Finding::Reset),
        ("QEMU was told", shut_down(), GuestEnd::Panicked, Finding::Panicked),
        ("silent", silent, GuestEnd::TimedOut, Finding::Hung),
    ] {
        assert_eq!(observe(&[&log]).0.judge(end).finding, expected, "{name}");
    }
}

#[test]
fn signs_come_in_their_order_and_once() {
    let (_, signs) = observe(&[&shut_down()]);
    assert_eq!(signs, ["boot-loader", "kernel", "pci-scan", "boot-volume"].map(reached));
    let (observer, signs) = observe(&[&crashed()]);
    let reason = "vm_page_fault: unhandled page fault in kernel space at 0x10, ip \
                  0xffffffff8164feec";
    assert_eq!(signs[4..], [Sign::Panicked { reason: reason.into() }, Sign::Debugger]);
    assert_eq!(observer.judge(GuestEnd::Stopped).reasons, [reason]);
}

#[test]
fn the_debugger_is_known_by_its_prompt_before_the_line_ends() {
    let (observer, signs) = observe(&[b"x\r\nkde", b"bug> "]);
    assert_eq!(signs, [Sign::Debugger]);
    assert_eq!(observer.judge(GuestEnd::Stopped).finding, Finding::Panicked);
    assert_eq!(observe(&[b"say kdebug> "]).1, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn pieces_do_not_matter(sizes in prop::collection::vec(1_usize..3000, 1..40)) {
        for log in [crashed(), no_volume()] {
            let whole = observe(&[&log]);
            let mut observer = HaikuObserver::default();
            let (mut signs, mut rest) = (Vec::new(), &log[..]);
            for size in sizes.iter().cycle() {
                let (piece, more) = rest.split_at(rest.len().min(*size));
                signs.extend(observer.feed(piece));
                rest = more;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(&signs, &whole.1);
            for end in GuestEnd::ALL {
                prop_assert_eq!(observer.judge(end), whole.0.judge(end));
            }
        }
    }
}

const PATH: &str = "/boot/home/config/non-packaged/add-ons/kernel/drivers/dev/misc/edu_test";
const EDU: Place = Place { bus: 0, device: 2, function: 0 };
const BOOT: &str = "Welcome to the Haiku boot loader!\r\nWelcome to kernel debugger output!\r\n\
    PCI: [dom 0, bus  0] bus   0, device  2, function  0: vendor 1234, device 11e8, revision 10\r\n\
    PCI:   base reg 0: host c1000000, pci c1000000, size 00100000, flags 00\r\n\
    Mounted boot partition: /dev/disk/scsi/0/5/0/1\r\n";
const CLAIM: &str = "edu_test: found at 0:2.0 bar0 0xc1000000 size 0x100000 irq 22\r\n";

fn loaded() -> String {
    format!("loaded driver {PATH}\r\n")
}

fn goal() -> Goal {
    let driver = Driver {
        name: "edu_test".into(),
        sha256: "ab12".into(),
        paths: vec![PATH.into(), PATH.replace("dev/misc", "bin")],
        modules: vec![],
        has_card: true,
    };
    Goal {
        drivers: vec![driver],
        idle: Some(Duration::from_secs(60)),
        memory: 1 << 31,
        ..Goal::default()
    }
}

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

/// An observer of a guest that has said this, and knows where the card is.
fn watch(goal: Goal, log: &str) -> HaikuObserver {
    let mut observer = HaikuObserver::new(goal);
    observer.feed(log.as_bytes());
    observer.learn(&Fact::Places(vec![EDU]));
    observer
}

#[test]
fn a_driver_passes_with_its_sum_its_line_and_the_line_of_its_card() {
    let observer = watch(goal(), &format!("{BOOT}{CLAIM}{}", loaded()));
    // Whatever ended the run, this was shown.
    for end in [GuestEnd::Decided, GuestEnd::ShutDown, GuestEnd::Stopped, GuestEnd::TimedOut] {
        let verdict = observer.judge(end);
        assert_eq!(verdict.finding, Finding::Done, "{end:?}");
        assert_eq!(verdict.summary, "passed: edu_test was loaded and has 00:02.0");
        assert_eq!(
            verdict.reasons,
            [
                "edu_test with SHA-256 ab12 was loaded".to_owned(),
                format!("line 7 of the log: loaded driver {PATH}"),
                "edu_test claimed the card at 00:02.0 of the guest".to_owned(),
                format!("line 6 of the log: {}", CLAIM.trim_end()),
            ]
        );
    }
}

#[test]
fn what_a_run_did_not_show_is_said_with_the_line_that_says_why() {
    let bin = PATH.replace("dev/misc", "bin");
    let packaged = "loaded driver /boot/system/add-ons/kernel/drivers/dev/misc/";
    let crash = "debug_server: Thread 84 entered the debugger: Segment violation\r\n";
    let page_fault = "PANIC: vm_page_fault: x\r\nWelcome to Kernel Debugging Land...\r\n";
    for (name, more, end, finding, says) in [
        ("off", loaded(), GuestEnd::ShutDown, Finding::Unproven, "no line of edu_test names"),
        (
            "another card",
            format!("edu_test: at 0:3.0\r\n{}", loaded()),
            GuestEnd::ShutDown,
            { Finding::Unproven },
            "no line of edu_test names",
        ),
        ("nothing", String::new(), GuestEnd::Decided, Finding::NotDriven, "nothing opened"),
        ("cut", String::new(), GuestEnd::TimedOut, Finding::Unproven, "the guest's time was up"),
        ("shut down", String::new(), GuestEnd::ShutDown, Finding::NotDriven, "nothing opened"),
        ("opened", format!("{packaged}mem\r\n"), GuestEnd::TimedOut, Finding::NotDriven, {
            "the kernel loaded from there: line 6 of the log: loaded driver /boot/system"
        }),
        ("opened, cut", format!("{packaged}mem\r\n"), GuestEnd::TimedOut, Finding::NotDriven, {
            "the guest's time was up"
        }),
        (
            "superseded",
            format!("{packaged}edu_test\r\n"),
            GuestEnd::TimedOut,
            { Finding::NotDriven },
            "another driver of its name came before it",
        ),
        (
            "symbol",
            format!("\"{bin}\": could not resolve symbol 'frob'\r\n"),
            { GuestEnd::Decided },
            Finding::NotDriven,
            "could not resolve symbol 'frob'",
        ),
        (
            "rejected",
            format!("Could not load kernel add-on \"{bin}\": Bad data\r\n"),
            { GuestEnd::Decided },
            Finding::NotDriven,
            "Bad data",
        ),
        (
            "crash",
            format!("{CLAIM}{}{crash}", loaded()),
            GuestEnd::Decided,
            { Finding::ProgramCrashed },
            "line 8 of the log: debug_server",
        ),
        (
            "panic",
            format!("{CLAIM}{}{page_fault}", loaded()),
            GuestEnd::Decided,
            { Finding::Panicked },
            "vm_page_fault: x",
        ),
        ("stopped", String::new(), GuestEnd::Stopped, Finding::Stopped, "edu_test was loaded"),
        ("reset", loaded(), GuestEnd::Reset, Finding::Reset, "triple fault"),
    ] {
        let verdict = watch(goal(), &format!("{BOOT}{more}")).judge(end);
        assert_eq!(verdict.finding, finding, "{name}: {verdict:?}");
        let all = format!("{}\n{}", verdict.summary, verdict.reasons.join("\n"));
        assert!(all.contains(says), "{name}: {all}");
    }
}

#[test]
fn what_proves_nothing_does_not_pass() {
    let namesake = "loaded driver /boot/system/add-ons/kernel/drivers/dev/misc/edu_test\r\n";
    let loaded = loaded();
    for (name, more, finding, says) in [
        (
            "denial",
            format!("edu_test: 0:2.0 is not mine, skipped\r\n{loaded}"),
            { Finding::Unproven },
            "edu_test denies that it took the card: line 6 of the log: edu_test: 0:2.0",
        ),
        (
            "withdrawn",
            format!("{CLAIM}{loaded}edu_test: 0:2.0 failed\r\n"),
            { Finding::Unproven },
            "line 8 of the log: edu_test: 0:2.0 failed",
        ),
        (
            "at last",
            format!("edu_test: 0:2.0 not ready\r\n{CLAIM}{loaded}"),
            { Finding::Done },
            "passed",
        ),
        (
            "namesake after",
            format!("{loaded}{namesake}{CLAIM}"),
            { Finding::Unproven },
            "nobody knows which of them says what: line 7 of the log: loaded driver /boot/system",
        ),
        (
            "namesake before",
            format!("{namesake}{CLAIM}{loaded}"),
            { Finding::Unproven },
            "another driver called edu_test",
        ),
        (
            "another",
            format!("{loaded}other: found at 0:2.0 bar0\r\n"),
            { Finding::NotDriven },
            "line 7 of the log: other: found at 0:2.0",
        ),
        (
            "another alone",
            "other: found at 0:2.0 bar0\r\n".to_owned(),
            { Finding::NotDriven },
            "another driver took the card",
        ),
        (
            "another too",
            format!("{CLAIM}{loaded}other: found at 0:2.0 bar0\r\n"),
            { Finding::Unproven },
            "edu_test says that it took the card at 00:02.0: line 6 of the log: edu_test: found at \
             0:2.0 bar0 0xc1000000 size 0x100000 irq 22; another driver: line 8 of the log: other: \
             found at 0:2.0 bar0",
        ),
        (
            "another before",
            format!("other: found at 0:2.0 bar0\r\n{CLAIM}{loaded}"),
            { Finding::Unproven },
            "two drivers say that they took the card",
        ),
        (
            "another lets go",
            format!("{CLAIM}{loaded}other: found at 0:2.0\r\nother: 0:2.0 failed\r\n"),
            { Finding::Done },
            "passed",
        ),
        (
            "one of others lets go",
            format!(
                "{CLAIM}{loaded}other: found at 0:2.0\r\nthird: found at 0:2.0\r\n\
                 other: 0:2.0 failed\r\n"
            ),
            { Finding::Unproven },
            "line 9 of the log: third",
        ),
        (
            "another denies",
            format!("{loaded}other: 0:2.0 is not mine\r\n"),
            { Finding::Unproven },
            "no line of edu_test names",
        ),
        (
            "the kernel",
            format!("{loaded}PCI: 0:2.0 found\r\n"),
            { Finding::Unproven },
            "no line of edu_test names",
        ),
    ] {
        let verdict = watch(goal(), &format!("{BOOT}{more}")).judge(GuestEnd::ShutDown);
        assert_eq!(verdict.finding, finding, "{name}: {verdict:?}");
        let all = format!("{}\n{}", verdict.summary, verdict.reasons.join("\n"));
        assert!(all.contains(says), "{name}: {all}");
    }
    // The kernel's scan is no word of a driver that is called like it.
    let mut goal = goal();
    goal.drivers[0].name = "pci_test".into();
    let verdict = watch(goal, &format!("{BOOT}{loaded}")).judge(GuestEnd::ShutDown);
    assert_eq!(verdict.finding, Finding::Unproven, "{verdict:?}");
    // Two drivers of one name are not waited for, nor two of one card.
    let other = "other: found at 0:2.0\r\n";
    for more in [namesake, other] {
        let mut confused = watch(self::goal(), &format!("{BOOT}{loaded}{more}{CLAIM}"));
        let done = times(&mut confused, Duration::from_secs(5));
        assert_eq!(done.last(), Some(&(7, Action::End { orderly: true })), "{more}");
    }
}

#[test]
fn that_no_line_means_failure_is_no_success() {
    let goal = || Goal { fail: vec![pattern("^FAIL")], ..Goal::default() };
    let quiet = || watch(goal(), BOOT);
    // Nothing was waited for, so nothing ends it.
    assert_eq!(times(&mut quiet(), Duration::from_secs(5)), [(5, Action::AskPlaces)]);
    for (end, finding) in [
        (GuestEnd::ShutDown, Finding::Done),
        (GuestEnd::Closed, Finding::Done),
        (GuestEnd::TimedOut, Finding::Unproven),
        (GuestEnd::Stopped, Finding::Stopped),
    ] {
        let verdict = quiet().judge(end);
        assert_eq!(verdict.finding, finding, "{end:?}");
        assert!(!verdict.summary.contains("passed"), "{verdict:?}");
    }
    let unbooted = watch(goal(), &BOOT[..70]).judge(GuestEnd::TimedOut);
    assert_eq!(unbooted.finding, Finding::NotBooted);
    let mut failed = watch(goal(), &format!("{BOOT}FAIL\r\n"));
    let done = times(&mut failed, Duration::from_secs(5));
    assert_eq!(done.last(), Some(&(7, Action::End { orderly: true })));
    assert_eq!(failed.judge(GuestEnd::Decided).finding, Finding::Failed);
}

#[test]
fn a_card_that_the_guest_does_not_see_is_said_so() {
    let mut observer = watch(goal(), BOOT);
    observer.learn(&Fact::Places(vec![Place { bus: 1, ..EDU }]));
    let verdict = observer.judge(GuestEnd::TimedOut);
    assert_eq!(verdict.summary, "edu_test was not loaded: the guest does not see the card");
}

#[test]
fn lines_that_mean_success_or_failure_decide() {
    let marks = || Goal {
        until: Some(pattern("all (is )?well")),
        fail: vec![pattern("^FAIL")],
        ..Goal::default()
    };
    for (log, end, finding) in [
        ("\x1b[32mall is well\x1b[0m\r\n", GuestEnd::Decided, Finding::Done),
        ("all is well\r\nFAIL\r\n", GuestEnd::Decided, Finding::Failed),
        ("all is we\r\n", GuestEnd::ShutDown, Finding::Unproven),
        ("", GuestEnd::TimedOut, Finding::Unproven),
    ] {
        let verdict = watch(marks(), &format!("{BOOT}{log}")).judge(end);
        assert_eq!(verdict.finding, finding, "{log:?}: {verdict:?}");
    }
}

#[test]
fn a_fault_of_the_card_is_explained_with_the_hosts_line() {
    let line = "DMAR: [DMA Write] Request device [29:00.0] fault addr 0xffff00000000";
    let mut observer = watch(goal(), &format!("{BOOT}{CLAIM}{}", loaded()));
    observer.learn(&Fact::Host("vfio-pci 0000:29:00.0: resetting".into()));
    assert_eq!(observer.judge(GuestEnd::Decided).finding, Finding::Done);
    observer.learn(&Fact::Host(line.into()));
    let verdict = observer.judge(GuestEnd::Decided);
    assert_eq!(verdict.finding, Finding::CardFault);
    assert!(verdict.summary.contains("no memory of the guest's"), "{verdict:?}");
    assert_eq!(verdict.reasons, [format!("the host's kernel said: {line}")]);
    // Also where nothing was to be shown.
    let mut used = watch(Goal::default(), BOOT);
    used.learn(&Fact::Host(line.into()));
    assert_eq!(used.judge(GuestEnd::ShutDown).finding, Finding::CardFault);
}

/// Asks the observer at its own times until it wants the end, and returns what it did when.
fn times(observer: &mut HaikuObserver, from: Duration) -> Vec<(u64, Action)> {
    let (mut at, mut done) = (from, Vec::new());
    for _ in 0..20 {
        let Wish { actions, again } = observer.act(at);
        let is_end = actions.iter().any(|action| matches!(action, Action::End { .. }));
        done.extend(actions.into_iter().map(|action| (at.as_secs(), action)));
        match again {
            Some(next) if !is_end => {
                assert!(next > at, "asked again at {next:?} after {at:?}");
                at = next;
            }
            _ => break,
        }
    }
    done
}

#[test]
fn a_silent_guest_is_asked_where_it_is_and_the_verdict_says_so() {
    let from = Duration::from_secs(10);
    let mut observer = watch(goal(), &format!("{BOOT}{}", loaded()));
    let done = times(&mut observer, from);
    let expected =
        [(10, Action::AskPlaces), (70, Action::Interrupt), (80, Action::End { orderly: false })];
    assert_eq!(done, expected);
    let verdict = observer.judge(GuestEnd::Decided);
    assert_eq!(verdict.finding, Finding::Hung);
    assert_eq!(verdict.summary, "the guest said nothing for 60 s");
    let reasons = verdict.reasons.join("\n");
    assert!(reasons.contains("did not answer to a non-maskable interrupt"), "{reasons}");
    assert!(reasons.contains("its last words are line 6 of the log: loaded driver"), "{reasons}");

    // One that answers shows where it is.
    let answer = |thread: &str| {
        let mut observer = watch(goal(), BOOT);
        observer.act(from);
        assert_eq!(observer.act(from * 10).actions, [Action::Interrupt]);
        let said = format!(
            "PANIC: Fatal exception \"NMI Interrupt\" occurred! Error code: 0x0\r\n\
             Welcome to Kernel Debugging Land...\r\n{thread} running on CPU 0\r\nkdebug> "
        );
        observer.feed(said.as_bytes());
        let done = times(&mut observer, from * 10);
        assert_eq!(done.first(), Some(&(100, Action::Send(b"paging off\r".to_vec()))));
        // It answers nothing, and is not waited for for ever.
        assert_eq!(done.last(), Some(&(120, Action::End { orderly: false })));
        observer.judge(GuestEnd::Decided)
    };
    let busy = answer("Thread 352 \"mydriver worker\"");
    assert_eq!(busy.finding, Finding::Hung);
    assert!(busy.reasons[0].contains("Thread 352 \"mydriver worker\""), "{busy:?}");
    // What it said by itself, not what it was asked.
    assert!(busy.reasons[1].contains("line 5 of the log: Mounted boot"), "{busy:?}");
    // A processor with nothing to do does not hang: the driver was never asked for.
    let idle = answer("Thread 3 \"idle thread 1\"");
    assert_eq!(idle.finding, Finding::NotDriven, "{idle:?}");
}

#[test]
fn a_run_ends_when_nothing_is_left_to_wait_for_unless_it_is_to_be_kept() {
    let log = format!("{BOOT}{CLAIM}{}", loaded());
    let mut observer = watch(goal(), &log);
    let done = times(&mut observer, Duration::from_secs(5));
    assert_eq!(done, [(5, Action::AskPlaces), (7, Action::End { orderly: true })]);
    let mut kept = watch(Goal { keep: true, ..goal() }, &log);
    let done = times(&mut kept, Duration::from_secs(5));
    assert_eq!(done, [(5, Action::AskPlaces), (7, Action::Conclude)]);
    assert_eq!(kept.act(Duration::from_secs(9)), Wish::default());
    assert_eq!(kept.judge(GuestEnd::Stopped).finding, Finding::Done);
    // Its debugger is asked all the same, and then left to whoever is there.
    kept.feed(b"PANIC: late\r\nkdebug> ");
    let done = times(&mut kept, Duration::from_secs(10));
    assert_eq!(done.first(), Some(&(10, Action::Send(b"paging off\r".to_vec()))));
    assert_eq!(done.last().map(|(_, action)| action), Some(&Action::Conclude));
    kept.feed(b"\r\nkdebug> ");
    assert_eq!(kept.act(Duration::from_secs(99)), Wish::default());
    let mut alone = watch(Goal { hands_off: true, ..goal() }, &log);
    alone.feed(b"PANIC: late\r\nkdebug> ");
    assert_eq!(times(&mut alone, Duration::from_secs(5)), [(5, Action::AskPlaces)]);
    // A panic in the time of grace counts.
    let mut late = watch(goal(), &log);
    late.act(Duration::from_secs(5));
    late.feed(b"PANIC: late\r\nkdebug> ");
    let asked = late.act(Duration::from_secs(6)).actions;
    assert_eq!(asked, [Action::Send(b"paging off\r".to_vec())]);
    assert_eq!(late.judge(GuestEnd::Decided).finding, Finding::Panicked);
    // Of a guest that somebody uses, nothing is ended.
    let mut used = watch(Goal::default(), BOOT);
    assert_eq!(times(&mut used, Duration::from_secs(5)), [(5, Action::AskPlaces)]);
}

#[test]
fn resets_that_lead_to_no_volume_are_a_loop() {
    let mut observer = HaikuObserver::default();
    for number in 0..3 {
        assert_eq!(observer.act(Duration::ZERO).actions, [], "{number}");
        observer.learn(&Fact::Reset);
    }
    assert_eq!(observer.act(Duration::ZERO).actions, [Action::End { orderly: false }]);
    assert_eq!(observer.judge(GuestEnd::Decided).finding, Finding::Reset);
    observer.feed(BOOT.as_bytes());
    assert_eq!(observer.act(Duration::ZERO).actions, [Action::AskPlaces]);
}

#[test]
fn a_debugger_that_nobody_asks_and_that_writes_for_ever_takes_no_memory() {
    let mut alone = watch(Goal { hands_off: true, ..goal() }, BOOT);
    alone.feed(b"PANIC: late\r\nkdebug> ");
    for _ in 0..64 {
        alone.feed(&b"x\n".repeat(128 << 10));
    }
    let waiting: usize = alone.heard.iter().map(Heard::size).sum();
    assert!(waiting > 0 && waiting < 3 * WAITING, "{waiting}");
}
