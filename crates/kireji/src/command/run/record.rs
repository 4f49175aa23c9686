//! What a run tells of itself: to its directory, to a program that reads, and at its end.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use guest::rundir::{End, RunDirectory, timestamp};
use haiku::install::Change;
use haiku::kdl::Panic;
use pci::Address;
use serde::Serialize;
use vfio::take::Restored;

use crate::command::outcome;
use crate::shown::{Filter, escaped};
use crate::{CommandError, Context, Exit};

use super::session::run_error;
use super::stages::Times;
use super::verdict;

/// What is shown of a serial line that was not shown before, at most: lines, and bytes.
const TAIL_LINES: usize = 40;
const TAIL_BYTES: u64 = 16 << 10;

/// How a run ended that is no error.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) exit: Exit,
    /// A sentence.
    pub(super) words: String,
    /// What shows it.
    pub(super) reasons: Vec<String>,
}

/// How a run ended, or its error.
pub(super) type Ended = Result<Said, CommandError>;

/// Returns the exit code, the sentence and the reasons of an end.
pub(super) fn in_words(ended: &Ended) -> (Exit, String, &[String]) {
    match ended {
        Ok(said) => (said.exit, said.words.clone(), &said.reasons),
        Err(error) => (error.exit(), verdict::sentence(&error.to_string()), error.all_reasons()),
    }
}

/// What happens around a guest. What happens to it is [`guest::process::Event`].
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Told<'a> {
    /// The run begins.
    Run {
        schema: u32,
        run: &'a str,
        directory: &'a Path,
        guest: &'a str,
        image: Option<&'a Path>,
        devices: &'a [String],
    },
    /// The run has taken functions from their drivers.
    Taken { functions: &'a [Address] },
    /// What became of a function that the run had taken.
    Returned(outcome::Returned),
    /// What was put into the guest's disk.
    Installed { changes: &'a [Change] },
    /// The panic of the guest's kernel.
    Panic { panic: &'a Panic },
    /// How long each stage took, in milliseconds.
    Times { stages: &'a Times },
    /// How the run ended; the last event.
    Verdict { exit_code: u8, outcome: &'a str, reasons: &'a [String] },
}

/// A run's directory, and what is told beside it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) directory: RunDirectory,
    json: bool,
    /// Whether the serial line was not shown, so that a failure shows the end of it.
    pub(super) is_quiet: bool,
    /// Whether the guest itself shut the machine down.
    pub(super) shut_down: bool,
    /// The first event that could not be told. A run goes on without being told of.
    failure: Option<CommandError>,
}

impl Record {
    pub(super) fn new(directory: RunDirectory, json: bool) -> Self {
        Self { directory, json, is_quiet: false, shut_down: false, failure: None }
    }

    /// Tells an event.
    pub(super) fn tell(&mut self, event: &impl Serialize, context: &mut Context<'_>) {
        let kept = self.directory.event(event).map_err(run_error);
        self.keep(kept);
        if self.json {
            let line = serde_json::to_string(event).map_err(CommandError::from);
            let told = line.and_then(|line| Ok(writeln!(context.out, "{}", escaped(&line))?));
            self.keep(told);
        }
    }

    /// Keeps the first failure to tell something.
    pub(super) fn keep(&mut self, told: Result<(), CommandError>) {
        if let Err(error) = told {
            self.failure.get_or_insert(error);
        }
    }

    /// Tells what became of a function.
    pub(super) fn tell_restored(&mut self, one: &Restored, context: &mut Context<'_>) {
        self.tell(&Told::Returned(one.into()), context);
    }

    /// Records how the run ended, whatever that was, and says it.
    pub(super) fn close(
        mut self,
        ended: Ended,
        context: &mut Context<'_>,
    ) -> Result<Exit, CommandError> {
        let (exit, outcome, reasons) = in_words(&ended);
        if self.is_quiet && exit != Exit::Done {
            let shown = tail(&self.directory.serial_log(), context);
            self.keep(shown);
        }
        let end = End {
            ended: timestamp(context.clock.now()),
            outcome: outcome.clone(),
            exit_code: exit as u8,
        };
        let written = self.directory.end(&end).map_err(run_error);
        self.keep(written);
        self.tell(&Told::Verdict { exit_code: exit as u8, outcome: &outcome, reasons }, context);
        match (ended, self.failure) {
            // Nothing else is wrong than that not all of it was told.
            (Ok(said), Some(failure)) if said.exit == Exit::Done => {
                say(&said, context)?;
                Err(failure)
            }
            (ended, failure) => {
                if let Some(failure) = failure {
                    writeln!(context.err, "WARNING: not all of the run was told: {failure}")?;
                }
                let said = ended?;
                say(&said, context)?;
                Ok(said.exit)
            }
        }
    }
}

/// Shows the end of the serial line.
fn tail(log: &Path, context: &mut Context<'_>) -> Result<(), CommandError> {
    let Ok(mut file) = File::open(log) else { return Ok(()) };
    let length = file.metadata().map(|metadata| metadata.len()).unwrap_or_default();
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let mut filter = Filter::default();
    let shown = String::from_utf8_lossy(&filter.feed(&bytes)).into_owned();
    let lines: Vec<_> = shown.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)) {
        writeln!(context.err, "{line}")?;
    }
    context.err.write_all(filter.reset())?;
    Ok(())
}

fn say(said: &Said, context: &mut Context<'_>) -> Result<(), CommandError> {
    writeln!(context.err, "{}", said.words)?;
    for reason in &said.reasons {
        writeln!(context.err, "  {reason}")?;
    }
    Ok(())
}
