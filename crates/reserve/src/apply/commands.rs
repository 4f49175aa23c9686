//! The commands of a change: run, and waited for where they outlive it.

use std::path::Path;

use host::{Journal, journal};

use super::{Applier, ApplyError, Header, JOURNAL, LOCK_PAUSE, LOCK_TRIES, Record, Step};
use crate::plan::Command;

/// Held by each command of a change as long as it runs, even when kireji is gone.
const RUNNING: &str = "/var/lib/kireji/running";

impl Applier<'_> {
    /// Begins the journal of a change.
    pub(super) fn begin(&self, header: Header) -> Result<Journal, ApplyError> {
        // What an earlier command has left running for good holds another file then.
        journal::remove(&self.host.locate(RUNNING))?;
        Ok(Journal::create(&self.host.locate(JOURNAL), &header)?)
    }

    /// Runs commands, each with its index.
    pub(super) fn run(
        &self,
        commands: impl Iterator<Item = (usize, Command)>,
        journal: &mut Journal,
    ) -> Result<(), ApplyError> {
        for (index, command) in commands {
            let intent = journal.intent(&Step::Command(index))?;
            let run = |source| ApplyError::Run { command: command.to_string(), source };
            let program = command.program().holding(self.host.locate(RUNNING));
            let done = self.runner.run(&program).map_err(run)?;
            if !done.status.success() {
                let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
                let start = said.char_indices().rev().nth(1000).map_or(0, |(at, _)| at);
                return Err(ApplyError::Command {
                    command: command.to_string(),
                    status: done.status,
                    said: said[start..].to_owned(),
                });
            }
            journal.done(intent)?;
        }
        Ok(())
    }

    /// Waits a while for the end of what was started for a change and outlived it: what it writes
    /// would come behind what is built again.
    pub(super) fn await_commands(&self, record: &Record) -> Result<(), ApplyError> {
        let running = self.host.locate(RUNNING);
        for _ in 0..LOCK_TRIES {
            let held = host::is_held(&running);
            if !held.map_err(|source| ApplyError::Disk { path: RUNNING.into(), source })? {
                return Ok(());
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        let read = journal::read::<Header, Step>(&self.host.locate(JOURNAL))?;
        let last = read.entries.iter().rev().find_map(|entry| match entry.step {
            Step::Command(index) => record.commands.get(index),
            Step::File(_) => None,
        });
        let command = last.map_or_else(|| RUNNING.to_owned(), ToString::to_string);
        Err(ApplyError::Running { command })
    }
}

/// The commands, by index, that have touched something as far as the journal knows: only their work
/// has to be done over from the files as they were.
pub(super) fn begun(journal: &Path, record: &Record) -> Result<Vec<usize>, ApplyError> {
    let read = journal::read::<Header, Step>(journal)?;
    if read.header.is_undo {
        return Ok((0..record.commands.len()).collect());
    }
    let commands = read.entries.iter().filter_map(|entry| match entry.step {
        Step::Command(index) => Some(index),
        Step::File(_) => None,
    });
    Ok(commands.collect())
}
