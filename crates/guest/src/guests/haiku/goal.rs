//! What a run of Haiku is to show, beyond that it runs.

use std::fmt;
use std::time::Duration;

use haiku::loading::Place;
use haiku::test_run::Test;

use super::claim::is_own;

/// The largest pattern, compiled, in bytes.
const PATTERN_LIMIT: usize = 1 << 20;

/// What a run is to show, and when it is over.
#[derive(Clone, Debug, Default)]
pub struct Goal {
    /// Drivers that were put into the volume, each of which is to be loaded and to take a card.
    pub drivers: Vec<Driver>,
    /// A line that means success.
    pub until: Option<Pattern>,
    /// Lines that mean failure.
    pub fail: Vec<Pattern>,
    /// A command that runs in the guest, and is to succeed.
    pub test: Option<Test>,
    /// How long the guest may say nothing before it counts as hung; `None` lets it be silent.
    pub idle: Option<Duration>,
    /// Whether the guest goes on once its verdict is known.
    pub keep: bool,
    /// Whether somebody else looks at the guest: nothing is asked of it, and nothing ends it.
    pub hands_off: bool,
    /// The memory of the guest in bytes, by which addresses of the card are explained.
    pub memory: u64,
}

impl Goal {
    /// Whether there is anything to be shown; otherwise somebody just uses the guest.
    pub fn is_any(&self) -> bool {
        !self.drivers.is_empty()
            || self.until.is_some()
            || !self.fail.is_empty()
            || self.test.is_some()
    }

    /// Whether there is anything that the guest is to show. A line that means failure is not: that
    /// it has not come yet says nothing.
    pub fn awaits_any(&self) -> bool {
        !self.drivers.is_empty() || self.until.is_some() || self.test.is_some()
    }
}

/// A driver that was put into the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// The name of its file.
    pub name: String,
    /// The sum of its bytes (SHA-256), in hexadecimal digits.
    pub sha256: String,
    /// Paths by which the guest may load it, from the root of its files.
    pub paths: Vec<String>,
    /// Its modules' names; a legacy driver has none.
    pub modules: Vec<String>,
    /// Whether it drives a card, and is to show which.
    pub has_card: bool,
}

impl Driver {
    /// Whether this is the name of one of its modules, or of a device that one of them makes.
    pub(super) fn has_module(&self, name: &str) -> bool {
        self.modules.iter().any(|module| module == name)
    }

    /// Whether a file of this path has its name and is another one.
    pub(super) fn is_namesake(&self, path: &str) -> bool {
        path.rsplit('/').next() == Some(&self.name) && !self.is_at(path)
    }

    /// Whether it may be loaded from this path.
    pub(super) fn is_at(&self, path: &str) -> bool {
        self.paths.iter().any(|own| own == path)
    }

    /// Whether a line is the driver's own.
    pub(super) fn says(&self, line: &str) -> bool {
        is_own(line, &self.name)
    }
}

/// A regular expression over lines of the serial line.
#[derive(Clone, Debug)]
pub struct Pattern(regex::Regex);

/// A text is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no regular expression: {why}")]
pub struct PatternError {
    text: String,
    why: String,
}

impl std::str::FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let built = regex::RegexBuilder::new(text).size_limit(PATTERN_LIMIT).build();
        built.map(Self).map_err(|error| {
            // The last line of the explanation says what is wrong; those before point at it.
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            PatternError { text: text.to_owned(), why: why.to_owned() }
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Pattern {
    pub(super) fn matches(&self, line: &str) -> bool {
        self.0.is_match(line)
    }
}

/// A line of the serial line, with its number in the log, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quote {
    pub(super) line: u64,
    pub(super) text: String,
}

impl fmt::Display for Quote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the log: {}", self.line, self.text)
    }
}

/// A function that the guest found, with the base addresses of its regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) regions: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_drivers_name_elsewhere_is_a_namesake() {
        let driver = Driver {
            name: "edu_test".into(),
            sha256: String::new(),
            paths: vec!["/boot/x/edu_test".into()],
            modules: vec![],
            has_card: true,
        };
        assert!(driver.is_namesake("/boot/system/dev/misc/edu_test"));
        assert!(!driver.is_namesake("/boot/x/edu_test"));
    }

    #[test]
    fn what_is_no_pattern_is_told_in_a_sentence() {
        let error = "a(".parse::<Pattern>().unwrap_err();
        assert_eq!(error.to_string(), "`a(` is no regular expression: unclosed group");
        assert!("(a{1000}){1000}".parse::<Pattern>().is_err());
        assert!("all (good|fine)".parse::<Pattern>().unwrap().matches("it is all fine."));
    }
}
