//! Follows Haiku by its serial line.

use std::time::Duration;

use haiku::kdl::conversation::{Conversation, Limits, Step};
use haiku::kdl::{Event, Panic, Reader};

use super::evidence::{Evidence, Stage};
use super::goal::Goal;
use super::judge::{Circumstances, LOOP, Missing, judge, missing};
use crate::guests::{Action, Fact, Observer, Sign, Verdict, Wish};
use crate::host_log::Fault;
use crate::lines::Lines;
use crate::process::GuestEnd;

/// How long a guest goes on once all is shown, or failed: what follows at once may say more.
const SETTLE: Duration = Duration::from_secs(2);
/// How long the debugger may take to ask for a command once it was entered.
const PROMPT_LIMIT: Duration = Duration::from_secs(10);
/// How long a guest may take to answer to a non-maskable interrupt.
const ANSWER: Duration = Duration::from_secs(10);

/// What may wait for the debugger to be asked, in bytes: more than any answer that is waited for. A
/// guest may write for ever while nobody asks.
const WAITING: usize = 4 << 20;

/// The observer of one run.
#[derive(Debug, Default)]
pub(super) struct HaikuObserver {
    goal: Goal,
    lines: Lines,
    evidence: Evidence,
    about: Circumstances,
    /// Whether something came since the clock was looked at.
    is_heard: bool,
    heard_at: Duration,
    /// Reads panics; what it found and nobody has dealt with, and the first of them.
    reader: Reader,
    heard: Vec<Heard>,
    panic: Option<Box<Panic>>,
    /// What is asked of the debugger.
    conversation: Option<Conversation>,
    has_asked_places: bool,
    /// When there was nothing more to wait for.
    over_at: Option<Duration>,
    interrupted_at: Option<Duration>,
    /// Where a guest that is kept was in its debugger or not when its verdict was told.
    concluded: Option<bool>,
}

/// What the reader of panics found.
#[derive(Debug)]
enum Heard {
    Line(Vec<u8>),
    Prompt,
}

impl Heard {
    /// The memory that it takes, in bytes, about.
    fn size(&self) -> usize {
        let text = match self {
            Self::Line(line) => line.len(),
            Self::Prompt => 0,
        };
        size_of::<Self>() + text
    }
}

impl HaikuObserver {
    pub(super) fn new(goal: Goal) -> Self {
        Self { evidence: Evidence::new(&goal), goal, ..Self::default() }
    }

    /// Shows the bytes to the reader of panics.
    fn read(&mut self, bytes: &[u8]) {
        // Only what the debugger says is of use to anybody.
        let keeps = self.evidence.boot.in_debugger;
        let (heard, panic) = (&mut self.heard, &mut self.panic);
        if !keeps || heard.iter().map(Heard::size).sum::<usize>() > WAITING {
            heard.clear();
        }
        self.reader.push(bytes, |event| match event {
            Event::Line(line) if keeps => heard.push(Heard::Line(line.to_vec())),
            Event::Prompt if keeps => heard.push(Heard::Prompt),
            // The first is the cause.
            Event::Complete(complete) => drop(panic.get_or_insert(complete)),
            Event::Line(_) | Event::Prompt | Event::Begun(_) => {}
        });
    }

    /// Whether nothing is left to wait for: all is shown, or something failed for good.
    fn is_over(&self) -> bool {
        let boot = &self.evidence.boot;
        let is_rejected = boot.drivers.iter().any(|seen| {
            let refused = seen.rejected.is_some() || seen.unresolved.is_some();
            refused && seen.loaded.is_none()
        });
        // Nothing that follows tells the two apart.
        let is_confused =
            boot.drivers.iter().any(|seen| seen.loaded.is_some() && seen.superseded.is_some());
        is_rejected
            || is_confused
            || boot.failed.is_some()
            || boot.crashed.is_some()
            || boot
                .tested
                .as_ref()
                .is_some_and(|tested| tested.as_ref().is_none_or(|tested| tested.code != 0))
            || self.about.fault.is_some()
            // That another driver has the card too is not waited for, but it may let go meanwhile.
            || self.goal.awaits_any()
                && missing(&self.goal, boot, &self.about.places)
                    .iter()
                    .all(|one| matches!(one, Missing::Sole(_)))
    }

    /// What is to be done about a guest in its debugger.
    fn debug(&mut self, at: Duration) -> Wish {
        let conversation =
            self.conversation.get_or_insert_with(|| Conversation::new(Limits::default()));
        let reader = &self.reader;
        let mut wish = Wish::default();
        let mut last = Step::Wait;
        for heard in self.heard.drain(..) {
            let event = match &heard {
                Heard::Line(line) => Event::Line(line),
                Heard::Prompt => Event::Prompt,
            };
            last = conversation.event(&event, || reader.panic(), at);
            if let Step::Send(bytes) = &last {
                wish.actions.push(Action::Send(bytes.clone()));
            }
        }
        let deadline = conversation.deadline().unwrap_or(self.heard_at + PROMPT_LIMIT);
        let is_over = matches!(last, Step::Done(_))
            || matches!(conversation.time(at), Step::Done(_))
            || at >= deadline;
        if is_over {
            return end(false);
        }
        Wish { again: Some(deadline), ..wish }
    }

    /// What is to be done about a guest that says nothing.
    fn idle(&mut self, at: Duration, limit: Duration) -> Wish {
        if let Some(interrupted) = self.interrupted_at {
            let answer = interrupted + ANSWER;
            return match at >= answer {
                true => end(false),
                false => Wish { actions: Vec::new(), again: Some(answer) },
            };
        }
        let due = self.heard_at + limit;
        if at < due {
            return Wish { actions: Vec::new(), again: Some(due) };
        }
        self.interrupted_at = Some(at);
        self.about.silent = Some((at - self.heard_at).as_secs());
        Wish { actions: vec![Action::Interrupt], again: Some(at + ANSWER) }
    }
}

fn end(orderly: bool) -> Wish {
    Wish { actions: vec![Action::End { orderly }], again: None }
}

impl Observer for HaikuObserver {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Sign> {
        let mut signs = Vec::new();
        let (evidence, goal) = (&mut self.evidence, &self.goal);
        self.lines.feed(bytes, |line| {
            evidence.line(line, goal, &mut signs);
        });
        evidence.rest(self.lines.rest(), &mut signs);
        self.read(bytes);
        self.is_heard |= !bytes.is_empty();
        let volume = Sign::Reached { stage: Stage::BootVolume.name() };
        if signs.contains(&volume) {
            self.about.resets = 0;
        }
        signs
    }

    fn judge(&self, end: GuestEnd) -> Verdict {
        let verdict = judge(&self.goal, &self.evidence, &self.about, end);
        let panic = self.panic.clone().or_else(|| self.reader.panic().map(Box::new));
        Verdict { panic, ..verdict }
    }

    fn learn(&mut self, fact: &Fact) -> Vec<Sign> {
        match fact {
            Fact::Places(places) => self.about.places.clone_from(places),
            Fact::Reset => {
                self.about.resets = self.about.resets.saturating_add(1);
            }
            Fact::Host(line) => {
                let fault = Fault::of(line).filter(|_| self.about.fault.is_none());
                self.about.fault =
                    fault.map(|fault| (fault, line.clone())).or(self.about.fault.take());
                return vec![Sign::Host { line: line.clone() }];
            }
        }
        Vec::new()
    }

    fn act(&mut self, at: Duration) -> Wish {
        if std::mem::take(&mut self.is_heard) {
            self.heard_at = at;
        }
        if self.about.resets >= LOOP {
            return end(false);
        }
        let mut wish = Wish::default();
        // From here on its firmware has numbered the buses.
        if self.evidence.boot.stage >= Some(Stage::Kernel) && !self.has_asked_places {
            self.has_asked_places = true;
            wish.actions.push(Action::AskPlaces);
        }
        // Somebody who uses the guest ends it himself, or has said when it is to end.
        let limit = match self.goal.idle {
            _ if self.goal.hands_off => None,
            limit if !self.goal.is_any() => limit.filter(|_| !self.goal.keep).map(Some),
            // Silence is what one that is kept is kept for.
            _ if self.goal.keep => Some(None),
            limit => Some(limit),
        };
        let Some(limit) = limit else { return wish };
        let in_debugger = self.evidence.boot.in_debugger;
        if self.concluded == Some(in_debugger) {
            self.heard.clear();
            return wish;
        }
        let mut next = if in_debugger {
            self.debug(at)
        } else if self.is_over_for_good(at) {
            end(true)
        } else {
            let settled = self.over_at.map(|over| over + SETTLE);
            let idle = limit.map(|limit| self.idle(at, limit)).unwrap_or_default();
            Wish { again: settled.into_iter().chain(idle.again).min(), ..idle }
        };
        if self.goal.keep {
            for action in &mut next.actions {
                if matches!(action, Action::End { .. }) {
                    *action = Action::Conclude;
                    self.concluded = Some(in_debugger);
                }
            }
        }
        wish.actions.extend(next.actions);
        Wish { again: next.again, ..wish }
    }
}

impl HaikuObserver {
    /// Whether nothing has been left to wait for, for long enough.
    fn is_over_for_good(&mut self, at: Duration) -> bool {
        if !self.goal.is_any() || !self.is_over() {
            self.over_at = None;
            return false;
        }
        at >= *self.over_at.get_or_insert(at) + SETTLE
    }
}

#[cfg(test)]
mod tests;
