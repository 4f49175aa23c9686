//! Follows the reference guest by its serial line: a pure state machine over bytes.

use std::collections::BTreeMap;
use std::fmt;

use super::line::{Line, decode};
use super::plan::Nonce;
use super::report::{FunctionReport, Record, Refused};
use super::verdict::{Outcome, Verdict};
use crate::guests::{self, Finding, Sign};
use crate::lines::Lines;
use crate::process::GuestEnd;

/// How the kernel introduces itself (init/main.c, `linux_banner`) and ends (kernel/panic.c).
const BANNER: &str = "Linux version ";
const PANIC: &str = "Kernel panic - not syncing: ";

/// How far the guest has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing that is Linux has been seen.
    #[default]
    Firmware,
    /// The kernel runs.
    Kernel,
    /// kireji runs as its first process.
    Init,
    /// The card's drivers are loaded.
    Drivers,
    /// The report is complete.
    Report,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Kernel => "kernel",
            Self::Init => "first-process",
            Self::Drivers => "drivers",
            Self::Report => "report",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Firmware => "its firmware",
            Self::Kernel => "its kernel",
            Self::Init => "its first process",
            Self::Drivers => "the loading of its drivers",
            Self::Report => "its report",
        })
    }
}

/// The observer of one run.
#[derive(Debug)]
pub struct Observer {
    nonce: Nonce,
    functions: usize,
    lines: Lines,
    stage: Stage,
    refused: Vec<Refused>,
    reports: BTreeMap<usize, FunctionReport>,
    ended: Option<usize>,
    damaged: u32,
    gave_up: Option<String>,
    panic: Option<String>,
}

impl Observer {
    /// Returns an observer for a guest whose plan has this nonce and so many functions.
    pub fn new(nonce: Nonce, functions: usize) -> Self {
        Self {
            nonce,
            functions,
            lines: Lines::default(),
            stage: Stage::default(),
            refused: Vec::new(),
            reports: BTreeMap::new(),
            ended: None,
            damaged: 0,
            gave_up: None,
            panic: None,
        }
    }

    fn line(&mut self, line: &[u8], signs: &mut Vec<Sign>) {
        match decode(&self.nonce, line) {
            Line::Record(record) => self.record(record, signs),
            Line::Damaged => {
                self.damaged = self.damaged.saturating_add(1);
                signs.push(Sign::Damaged);
            }
            Line::Other => self.other(&String::from_utf8_lossy(line), signs),
        }
    }

    fn other(&mut self, line: &str, signs: &mut Vec<Sign>) {
        if line.contains(BANNER) {
            self.reach(Stage::Kernel, signs);
        }
        if let Some((_, message)) = line.split_once(PANIC)
            && self.panic.is_none()
        {
            let reason = message.trim().to_owned();
            self.panic = Some(reason.clone());
            signs.push(Sign::Panicked { reason });
        }
    }

    fn record(&mut self, record: Record, signs: &mut Vec<Sign>) {
        match record {
            Record::Started { .. } => self.reach(Stage::Init, signs),
            Record::Loaded { refused, .. } => {
                self.refused = refused;
                self.reach(Stage::Drivers, signs);
            }
            Record::Function(report) => {
                if report.index < self.functions && !self.reports.contains_key(&report.index) {
                    self.reports.insert(report.index, (*report).clone());
                    let outcome = self.outcome(&report);
                    signs.push(Sign::Report { function: report, outcome });
                }
            }
            Record::Ended { functions, .. } => {
                self.ended = Some(functions);
                if self.is_complete() {
                    self.reach(Stage::Report, signs);
                }
            }
            Record::Failed { reason } => {
                self.gave_up = Some(reason.clone());
                signs.push(Sign::GaveUp { reason });
            }
        }
    }

    fn reach(&mut self, stage: Stage, signs: &mut Vec<Sign>) {
        if stage > self.stage {
            self.stage = stage;
            signs.push(Sign::Reached { stage: stage.name() });
        }
    }

    // The end comes last, so that all that was sent has come if all are here.
    fn is_complete(&self) -> bool {
        self.ended == Some(self.functions) && self.reports.len() == self.functions
    }

    /// How far the guest has come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Returns the reports that have come, in the order of the plan.
    pub fn reports(&self) -> impl Iterator<Item = &FunctionReport> {
        self.reports.values()
    }

    /// Returns what became of a function.
    pub fn outcome(&self, report: &FunctionReport) -> Outcome {
        report.outcome(&self.refused)
    }

    /// Returns what the run says, as far as it has come.
    pub fn verdict(&self) -> Verdict {
        if let Some(reason) = &self.gave_up {
            return Verdict::GaveUp { reason: reason.clone() };
        }
        if self.stage < Stage::Report {
            return match &self.panic {
                Some(message) => Verdict::Panicked { message: message.clone() },
                None => Verdict::Incomplete { stage: self.stage, damaged: self.damaged },
            };
        }
        let outcomes: Vec<(String, Outcome)> = self
            .reports
            .values()
            .map(|report| (report.name.clone(), self.outcome(report)))
            .collect();
        let bad = |outcome: &Outcome| matches!(outcome, Outcome::NotBound { .. } | Outcome::Absent);
        let functions: Vec<_> =
            outcomes.iter().filter(|(_, outcome)| bad(outcome)).cloned().collect();
        if !functions.is_empty() {
            Verdict::Failed { functions }
        } else if outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Bound { .. })) {
            Verdict::Passed
        } else {
            Verdict::NothingToShow
        }
    }
}

impl guests::Observer for Observer {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Sign> {
        let mut signs = Vec::new();
        let mut lines = std::mem::take(&mut self.lines);
        lines.feed(bytes, |line| self.line(line, &mut signs));
        self.lines = lines;
        signs
    }

    fn judge(&self, end: GuestEnd) -> guests::Verdict {
        let verdict = self.verdict();
        let summary = verdict.to_string();
        let finding = match (&verdict, end) {
            (Verdict::Passed, _) => Finding::Done,
            (Verdict::Failed { .. }, _) => Finding::NotDriven,
            (Verdict::NothingToShow, _) => Finding::Unproven,
            (Verdict::Panicked { .. }, _) => Finding::Panicked,
            (Verdict::GaveUp { .. }, _) => Finding::NotBooted,
            (Verdict::Incomplete { .. }, GuestEnd::Stopped) => Finding::Stopped,
            (Verdict::Incomplete { .. }, GuestEnd::TimedOut | GuestEnd::Decided) => Finding::Hung,
            (Verdict::Incomplete { .. }, GuestEnd::Panicked) => Finding::Panicked,
            (
                Verdict::Incomplete { .. },
                GuestEnd::ShutDown | GuestEnd::Reset | GuestEnd::Closed,
            ) => Finding::NotBooted,
        };
        guests::Verdict { finding, summary, reasons: verdict.reasons(), panic: None }
    }
}

#[cfg(test)]
mod tests;
