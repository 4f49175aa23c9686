//! Follows Haiku by its serial line.

use std::time::Duration;

use super::evidence::{Evidence, Stage};
use super::goal::Goal;
use super::judge::{Circumstances, LOOP, judge, missing};
use crate::guests::{Action, Fact, Observer, Sign, Verdict, Wish};
use crate::host_log::Fault;
use crate::lines::Lines;
use crate::process::GuestEnd;

/// How long a guest goes on once all is shown, or failed: what follows at once may say more.
const SETTLE: Duration = Duration::from_secs(2);
/// How long the debugger is quiet when it has said what it had to say.
const QUIET: Duration = Duration::from_millis(500);
/// How long a guest may take to answer to a non-maskable interrupt.
const ANSWER: Duration = Duration::from_secs(10);

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
    at_prompt: bool,
    has_asked_places: bool,
    /// When there was nothing more to wait for.
    over_at: Option<Duration>,
    interrupted_at: Option<Duration>,
}

impl HaikuObserver {
    pub(super) fn new(goal: Goal) -> Self {
        Self { evidence: Evidence::new(&goal), goal, ..Self::default() }
    }

    /// Whether nothing is left to wait for: all is shown, or something failed for good.
    fn is_over(&self) -> bool {
        let boot = &self.evidence.boot;
        let is_rejected = boot.drivers.iter().any(|seen| {
            let refused = seen.rejected.is_some() || seen.unresolved.is_some();
            refused && seen.loaded.is_none()
        });
        is_rejected
            || boot.failed.is_some()
            || boot.crashed.is_some()
            || boot
                .tested
                .as_ref()
                .is_some_and(|tested| tested.as_ref().is_none_or(|tested| tested.code != 0))
            || self.about.fault.is_some()
            || missing(&self.goal, boot, &self.about.places).is_empty()
    }

    /// What is to be done about a guest in its debugger.
    fn debug(&mut self, at: Duration) -> Wish {
        let quiet_at = self.heard_at + QUIET;
        if at >= quiet_at {
            return end(false);
        }
        Wish { actions: Vec::new(), again: Some(quiet_at) }
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
            evidence.line(&String::from_utf8_lossy(line), goal, &mut signs);
        });
        self.at_prompt = evidence.rest(self.lines.rest(), &mut signs);
        self.is_heard |= !bytes.is_empty();
        let volume = Sign::Reached { stage: Stage::BootVolume.name() };
        if signs.contains(&volume) {
            self.about.resets = 0;
        }
        signs
    }

    fn judge(&self, end: GuestEnd) -> Verdict {
        judge(&self.goal, &self.evidence, &self.about, end)
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
            _ if self.goal.keep => None,
            None if !self.goal.is_any() => None,
            limit => Some(limit),
        };
        let Some(limit) = limit else { return wish };
        let next = if self.evidence.boot.in_debugger {
            self.debug(at)
        } else if self.is_over_for_good(at) {
            end(true)
        } else {
            let settled = self.over_at.map(|over| over + SETTLE);
            let idle = limit.map(|limit| self.idle(at, limit)).unwrap_or_default();
            Wish { again: settled.into_iter().chain(idle.again).min(), ..idle }
        };
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
