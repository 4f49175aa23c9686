//! Follows the reference guest by its serial line: a pure state machine over bytes.

use std::collections::BTreeMap;
use std::fmt;

use super::line::{Line, decode};
use super::plan::Nonce;
use super::report::{FunctionReport, Record, Refused};
use super::verdict::{Outcome, Verdict};

/// The longest line that is kept, in bytes. A record holds a few dozen lines of the kernel's log at
/// most.
const LINE_LIMIT: usize = 256 << 10;

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

/// Something that the serial line said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A stage was reached.
    Stage(Stage),
    /// The report on a function came.
    Function(Box<FunctionReport>),
    /// A line of the report was damaged on its way.
    Damaged,
    /// The guest gave up.
    GaveUp(String),
    /// The kernel panicked.
    Panic(String),
}

/// The observer of one run.
#[derive(Debug)]
pub struct Observer {
    nonce: Nonce,
    functions: usize,
    line: Vec<u8>,
    // The rest of a line that is too long is not looked at.
    overlong: bool,
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
            line: Vec::new(),
            overlong: false,
            stage: Stage::default(),
            refused: Vec::new(),
            reports: BTreeMap::new(),
            ended: None,
            damaged: 0,
            gave_up: None,
            panic: None,
        }
    }

    /// Takes bytes of the serial line, in whatever pieces they come, and returns what they said.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Seen> {
        let mut seen = Vec::new();
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, ended) = match piece.split_last() {
                Some((b'\n' | b'\r', text)) => (text, true),
                _ => (piece, false),
            };
            if self.line.len() + text.len() > LINE_LIMIT {
                self.overlong = true;
                self.line.clear();
            }
            if !self.overlong {
                self.line.extend_from_slice(text);
            }
            if ended {
                let line = std::mem::take(&mut self.line);
                if !std::mem::take(&mut self.overlong) && !line.is_empty() {
                    self.line(&line, &mut seen);
                }
            }
        }
        seen
    }

    fn line(&mut self, line: &[u8], seen: &mut Vec<Seen>) {
        match decode(&self.nonce, line) {
            Line::Record(record) => self.record(record, seen),
            Line::Damaged => {
                self.damaged = self.damaged.saturating_add(1);
                seen.push(Seen::Damaged);
            }
            Line::Other => self.other(&String::from_utf8_lossy(line), seen),
        }
    }

    fn other(&mut self, line: &str, seen: &mut Vec<Seen>) {
        if line.contains(BANNER) {
            self.reach(Stage::Kernel, seen);
        }
        if let Some((_, message)) = line.split_once(PANIC)
            && self.panic.is_none()
        {
            self.panic = Some(message.trim().to_owned());
            seen.push(Seen::Panic(message.trim().to_owned()));
        }
    }

    fn record(&mut self, record: Record, seen: &mut Vec<Seen>) {
        match record {
            Record::Started { .. } => self.reach(Stage::Init, seen),
            Record::Loaded { refused, .. } => {
                self.refused = refused;
                self.reach(Stage::Drivers, seen);
            }
            Record::Function(report) => {
                if report.index < self.functions && !self.reports.contains_key(&report.index) {
                    self.reports.insert(report.index, (*report).clone());
                    seen.push(Seen::Function(report));
                }
            }
            Record::Ended { functions, .. } => {
                self.ended = Some(functions);
                if self.is_complete() {
                    self.reach(Stage::Report, seen);
                }
            }
            Record::Failed { reason } => {
                self.gave_up = Some(reason.clone());
                seen.push(Seen::GaveUp(reason));
            }
        }
    }

    fn reach(&mut self, stage: Stage, seen: &mut Vec<Seen>) {
        if stage > self.stage {
            self.stage = stage;
            seen.push(Seen::Stage(stage));
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

#[cfg(test)]
mod tests;
