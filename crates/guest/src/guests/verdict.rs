//! What a run means.

use haiku::kdl::Panic;
use serde::Serialize;

/// What a run showed, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// It ended as somebody wanted it to, or showed what it was to show.
    Done,
    /// It was stopped before it could show anything.
    Stopped,
    /// It ended well, and what it was to show is not shown.
    Unproven,
    /// A driver did not take its card.
    NotDriven,
    /// The guest did not boot.
    NotBooted,
    /// The guest's kernel panicked.
    Panicked,
    /// It went on for longer than it may.
    Hung,
    /// The guest reset itself, once or again and again.
    Reset,
    /// What was tested failed.
    Failed,
    /// A program in the guest crashed.
    ProgramCrashed,
    /// The card did what it may not, or is gone.
    CardFault,
}

/// What a run means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// In one word.
    pub finding: Finding,
    /// In one factual sentence, lower-case and without its full stop.
    pub summary: String,
    /// What led to it. Such words may be the guest's, and hold anything.
    pub reasons: Vec<String>,
    /// The panic of the guest's kernel, where its words are understood; told by itself.
    #[serde(skip)]
    pub panic: Option<Box<Panic>>,
}

impl Verdict {
    pub(crate) fn new(finding: Finding, summary: impl Into<String>) -> Self {
        Self { finding, summary: summary.into(), reasons: Vec::new(), panic: None }
    }

    pub(crate) fn because(mut self, reason: impl Into<String>) -> Self {
        self.reasons.push(reason.into());
        self
    }
}
