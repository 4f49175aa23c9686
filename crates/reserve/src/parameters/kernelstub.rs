//! kernelstub of Pop!_OS: it keeps the options itself, and writes them to its entry at once.

use host::Sysroot;

use super::{ParameterError, Source};
use crate::boot::{Boot, EntryKind};
use crate::config::{Change, words};
use crate::generator::Confidence;
use crate::plan::{Command, Plan};

/// kernelstub.
#[derive(Debug)]
pub(super) struct Kernelstub;

impl Source for Kernelstub {
    fn name(&self) -> &'static str {
        "kernelstub"
    }

    fn confidence(&self) -> Confidence {
        Confidence::Source
    }

    fn plan(
        &self,
        _: &Sysroot,
        boot: &Boot,
        change: &Change,
        plan: &mut Plan,
    ) -> Result<bool, ParameterError> {
        // Its entry of the current kernel says what it remembers.
        let entries = boot.entries.iter().filter(|entry| entry.kind == EntryKind::Bls);
        let options: Vec<_> = entries.flat_map(|entry| words::split(&entry.options)).collect();
        let has = |word: &String| options.iter().any(|other| words::is_same(other, word));
        for word in change.remove.iter().filter(|word| has(word)) {
            let command = Command::new(["kernelstub", "-d", word]);
            plan.command(command.inverse(["kernelstub", "-a", word]));
        }
        for word in change.add.iter().filter(|word| !has(word)) {
            let command = Command::new(["kernelstub", "-a", word]);
            plan.command(command.inverse(["kernelstub", "-d", word]));
        }
        Ok(false)
    }
}
