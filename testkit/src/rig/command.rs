//! The tool itself, run inside the rig as a user runs it.

use std::process::{Command, Output};

use super::{Outcome, Rig, said};

const KIREJI: &str = "/bin/kireji";

/// How a command ended.
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Returns the command, not yet started.
pub(super) fn command(words: &str) -> Command {
    let mut command = Command::new(KIREJI);
    command.args(words.split_whitespace());
    command
}

impl Rig<'_> {
    /// Runs the tool; `words` are its arguments.
    pub(super) fn kireji(&self, words: &str) -> Result<Ended, String> {
        command(words).output().map(Ended::from).map_err(said)
    }

    /// Runs the tool and checks its exit code.
    pub(super) fn expect(&self, words: &str, code: i32) -> Result<Ended, String> {
        let ended = self.kireji(words)?;
        if ended.code == Some(code) {
            self.ok(format!("`kireji {words}` ends with {code}"));
            return Ok(ended);
        }
        Err(format!("`kireji {words}` ended with {:?}: {}{}", ended.code, ended.out, ended.err))
    }

    /// Checks that text is in what a command said.
    pub(super) fn says(&self, said: &str, part: &str) -> Outcome {
        if said.contains(part) {
            self.ok(format!("it says {part:?}"));
            return Ok(());
        }
        Err(format!("it should say {part:?}, but says: {said}"))
    }
}
