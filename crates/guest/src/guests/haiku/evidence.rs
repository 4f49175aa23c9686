//! What the log of a run shows: facts gathered line by line, in bounded memory.

use std::collections::BTreeMap;

use haiku::crash;
use haiku::loading::{self, Event, Place};
use haiku::serial::{self, PROMPT};
use haiku::test_run::{Read, Reader, Tested};

use super::claim::{self, Word};
use super::goal::{Driver, Found, Goal, Quote};
use super::words::{Last, RUNNING, Words, plain, quoted};
use crate::guests::Sign;

/// Functions that are remembered; a machine of ours has some thirty.
const FUNCTIONS: usize = 1024;
/// Drivers other than those of the run that are remembered of each.
const RIVALS: usize = 16;
/// Functions of a program's stack that are kept; the debug server tells fifty.
const STACK: usize = 50;

/// How far a boot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Loader,
    Kernel,
    PciScan,
    BootVolume,
    Driver,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Loader => "boot-loader",
            Self::Kernel => "kernel",
            Self::PciScan => "pci-scan",
            Self::BootVolume => "boot-volume",
            Self::Driver => "driver-loaded",
        }
    }
}

/// What was seen of a driver.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) loaded: Option<Quote>,
    pub(super) rejected: Option<Quote>,
    pub(super) unresolved: Option<Quote>,
    pub(super) superseded: Option<Quote>,
    /// Another driver of its directory was loaded, so the directory was opened.
    pub(super) opened: Option<Quote>,
    /// Whether it said anything at all.
    pub(super) spoke: bool,
    /// What its own lines say of functions of the guest.
    pub(super) cards: BTreeMap<Place, Word>,
}

/// What was seen of the latest boot.
#[derive(Clone, Debug, Default)]
pub(super) struct Boot {
    pub(super) stage: Option<Stage>,
    pub(super) panic: Option<Quote>,
    pub(super) in_debugger: bool,
    /// What the debugger said was running.
    pub(super) thread: Option<String>,
    pub(super) functions: Vec<Found>,
    pub(super) drivers: Vec<Seen>,
    /// Functions that a line of neither the kernel nor one of these drivers takes, by who says it.
    pub(super) others: BTreeMap<Place, BTreeMap<String, Quote>>,
    pub(super) until: Option<Quote>,
    pub(super) failed: Option<Quote>,
    pub(super) crashed: Option<Quote>,
    /// The stack of that program, the innermost function first.
    pub(super) stack: Vec<crash::Frame>,
    /// What became of the command; without it, what came back was damaged.
    pub(super) tested: Option<Option<Tested>>,
}

/// What was seen of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    pub(super) lines: u64,
    pub(super) boots: u32,
    pub(super) boot: Boot,
    /// The last line with anything in it that the guest said before its debugger had the word.
    pub(super) last: Last,
    /// Tells the lines that are worth reading.
    words: Words,
    /// What puts together what the command says.
    reader: Reader,
}

impl Boot {
    fn new(drivers: usize) -> Self {
        Self { drivers: vec![Seen::default(); drivers], ..Self::default() }
    }

    /// The place of a card of the run that a driver takes in a line of its own, with the line;
    /// rather one that no other driver takes too.
    pub(super) fn claim(&self, driver: usize, places: &[Place]) -> Option<(Place, &Quote)> {
        let cards = &self.drivers.get(driver)?.cards;
        let claims = || {
            places.iter().filter_map(|place| match cards.get(place) {
                Some(Word::Takes(quote)) => Some((*place, quote)),
                _ => None,
            })
        };
        claims().find(|(place, _)| self.rival(*place).is_none()).or_else(|| claims().next())
    }

    /// The line by which another driver than those of the run takes a function.
    pub(super) fn rival(&self, place: Place) -> Option<&Quote> {
        self.others.get(&place)?.values().min_by_key(|quote| quote.line)
    }

    /// The line by which a driver denies a card of the run.
    pub(super) fn denial(&self, driver: usize, places: &[Place]) -> Option<&Quote> {
        let cards = &self.drivers.get(driver)?.cards;
        places.iter().find_map(|place| match cards.get(place) {
            Some(Word::Denies(quote)) => Some(quote),
            _ => None,
        })
    }

    /// The line by which another driver takes a card of the run that none of the run's takes.
    pub(super) fn other(&self, places: &[Place]) -> Option<&Quote> {
        let is_ours = |place: &Place| {
            let mut words = self.drivers.iter().map(|seen| seen.cards.get(place));
            words.any(|word| matches!(word, Some(Word::Takes(_))))
        };
        places.iter().filter(|place| !is_ours(place)).find_map(|place| self.rival(*place))
    }
}

impl Evidence {
    pub(super) fn new(goal: &Goal) -> Self {
        let marker = goal.test.as_ref().map_or("", |test| &test.marker);
        Self {
            boot: Boot::new(goal.drivers.len()),
            words: Words::new(marker),
            reader: Reader::new(marker),
            ..Self::default()
        }
    }

    /// Takes a line.
    pub(super) fn line(&mut self, raw: &[u8], goal: &Goal, signs: &mut Vec<Sign>) {
        self.lines += 1;
        let line = &*plain(raw);
        // A guest may write for ever what means nothing, and that is not read any closer.
        let may_tell = self.may_tell(line, goal);
        if may_tell || self.awaits_line(goal) {
            let text = String::from_utf8_lossy(line);
            if may_tell {
                self.told(&text, goal, signs);
            }
            self.compare(&text, goal, signs);
        }
        if self.boot.panic.is_none() && !self.boot.in_debugger {
            self.last.keep(self.lines, line);
        }
    }

    fn may_tell(&self, line: &[u8], goal: &Goal) -> bool {
        let boot = &self.boot;
        self.words.may_tell(line)
            || boot.crashed.is_some() && boot.stack.len() < STACK
            || !goal.drivers.is_empty() && claim::may_be_said(line, &goal.drivers)
    }

    /// Takes a line that may say something.
    fn told(&mut self, line: &str, goal: &Goal, signs: &mut Vec<Sign>) {
        let number = self.lines;
        let quote = || Quote { line: number, text: quoted(line) };
        self.boot_line(line, goal, &quote, signs);
        // What the debugger prints is not what a driver does.
        if self.boot.in_debugger {
            return;
        }
        if goal.test.is_some() && self.boot.tested.is_none() {
            let (tested, sign) = match self.reader.line(line) {
                Read::More => (None, None),
                Read::Damaged => (Some(None), Some(Sign::Damaged)),
                Read::Ended(tested) => {
                    let output = String::from_utf8_lossy(&tested.output).into_owned();
                    let sign = Sign::Tested { code: tested.code, output };
                    (Some(Some(tested)), Some(sign))
                }
            };
            self.boot.tested = tested;
            signs.extend(sign);
        }
        if self.boot.crashed.is_some() && self.boot.stack.len() < STACK {
            self.boot.stack.extend(crash::frame(line));
        }
        if let Some(event) = loading::event(line) {
            self.event(event, goal, &quote(), signs);
        }
        self.said(line, goal, &quote);
    }

    /// Whether each line is to be compared with a pattern.
    fn awaits_line(&self, goal: &Goal) -> bool {
        let boot = &self.boot;
        let awaits = boot.until.is_none() && goal.until.is_some();
        !boot.in_debugger && (awaits || boot.failed.is_none() && !goal.fail.is_empty())
    }

    fn compare(&mut self, line: &str, goal: &Goal, signs: &mut Vec<Sign>) {
        if self.boot.in_debugger {
            return;
        }
        let quote = || Quote { line: self.lines, text: quoted(line) };
        if self.boot.until.is_none() && goal.until.as_ref().is_some_and(|p| p.matches(line)) {
            self.boot.until = Some(quote());
            signs.push(Sign::Marked { line: quoted(line) });
        }
        if self.boot.failed.is_none() && goal.fail.iter().any(|p| p.matches(line)) {
            self.boot.failed = Some(quote());
            signs.push(Sign::Failed { line: quoted(line) });
        }
    }

    /// Takes what drivers say of the functions that were found.
    fn said(&mut self, line: &str, goal: &Goal, quote: &dyn Fn() -> Quote) {
        let mut is_ours = false;
        for (driver, seen) in goal.drivers.iter().zip(&mut self.boot.drivers) {
            if !driver.says(line) {
                continue;
            }
            (is_ours, seen.spoke) = (true, true);
            if let Some(place) = claim::named(line, &self.boot.functions) {
                let before = seen.cards.remove(&place);
                seen.cards.insert(place, Word::or(before, claim::denies(line), quote()));
            }
        }
        if !is_ours
            && !goal.drivers.is_empty()
            && let Some(speaker) = claim::speaker(line)
            && let Some(place) = claim::named(line, &self.boot.functions)
        {
            let others = self.boot.others.entry(place).or_default();
            if claim::denies(line) {
                others.remove(speaker);
            } else if others.len() < RIVALS {
                others.entry(speaker.to_owned()).or_insert_with(quote);
            }
        }
    }

    fn boot_line(
        &mut self,
        line: &str,
        goal: &Goal,
        quote: &dyn Fn() -> Quote,
        signs: &mut Vec<Sign>,
    ) {
        match serial::sign(line) {
            Some(serial::Sign::Loader) => {
                // A new boot forgets the one before it.
                self.boots = self.boots.saturating_add(1);
                self.boot = Boot::new(goal.drivers.len());
                self.reach(Stage::Loader, signs);
            }
            Some(serial::Sign::Kernel) => self.reach(Stage::Kernel, signs),
            Some(serial::Sign::BootVolume(_)) => self.reach(Stage::BootVolume, signs),
            // The first is the cause; the debugger repeats it when asked.
            Some(serial::Sign::Panic(reason)) if self.boot.panic.is_none() => {
                let text = quoted(reason);
                signs.push(Sign::Panicked { reason: text.clone() });
                self.boot.panic = Some(Quote { text, ..quote() });
            }
            Some(serial::Sign::Debugger) => self.enter_debugger(signs),
            Some(serial::Sign::Panic(_)) | None => {}
        }
        let is_running = line.starts_with("Thread ") && line.contains(RUNNING);
        if self.boot.in_debugger && is_running && self.boot.thread.is_none() {
            self.boot.thread = Some(quoted(line.trim_end()));
        }
    }

    fn event(&mut self, event: Event<'_>, goal: &Goal, quote: &Quote, signs: &mut Vec<Sign>) {
        match event {
            Event::Function { place, .. } => {
                self.reach(Stage::PciScan, signs);
                if self.boot.functions.len() < FUNCTIONS {
                    self.boot.functions.push(Found { place, regions: Vec::new() });
                }
            }
            Event::Region(at) => {
                let function = self.boot.functions.last_mut();
                // A function has six of them.
                if let Some(function) = function.filter(|function| function.regions.len() < 6) {
                    function.regions.push(at);
                }
            }
            Event::ProgramCrashed(_) => {
                if self.boot.crashed.is_none() {
                    self.boot.crashed = Some(quote.clone());
                    signs.push(Sign::ProgramCrashed { line: quote.text.clone() });
                }
            }
            _ => {
                for (number, driver) in goal.drivers.iter().enumerate() {
                    self.driver_event(event, number, driver, quote, signs);
                }
            }
        }
    }

    fn driver_event(
        &mut self,
        event: Event<'_>,
        number: usize,
        driver: &Driver,
        quote: &Quote,
        signs: &mut Vec<Sign>,
    ) {
        let Some(seen) = self.boot.drivers.get_mut(number) else { return };
        let rejected = || Sign::DriverRejected { line: quote.text.clone() };
        let loaded = |path: &str| Sign::DriverLoaded { path: path.to_owned() };
        let (slot, sign) = match event {
            Event::Loaded(path) if driver.is_at(path) => (&mut seen.loaded, Some(loaded(path))),
            Event::Loaded(path) if driver.is_namesake(path) => (&mut seen.superseded, None),
            Event::Loaded(path) if driver.paths.iter().any(|own| directory(own, path)) => {
                (&mut seen.opened, None)
            }
            Event::Published { module, .. } if driver.has_module(module) => {
                (&mut seen.loaded, Some(loaded(module)))
            }
            Event::Unresolved { path, .. } if driver.is_at(path) => {
                (&mut seen.unresolved, Some(rejected()))
            }
            Event::Rejected { path, .. } | Event::OddSegment(path) if driver.is_at(path) => {
                (&mut seen.rejected, Some(rejected()))
            }
            Event::Duplicate(module) if driver.has_module(module) => (&mut seen.superseded, None),
            _ => return,
        };
        // The first line of a kind counts.
        if slot.is_some() {
            return;
        }
        *slot = Some(quote.clone());
        let is_loaded = matches!(sign, Some(Sign::DriverLoaded { .. }));
        signs.extend(sign);
        if is_loaded {
            self.reach(Stage::Driver, signs);
        }
    }

    fn reach(&mut self, stage: Stage, signs: &mut Vec<Sign>) {
        if self.boot.stage < Some(stage) {
            self.boot.stage = Some(stage);
            signs.push(Sign::Reached { stage: stage.name() });
        }
    }

    /// Looks at a line that has not ended. The debugger waits for a command at the end of one.
    pub(super) fn rest(&mut self, rest: &[u8], signs: &mut Vec<Sign>) {
        if rest.starts_with(PROMPT.as_bytes()) {
            self.enter_debugger(signs);
        }
    }

    fn enter_debugger(&mut self, signs: &mut Vec<Sign>) {
        if !std::mem::replace(&mut self.boot.in_debugger, true) {
            signs.push(Sign::Debugger);
        }
    }
}

/// Whether two files are of one directory of `/dev`, one packaged and the other not.
fn directory(own: &str, other: &str) -> bool {
    let below = |path: &str| {
        let (_, rest) = path.split_once("/drivers/dev/")?;
        rest.rsplit_once('/').map(|(directory, _)| directory.to_owned())
    };
    below(own).is_some_and(|own| below(other) == Some(own))
}

#[cfg(test)]
mod tests {
    use haiku::test_run::Test;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn directories_are_compared_below_dev() {
        let own = "/boot/home/config/non-packaged/add-ons/kernel/drivers/dev/misc/x";
        let packaged = "/boot/system/add-ons/kernel/drivers/dev/";
        assert!(directory(own, &format!("{packaged}misc/mem")));
        assert!(!directory(own, &format!("{packaged}null")));
        assert!(!directory(own, "/boot/system/add-ons/kernel/drivers/bin/mem"));
    }

    fn goal() -> Goal {
        let driver = Driver {
            name: "edu_test".into(),
            sha256: String::new(),
            paths: vec!["/boot/drivers/dev/misc/edu_test".into()],
            modules: vec!["drivers/misc/edu/driver_v1".into()],
            has_card: true,
        };
        Goal {
            drivers: vec![driver],
            until: "all (good|fine)".parse().ok(),
            fail: "it .* bad".parse().into_iter().collect(),
            test: Some(Test { command: "true".into(), marker: "m4rk3r".into() }),
            ..Goal::default()
        }
    }

    /// Pieces of lines that say something, and others.
    const PIECES: [&[u8]; 30] = [
        b"Welcome to the Haiku boot loader!",
        b"Welcome to kernel debugger output!",
        b"Mounted boot partition: /dev/disk/x",
        b"PANIC: because",
        b"Double Fault!",
        b"kdebug> ",
        b"Thread 7 \"a\" running on CPU 0",
        b"PCI: [dom 0, bus  0] bus   0, device  2, function  0: vendor 1234, device 11e8, rev",
        b"PCI:   base reg 0: host c1000000, pci c1000000, size 00100000, flags 00",
        b"loaded driver /boot/drivers/dev/misc/edu_test",
        b"loaded driver /boot/system/dev/misc/edu_test",
        b"publish device: node 0x1, path a, module drivers/misc/edu/driver_v1",
        b"Could not load kernel add-on \"/boot/drivers/dev/misc/edu_test\": none",
        b"Duplicate module name (drivers/misc/edu/driver_v1) detected",
        b"edu_test: found at 0:2.0",
        b"EDU: bar at 0xc1000000",
        b"edu_test0",
        b"other_driver: takes 0:2.0",
        b"other_driver: no card at 0:2.0",
        b"debug_server: Thread 84 entered the debugger: Segment violation",
        b"stack trace, current PC 0x1b2c  main + 0x1a:",
        b"  (0x7f00)  0x1b2c  main + 0x20",
        b"m4rk3r 0 0 AAAA",
        b"m4rk3r 0 end 0 1 2",
        b"m4rk3r 1 end 0 1 2",
        b"all good",
        b"it is all bad",
        b"KERN: ",
        b"\x1b[33m",
        b" \xe2\x80\x83\t",
    ];

    proptest! {
        #[test]
        fn what_is_left_unread_tells_nothing(
            lines in prop::collection::vec(
                prop::collection::vec(
                    prop_oneof![
                        4 => prop::sample::select(PIECES.to_vec()).prop_map(<[u8]>::to_vec),
                        1 => prop::collection::vec(any::<u8>(), 0..4),
                    ],
                    0..4,
                ),
                0..30,
            ),
            has_goal: bool,
        ) {
            let goal = if has_goal { goal() } else { Goal::default() };
            let mut evidence = Evidence::new(&goal);
            let mut thorough = Evidence { words: Words::default(), ..evidence.clone() };
            let (mut signs, mut all) = (Vec::new(), Vec::new());
            for line in lines {
                evidence.line(&line.concat(), &goal, &mut signs);
                thorough.line(&line.concat(), &goal, &mut all);
            }
            prop_assert_eq!(signs, all);
            thorough.words = evidence.words.clone();
            prop_assert_eq!(format!("{evidence:?}"), format!("{thorough:?}"));
        }
    }
}
