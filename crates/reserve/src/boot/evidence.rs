//! What something shows, and what follows where several things show something.

use std::path::PathBuf;

use serde::Serialize;

/// One thing that was seen, and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Clue<T> {
    /// What it says.
    pub says: T,
    /// The file that was read.
    pub path: PathBuf,
    /// What is in it, in words.
    pub what: String,
}

impl<T> Clue<T> {
    /// Returns a clue.
    pub fn new(says: T, path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self { says, path: path.into(), what: what.into() }
    }
}

/// What follows from clues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict<T> {
    /// All say the same.
    Agreed {
        /// What they say.
        says: T,
        /// The clues.
        clues: Vec<Clue<T>>,
    },
    /// They contradict each other: nothing may be built on them.
    Disagreed {
        /// The clues.
        clues: Vec<Clue<T>>,
    },
    /// There is none.
    Unmeasured {
        /// Why, and what would be needed.
        why: String,
    },
}

impl<T: Copy + PartialEq> Verdict<T> {
    /// Weighs clues; `why` says what is missing where there is none.
    pub fn of(clues: Vec<Clue<T>>, why: impl Into<String>) -> Self {
        match clues.first() {
            None => Self::Unmeasured { why: why.into() },
            Some(first) if clues.iter().all(|clue| clue.says == first.says) => {
                Self::Agreed { says: first.says, clues }
            }
            Some(_) => Self::Disagreed { clues },
        }
    }

    /// What the clues say, if they agree.
    pub fn agreed(&self) -> Option<T> {
        match self {
            Self::Agreed { says, .. } => Some(*says),
            _ => None,
        }
    }
}
