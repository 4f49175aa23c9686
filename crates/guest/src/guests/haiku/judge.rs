//! What a run of Haiku means: a pure function of what was seen and of how it ended.

use haiku::loading::Place;
use haiku::serial::is_no_boot_volume;
use haiku::test_run::Tested;

use super::evidence::{Boot, Evidence, Stage};
use super::goal::{Goal, Quote};
use crate::guests::{Finding, Verdict};
use crate::host_log::Fault;
use crate::process::GuestEnd;

/// So many boots, or resets without a boot, in one run that came to no end of its own are a loop.
pub(super) const LOOP: u32 = 3;
/// Words of the kernel when a processor got a non-maskable interrupt
/// (src/system/kernel/arch/x86/64/descriptors.cpp).
const INTERRUPT: &str = "NMI Interrupt";
/// Lines of a test's output that a verdict quotes.
const QUOTED_LINES: usize = 20;
/// Name of the threads that run where nothing else does (src/system/kernel/scheduler/scheduler.cpp).
const IDLE_THREAD: &str = "\"idle thread";

/// What is known of a run besides its log.
#[derive(Clone, Debug, Default)]
pub(super) struct Circumstances {
    /// Where the guest sees the functions that were asked for.
    pub(super) places: Vec<Place>,
    /// Resets since the guest last had its boot volume.
    pub(super) resets: u32,
    /// What the host's kernel said that means a fault.
    pub(super) fault: Option<(Fault, String)>,
    /// How long the guest had said nothing when it was asked where it is, in seconds.
    pub(super) silent: Option<u64>,
}

/// What is missing of a goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The driver of this number was not loaded.
    Load(usize),
    /// Another driver of its name was loaded as well as the driver of this number, and nobody knows
    /// which of them says what.
    Alone(usize),
    /// The driver of this number has not shown its card.
    Claim(usize),
    /// Another driver takes the card of the driver of this number too.
    Sole(usize),
    /// The line that means success did not come.
    Mark,
    /// The command's end did not come, or damaged.
    Test,
}

/// Returns what is missing of the goal, the most important first.
pub(super) fn missing(goal: &Goal, boot: &Boot, places: &[Place]) -> Vec<Missing> {
    let seen = goal.drivers.iter().zip(&boot.drivers).enumerate();
    let unloaded = seen.filter(|(_, (_, seen))| seen.loaded.is_none());
    let mut missing: Vec<_> = unloaded.map(|(number, _)| Missing::Load(number)).collect();
    for (number, seen) in boot.drivers.iter().enumerate() {
        if seen.loaded.is_some() && seen.superseded.is_some() {
            missing.push(Missing::Alone(number));
        }
    }
    for (number, driver) in goal.drivers.iter().enumerate() {
        match boot.claim(number, places) {
            _ if !driver.has_card => {}
            None => missing.push(Missing::Claim(number)),
            Some((place, _)) if boot.rival(place).is_some() => missing.push(Missing::Sole(number)),
            Some(_) => {}
        }
    }
    if goal.until.is_some() && boot.until.is_none() {
        missing.push(Missing::Mark);
    }
    if goal.test.is_some() && !matches!(boot.tested, Some(Some(_))) {
        missing.push(Missing::Test);
    }
    missing
}

/// Says what a run means.
pub(super) fn judge(
    goal: &Goal,
    evidence: &Evidence,
    about: &Circumstances,
    end: GuestEnd,
) -> Verdict {
    let boot = &evidence.boot;
    let interrupted = about.silent.is_some()
        && boot.panic.as_ref().is_none_or(|panic| panic.text.contains(INTERRUPT));
    if !interrupted && let Some(verdict) = panicked(boot) {
        return and_fault(verdict, goal, about);
    }
    if about.resets >= LOOP || end == GuestEnd::Reset {
        return reset(evidence, about, end);
    }
    if end == GuestEnd::Panicked {
        return Verdict::new(Finding::Panicked, "the guest's kernel panicked");
    }
    if let Some((fault, line)) = &about.fault {
        let verdict = Verdict::new(Finding::CardFault, fault.explain(goal.memory));
        return verdict.because(format!("the host's kernel said: {line}"));
    }
    if !goal.is_any() {
        return plain(evidence, about, end);
    }
    if let Some(crash) = &boot.crashed {
        let words = "a program in the guest crashed";
        let verdict = Verdict::new(Finding::ProgramCrashed, words).because(crash.to_string());
        return boot
            .stack
            .iter()
            .fold(verdict, |verdict, frame| verdict.because(frame.to_string()));
    }
    if let Some(line) = &boot.failed {
        let words = "the guest said what means failure";
        return Verdict::new(Finding::Failed, words).because(line.to_string());
    }
    if let Some(Some(tested)) =
        boot.tested.as_ref().filter(|tested| tested.as_ref().is_some_and(|tested| tested.code != 0))
    {
        return test_failed(tested);
    }
    let missing = missing(goal, boot, &about.places);
    if missing.is_empty() && goal.awaits_any() {
        return passed(goal, boot, &about.places);
    }
    incomplete(goal, evidence, about, end, &missing)
}

fn and_fault(verdict: Verdict, goal: &Goal, about: &Circumstances) -> Verdict {
    about.fault.iter().fold(verdict, |verdict, (fault, line)| {
        verdict
            .because(fault.explain(goal.memory))
            .because(format!("the host's kernel said: {line}"))
    })
}

fn panicked(boot: &Boot) -> Option<Verdict> {
    match &boot.panic {
        Some(reason) if is_no_boot_volume(&reason.text) => {
            let verdict = Verdict::new(Finding::NotBooted, "found no volume to boot from");
            Some(verdict.because(&*reason.text))
        }
        Some(reason) => {
            let verdict = Verdict::new(Finding::Panicked, "the guest's kernel panicked");
            Some(verdict.because(&*reason.text))
        }
        None if boot.in_debugger => {
            let words = "the guest's kernel entered its debugger";
            Some(Verdict::new(Finding::Panicked, words))
        }
        None => None,
    }
}

fn reset(evidence: &Evidence, about: &Circumstances, end: GuestEnd) -> Verdict {
    let verdict = match end {
        GuestEnd::Reset => Verdict::new(Finding::Reset, "the guest reset the machine"),
        _ => Verdict::new(
            Finding::Reset,
            format!("the guest reset the machine {} times and came to nothing", about.resets),
        ),
    };
    let verdict = verdict.because(
        "its kernel said nothing of a panic, so a processor took a triple fault, or something \
         asked for the reset",
    );
    last_words(verdict, evidence)
}

/// A run of which nothing was to be shown.
fn plain(evidence: &Evidence, about: &Circumstances, end: GuestEnd) -> Verdict {
    match end {
        GuestEnd::ShutDown => Verdict::new(Finding::Done, "the guest shut down"),
        GuestEnd::Closed => Verdict::new(Finding::Done, "QEMU was closed"),
        GuestEnd::Stopped => Verdict::new(Finding::Stopped, "the guest was stopped"),
        _ => silent(evidence, about).unwrap_or_else(|| timed_out(evidence)),
    }
}

fn timed_out(evidence: &Evidence) -> Verdict {
    if evidence.boots >= LOOP {
        let words = format!("the guest started {} times until its time was up", evidence.boots);
        return Verdict::new(Finding::Reset, words);
    }
    // A guest that says nothing at all may be in any state.
    not_booted(evidence)
        .unwrap_or_else(|| Verdict::new(Finding::Hung, "the guest was stopped: its time was up"))
}

/// A boot that began and did not come to its volume.
fn not_booted(evidence: &Evidence) -> Option<Verdict> {
    let stage = evidence.boot.stage.filter(|stage| *stage < Stage::BootVolume)?;
    let words = "the guest did not boot until its time was up";
    let far = format!("it came as far as the stage `{}`", stage.name());
    Some(Verdict::new(Finding::NotBooted, words).because(far))
}

/// A guest that said nothing until it was asked where it is.
fn silent(evidence: &Evidence, about: &Circumstances) -> Option<Verdict> {
    let seconds = about.silent?;
    let verdict = Verdict::new(Finding::Hung, format!("the guest said nothing for {seconds} s"));
    let verdict = match &evidence.boot.thread {
        Some(thread) => {
            verdict.because(format!("a non-maskable interrupt found the processor in {thread}"))
        }
        None if evidence.boot.in_debugger => verdict.because("it was brought to its debugger"),
        None => verdict.because("it did not answer to a non-maskable interrupt either"),
    };
    Some(last_words(verdict, evidence))
}

fn last_words(verdict: Verdict, evidence: &Evidence) -> Verdict {
    match evidence.last.quote() {
        None => verdict.because("it never said anything over the serial line"),
        Some(Quote { line, text }) => {
            verdict.because(format!("its last words are line {line} of the log: {text}"))
        }
    }
}

fn passed(goal: &Goal, boot: &Boot, places: &[Place]) -> Verdict {
    let mut verdict = Verdict::new(Finding::Done, words_of_success(goal, boot, places));
    for (number, (driver, seen)) in goal.drivers.iter().zip(&boot.drivers).enumerate() {
        if let Some(loaded) = &seen.loaded {
            verdict = verdict
                .because(format!("{} with SHA-256 {} was loaded", driver.name, driver.sha256))
                .because(loaded.to_string());
        }
        if let Some((place, quote)) = boot.claim(number, places) {
            verdict = verdict
                .because(format!("{} claimed the card at {place} of the guest", driver.name))
                .because(quote.to_string());
        }
    }
    boot.until.iter().fold(verdict, |verdict, quote| verdict.because(quote.to_string()))
}

fn test_failed(tested: &Tested) -> Verdict {
    let words = format!("the test in the guest failed with exit code {}", tested.code);
    let output = String::from_utf8_lossy(&tested.output);
    let lines: Vec<_> = output.lines().collect();
    let first = lines.len().saturating_sub(QUOTED_LINES);
    let verdict = Verdict::new(Finding::Failed, words);
    lines.into_iter().skip(first).fold(verdict, Verdict::because)
}

fn words_of_success(goal: &Goal, boot: &Boot, places: &[Place]) -> String {
    match &*goal.drivers {
        [] if goal.test.is_some() => "passed: the test in the guest succeeded".to_owned(),
        [] => "passed: the line that was waited for came".to_owned(),
        [driver] => match boot.claim(0, places) {
            Some((place, _)) => format!("passed: {} was loaded and has {place}", driver.name),
            None => format!("passed: {} was loaded", driver.name),
        },
        several => format!("passed: {} drivers were loaded", several.len()),
    }
}

fn incomplete(
    goal: &Goal,
    evidence: &Evidence,
    about: &Circumstances,
    end: GuestEnd,
    missing: &[Missing],
) -> Verdict {
    let boot = &evidence.boot;
    let unloaded = missing.iter().find_map(|missing| match missing {
        Missing::Load(number) => Some(*number),
        _ => None,
    });
    // The kernel itself said why.
    if let Some(verdict) = unloaded.and_then(|number| rejected(goal, boot, number)) {
        return verdict;
    }
    let explain = |verdict: Verdict| {
        let words = missing.iter().map(|one| words(goal, boot, &about.places, one));
        words.fold(verdict, Verdict::because)
    };
    if end == GuestEnd::Stopped {
        return explain(Verdict::new(Finding::Stopped, "the guest was stopped"));
    }
    let is_silent = about.silent.is_some();
    let is_idle = boot.thread.as_ref().is_some_and(|thread| thread.contains(IDLE_THREAD));
    if is_silent
        && !is_idle
        && let Some(verdict) = silent(evidence, about)
    {
        return explain(verdict);
    }
    if matches!(end, GuestEnd::TimedOut | GuestEnd::Decided)
        && let Some(verdict) = not_booted(evidence).filter(|_| boot.stage.is_some())
    {
        return verdict;
    }
    if evidence.lines == 0 {
        let words = "the guest never said anything over the serial line";
        return Verdict::new(Finding::Hung, words);
    }
    let (how, was_cut) = match end {
        GuestEnd::ShutDown => ("the guest shut down", false),
        GuestEnd::Closed => ("QEMU was closed", true),
        GuestEnd::TimedOut => ("the guest's time was up", true),
        _ => ("the guest said nothing more", false),
    };
    if let Some(number) = unloaded
        && let Some(verdict) = not_loaded(goal, boot, &about.places, number, was_cut)
    {
        return if was_cut { verdict.because(how) } else { verdict };
    }
    if missing.iter().any(|one| matches!(one, Missing::Alone(_))) {
        let words = "two drivers of one name were loaded, and nothing tells them apart";
        return explain(Verdict::new(Finding::Unproven, words));
    }
    let is_unclaimed = missing.iter().any(|one| matches!(one, Missing::Claim(_)));
    if is_unclaimed && let Some(other) = boot.other(&about.places) {
        return taken(other);
    }
    if missing.iter().any(|one| matches!(one, Missing::Sole(_))) {
        let words = "two drivers say that they took the card, and nothing shows which has it";
        return explain(Verdict::new(Finding::Unproven, words));
    }
    if missing.is_empty() {
        return quiet(end, how);
    }
    let summary = format!("{how} before all was shown that was to be");
    explain(Verdict::new(Finding::Unproven, summary))
}

/// A run in which nothing was to be shown, and no line came that means failure.
fn quiet(end: GuestEnd, how: &str) -> Verdict {
    let (finding, what) = match end {
        GuestEnd::ShutDown | GuestEnd::Closed => (Finding::Done, "and no line meant failure"),
        _ => (Finding::Unproven, "and no line meant failure until then"),
    };
    Verdict::new(finding, format!("{how}, {what}"))
        .because("nothing else was to be shown, so this is no proof that anything works")
}

/// A card that another driver took.
fn taken(line: &Quote) -> Verdict {
    Verdict::new(Finding::NotDriven, "another driver took the card").because(line.to_string())
}

/// What is missing, in words.
fn words(goal: &Goal, boot: &Boot, places: &[Place], missing: &Missing) -> String {
    let name = |number: &usize| goal.drivers.get(*number).map_or("", |driver| &driver.name);
    match missing {
        Missing::Load(number) => format!("no line says that {} was loaded", name(number)),
        Missing::Alone(number) => {
            let seen = boot.drivers.get(*number);
            let other = seen.and_then(|seen| seen.superseded.as_ref());
            let other = other.map_or_else(String::new, ToString::to_string);
            format!(
                "another driver called {} is there as well, and nobody knows which of them says \
                 what: {other}",
                name(number)
            )
        }
        Missing::Claim(number) => match boot.denial(*number, places) {
            Some(denial) => format!("{} denies that it took the card: {denial}", name(number)),
            None => format!(
                "no line of {} names the card that it took, and no other, by its place or an \
                 address of its registers",
                name(number)
            ),
        },
        Missing::Sole(number) => {
            let claim = boot.claim(*number, places);
            let (place, own) = claim.map_or_else(Default::default, |(place, own)| {
                (format!(" at {place}"), own.to_string())
            });
            let rival = claim.and_then(|(place, _)| boot.rival(place));
            let rival = rival.map_or_else(String::new, ToString::to_string);
            let name = name(number);
            format!("{name} says that it took the card{place}: {own}; another driver: {rival}")
        }
        Missing::Test => "the end of the command did not come, or came damaged".to_owned(),
        Missing::Mark => match &goal.until {
            Some(pattern) => format!("no line matches `{pattern}`"),
            None => String::new(),
        },
    }
}

/// A driver that the kernel would not load, by its own words.
fn rejected(goal: &Goal, boot: &Boot, number: usize) -> Option<Verdict> {
    let (driver, seen) = (goal.drivers.get(number)?, boot.drivers.get(number)?);
    let verdict = |words: String, quote: &dyn std::fmt::Display| {
        Verdict::new(Finding::NotDriven, words).because(quote.to_string())
    };
    let name = &driver.name;
    if let Some(quote) = &seen.unresolved {
        let words = format!("{name} was not loaded: the guest's kernel lacks a symbol of it");
        return Some(verdict(words, quote));
    }
    if let Some(quote) = &seen.rejected {
        return Some(verdict(format!("the guest's kernel rejected {name}"), quote));
    }
    let quote = seen.superseded.as_ref()?;
    let words = format!("{name} was not loaded: another driver of its name came before it");
    Some(verdict(words, quote))
}

/// A driver that was not loaded, and the kernel did not say why. That nothing opened its directory
/// says nothing of a run that was cut.
fn not_loaded(
    goal: &Goal,
    boot: &Boot,
    places: &[Place],
    number: usize,
    was_cut: bool,
) -> Option<Verdict> {
    let (driver, seen) = (goal.drivers.get(number)?, boot.drivers.get(number)?);
    let name = &driver.name;
    let verdict = |words: String| Verdict::new(Finding::NotDriven, words);
    let has_scan = !boot.functions.is_empty() && !places.is_empty();
    let is_seen = |place: &Place| boot.functions.iter().any(|found| found.place == *place);
    if has_scan && !places.iter().any(is_seen) {
        let places: Vec<_> = places.iter().map(ToString::to_string).collect();
        let words = format!("{name} was not loaded: the guest does not see the card");
        let why = format!("its list of PCI functions has none at {}", places.join(", "));
        return Some(verdict(words).because(why));
    }
    if driver.has_card
        && let Some(other) = boot.other(places)
    {
        return Some(taken(other).because(format!("{name} was not loaded")));
    }
    if let Some(opened) = &seen.opened {
        let words = format!("{name} did not take the card");
        let verdict = verdict(words).because(format!(
            "its directory was opened, for the kernel loaded from there: {opened}"
        ));
        let own = boot.denial(number, places).or(boot.claim(number, places).map(|(_, own)| own));
        return Some(match own {
            Some(own) => verdict.because(own.to_string()),
            None if seen.spoke => verdict,
            None => verdict.because(format!("{name} itself said nothing")),
        });
    }
    if was_cut {
        return None;
    }
    let words = format!("{name} was not loaded: nothing opened its directory");
    Some(verdict(words).because(match driver.modules.first() {
        Some(_) => "none of its modules published a device".to_owned(),
        None => "no driver of that directory was loaded".to_owned(),
    }))
}
