//! Follows Haiku by its serial line.

use haiku::serial::{self, PROMPT, is_no_boot_volume};

use super::super::{Finding, Observer, Sign, Verdict};
use crate::lines::Lines;
use crate::process::GuestEnd;

/// So many boots in one run that came to no end of its own are a loop.
const LOOP: u32 = 3;

/// How far a boot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Loader,
    Kernel,
    BootVolume,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Loader => "boot-loader",
            Self::Kernel => "kernel",
            Self::BootVolume => "boot-volume",
        }
    }
}

/// The observer of one run.
#[derive(Debug, Default)]
pub(super) struct HaikuObserver {
    lines: Lines,
    boots: u32,
    boot: Boot,
}

/// What was seen of the latest boot.
#[derive(Debug, Default)]
struct Boot {
    stage: Option<Stage>,
    panic: Option<String>,
    in_debugger: bool,
}

impl Observer for HaikuObserver {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Sign> {
        let mut signs = Vec::new();
        let mut lines = std::mem::take(&mut self.lines);
        lines.feed(bytes, |line| self.line(&String::from_utf8_lossy(line), &mut signs));
        // The debugger waits for a command at the end of a line that it does not end.
        if lines.rest().starts_with(PROMPT.as_bytes()) {
            self.enter_debugger(&mut signs);
        }
        self.lines = lines;
        signs
    }

    fn judge(&self, end: GuestEnd) -> Verdict {
        if let Some(verdict) = self.panicked() {
            return verdict;
        }
        match end {
            GuestEnd::ShutDown => Verdict::new(Finding::Done, "the guest shut down"),
            GuestEnd::Closed => Verdict::new(Finding::Done, "QEMU was closed"),
            GuestEnd::Stopped => Verdict::new(Finding::Stopped, "the guest was stopped"),
            GuestEnd::Reset => Verdict::new(Finding::Reset, "the guest reset the machine"),
            GuestEnd::Panicked => Verdict::new(Finding::Panicked, "the guest's kernel panicked"),
            GuestEnd::TimedOut => self.timed_out(),
        }
    }
}

impl HaikuObserver {
    fn line(&mut self, line: &str, signs: &mut Vec<Sign>) {
        match serial::sign(line) {
            Some(serial::Sign::Loader) => {
                // A new boot forgets the one before it.
                self.boots = self.boots.saturating_add(1);
                self.boot = Boot::default();
                self.reach(Stage::Loader, signs);
            }
            Some(serial::Sign::Kernel) => self.reach(Stage::Kernel, signs),
            Some(serial::Sign::BootVolume(_)) => self.reach(Stage::BootVolume, signs),
            // The first is the cause; the debugger repeats it when asked.
            Some(serial::Sign::Panic(reason)) if self.boot.panic.is_none() => {
                self.boot.panic = Some(reason.to_owned());
                signs.push(Sign::Panicked { reason: reason.to_owned() });
            }
            Some(serial::Sign::Debugger) => self.enter_debugger(signs),
            Some(serial::Sign::Panic(_)) | None => {}
        }
    }

    fn reach(&mut self, stage: Stage, signs: &mut Vec<Sign>) {
        if self.boot.stage < Some(stage) {
            self.boot.stage = Some(stage);
            signs.push(Sign::Reached { stage: stage.name() });
        }
    }

    fn enter_debugger(&mut self, signs: &mut Vec<Sign>) {
        if !std::mem::replace(&mut self.boot.in_debugger, true) {
            signs.push(Sign::Debugger);
        }
    }

    fn panicked(&self) -> Option<Verdict> {
        match &self.boot.panic {
            Some(reason) if is_no_boot_volume(reason) => {
                let verdict = Verdict::new(Finding::NotBooted, "found no volume to boot from");
                Some(verdict.because(reason))
            }
            Some(reason) => {
                let verdict = Verdict::new(Finding::Panicked, "the guest's kernel panicked");
                Some(verdict.because(reason))
            }
            None if self.boot.in_debugger => {
                let words = "the guest's kernel entered its debugger";
                Some(Verdict::new(Finding::Panicked, words))
            }
            None => None,
        }
    }

    fn timed_out(&self) -> Verdict {
        if self.boots >= LOOP {
            let words = format!("the guest started {} times until its time was up", self.boots);
            return Verdict::new(Finding::Reset, words);
        }
        match self.boot.stage {
            // A guest that says nothing at all may be in any state.
            None | Some(Stage::BootVolume) => {
                Verdict::new(Finding::Hung, "the guest was stopped: its time was up")
            }
            Some(stage) => {
                let words = "the guest did not boot until its time was up";
                let far = format!("it came as far as the stage `{}`", stage.name());
                Verdict::new(Finding::NotBooted, words).because(far)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log(compressed: &[u8]) -> Vec<u8> {
        zstd::decode_all(compressed).unwrap()
    }

    fn shut_down() -> Vec<u8> {
        log(include_bytes!(
            "../../../../haiku/fixtures/serial/q35-ahci-boot-userland-shutdown.log.zst"
        ))
    }

    fn no_volume() -> Vec<u8> {
        log(include_bytes!("../../../../haiku/fixtures/serial/k_noboot.log.zst"))
    }

    fn crashed() -> Vec<u8> {
        log(include_bytes!("../../../../haiku/fixtures/serial/kdl-null.log.zst"))
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
        assert_eq!(signs, ["boot-loader", "kernel", "boot-volume"].map(reached));
        let (observer, signs) = observe(&[&crashed()]);
        let reason = "vm_page_fault: unhandled page fault in kernel space at 0x10, ip \
                      0xffffffff8164feec";
        assert_eq!(signs[3..], [Sign::Panicked { reason: reason.into() }, Sign::Debugger]);
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
}
