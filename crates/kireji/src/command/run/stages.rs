//! How long each stage of a run took, and whether one got slower.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use guest::guests::Sign;
use guest::process::{Event, Stage};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Runs that are remembered of one project, and those that a stage is compared with.
const REMEMBERED: usize = 50;
const COMPARED: usize = 5;
/// What is slower than usual by less is chance: a factor of the usual time in percent, and a time.
const SLOWER_PERCENT: u64 = 150;
const SLOWER_BY: u64 = 300;
/// The longest history that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The stages of a run in their order, each by what ends with it.
const ORDER: [&str; 11] = [
    "build",
    "check",
    "install",
    "QEMU",
    "firmware",
    "boot loader",
    "kernel",
    "PCI scan",
    "driver loaded",
    "goal",
    "verdict",
];

/// Times of a run, each stage with what it took in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Times(pub(super) Vec<(String, u64)>);

/// The clock of a run.
#[derive(Debug)]
pub(super) struct Timeline {
    requested: Instant,
    /// Ends of stages, in milliseconds since the request.
    marks: Vec<(&'static str, u64)>,
}

impl Timeline {
    pub(super) fn new(requested: Instant) -> Self {
        Self { requested, marks: Vec::new() }
    }

    /// Since the request, the time that a stage has just ended at.
    pub(super) fn mark(&mut self, stage: &'static str) {
        let ms = u64::try_from(self.requested.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.end(stage, ms);
    }

    fn end(&mut self, stage: &'static str, ms: u64) {
        // A guest that boots again does not take back what was shown.
        if self.marks.iter().all(|(known, _)| *known != stage) {
            self.marks.push((stage, ms));
        }
    }

    /// Takes what an event tells of the guest's stages: what begins one ends the one before.
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Stage { stage: Stage::Up, ms } => self.end("QEMU", *ms),
            Event::Sign { sign: Sign::Reached { stage }, ms } => {
                let ended = match *stage {
                    "boot-loader" => "firmware",
                    "kernel" => "boot loader",
                    "pci-scan" => "kernel",
                    "boot-volume" => "PCI scan",
                    "driver-loaded" => "driver loaded",
                    _ => return,
                };
                self.end(ended, *ms);
            }
            // The end of the guest's own time, whoever ends it (qapi/run-state.json, SHUTDOWN).
            Event::Stopping { ms, .. } => self.end("goal", *ms),
            Event::Qemu { name, ms, .. } if name == "SHUTDOWN" => self.end("goal", *ms),
            _ => {}
        }
    }

    /// What is left of a time since the request without the build.
    pub(super) fn without_build(&self, ms: u64) -> u64 {
        let build = self.marks.iter().find(|(stage, _)| *stage == "build");
        ms.saturating_sub(build.map_or(0, |(_, ms)| *ms))
    }

    /// What each stage took.
    pub(super) fn times(&self) -> Times {
        // A guest in a hurry speaks before QEMU has said that it runs.
        let mut marks = self.marks.clone();
        marks.sort_by_key(|(stage, _)| ORDER.iter().position(|known| known == stage));
        let mut before = 0;
        let mut took = |(stage, at): &(&str, u64)| {
            let took = at.saturating_sub(before);
            before = before.max(*at);
            ((*stage).to_owned(), took)
        };
        Times(marks.iter().map(&mut took).collect())
    }

    /// The whole time so far.
    pub(super) fn total(&self) -> Duration {
        self.requested.elapsed()
    }
}

impl Times {
    /// All stages in one line.
    pub(super) fn line(&self) -> String {
        let mut line = String::from("stages:");
        for (index, (stage, ms)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(line, "{separator} {stage} {}", seconds(*ms));
        }
        line
    }

    /// A line for each stage that took much longer than it usually does.
    fn slower(&self, before: &[Self]) -> Vec<String> {
        let mut lines = Vec::new();
        for (stage, ms) in &self.0 {
            let of =
                |times: &Self| times.0.iter().find(|(known, _)| known == stage).map(|(_, ms)| *ms);
            let mut usual: Vec<u64> = before.iter().rev().filter_map(of).take(COMPARED).collect();
            usual.sort_unstable();
            let Some(middle) = usual.get(usual.len() / 2).filter(|_| usual.len() >= 3) else {
                continue;
            };
            let limit = middle.saturating_mul(SLOWER_PERCENT) / 100;
            if *ms > limit && *ms > middle.saturating_add(SLOWER_BY) {
                let (now, then) = (seconds(*ms), seconds(*middle));
                lines.push(format!("slower: {stage} took {now}, usually {then}"));
            }
        }
        lines
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:02} s", ms / 1000, ms % 1000 / 10)
}

/// The times of earlier runs of the same project: one file of lines.
#[derive(Debug)]
pub(super) struct History(PathBuf);

impl History {
    /// The history of runs of `image` with these drivers and devices from this directory.
    pub(super) fn of(state: &Path, parts: &[String]) -> Self {
        let mut sum = Sha256::new();
        for part in parts {
            sum.update(part.as_bytes());
            sum.update([0]);
        }
        let name: String =
            sum.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self(state.join("history").join(format!("{name}.jsonl")))
    }

    fn read(&self) -> Vec<Times> {
        let Ok(file) = std::fs::File::open(&self.0) else { return Vec::new() };
        let lines = BufReader::new(std::io::Read::take(file, LARGEST)).lines();
        // A line that was not written to its end is no reason to forget the others.
        lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()).collect()
    }

    /// Adds the times of a run, and says which stages got slower.
    ///
    /// # Errors
    /// The history cannot be written.
    pub(super) fn add(&self, times: &Times) -> std::io::Result<Vec<String>> {
        let mut all = self.read();
        let slower = times.slower(&all);
        all.push(times.clone());
        let first = all.len().saturating_sub(REMEMBERED);
        let mut text = String::new();
        for times in all.iter().skip(first) {
            text.push_str(&serde_json::to_string(times)?);
            text.push('\n');
        }
        if let Some(directory) = self.0.parent() {
            std::fs::create_dir_all(directory)?;
        }
        host::atomic::write(&self.0, text.as_bytes(), 0o600).map_err(|error| error.source)?;
        Ok(slower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(kernel: u64) -> Times {
        Times(vec![("firmware".into(), 900), ("kernel".into(), kernel)])
    }

    #[test]
    fn stages_are_what_passed_between_their_ends() {
        let mut line = Timeline::new(Instant::now());
        line.end("check", 5);
        line.event(&Event::Stage { stage: Stage::Up, ms: 80 });
        for (stage, ms) in [("boot-loader", 1000), ("kernel", 1500), ("boot-loader", 9000)] {
            line.event(&Event::Sign { sign: Sign::Reached { stage }, ms });
        }
        let times = line.times();
        assert_eq!(
            times.line(),
            "stages: check 0.00 s, QEMU 0.07 s, firmware 0.92 s, boot loader 0.50 s"
        );
    }

    #[test]
    fn the_guests_own_time_ends_with_it_whoever_ends_it() {
        let shutdown = |ms| Event::Qemu { name: "SHUTDOWN".into(), data: ().into(), ms };
        let stopping = |ms| Event::Stopping { how: "quit", ms };
        for (first, second) in [(shutdown(4000), stopping(4900)), (stopping(4000), shutdown(4900))]
        {
            let mut line = Timeline::new(Instant::now());
            line.end("build", 3000);
            line.end("check", 3005);
            assert_eq!((line.without_build(3182), line.without_build(9)), (182, 0));
            line.event(&first);
            line.event(&second);
            line.end("verdict", 5000);
            let times = line.times().line();
            assert!(times.ends_with("check 0.00 s, goal 0.99 s, verdict 1.00 s"), "{times}");
        }
    }

    #[test]
    fn a_stage_that_got_slower_is_told_once_it_has_a_usual_time() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::of(dir.path(), &["image".into()]);
        for _ in 0..3 {
            assert_eq!(history.add(&times(1000)).unwrap(), [""; 0]);
        }
        let slower = history.add(&times(2100)).unwrap();
        assert_eq!(slower, ["slower: kernel took 2.10 s, usually 1.00 s"]);
        assert_eq!(history.add(&times(1200)).unwrap(), [""; 0]);
        assert_eq!(history.read().len(), 5);
        assert_ne!(History::of(dir.path(), &["x".into()]).0, history.0);
        // Half a line, as a full disk leaves one.
        let text = std::fs::read_to_string(&history.0).unwrap();
        std::fs::write(&history.0, &text[..text.len() - 9]).unwrap();
        assert_eq!(history.read().len(), 4);
    }

    #[test]
    fn only_so_many_runs_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::of(dir.path(), &[]);
        for _ in 0..REMEMBERED + 3 {
            history.add(&times(1)).unwrap();
        }
        assert_eq!(history.read().len(), REMEMBERED);
    }
}
