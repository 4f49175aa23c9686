//! The tool itself, run inside the rig as a user runs it.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::{Outcome, Rig, said};

const KIREJI: &str = "/bin/kireji";

/// How long something is waited for: a rig on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often it is looked for.
const STEP: Duration = Duration::from_millis(20);

/// The exit code of a card that is in use.
const BUSY: i32 = 12;

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

/// Looks for something until it is there, or patience ends.
fn in_time<T>(what: &str, find: impl Fn() -> Result<Option<T>, String>) -> Result<T, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("{what}: not within {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(STEP);
    }
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

    /// Waits until something is found.
    pub(super) fn wait_for<T>(
        &self,
        what: &str,
        find: impl Fn() -> Result<Option<T>, String>,
    ) -> Result<T, String> {
        let found = in_time(what, find)?;
        self.ok(what);
        Ok(found)
    }

    /// Waits for something to become true.
    pub(super) fn settles(&self, what: &str, is: impl Fn() -> Result<bool, String>) -> Outcome {
        self.wait_for(what, || Ok(is()?.then_some(())))
    }

    /// Recovers cards. As long as the helper of a process that died is still in the kernel, the
    /// tool says that its card is busy and asks for another try.
    pub(super) fn recovered(&self) -> Result<Ended, String> {
        in_time("`kireji recover` ends with 0", || {
            let ended = self.kireji("recover")?;
            match ended.code {
                Some(0) => Ok(Some(ended)),
                Some(BUSY) => Ok(None),
                code => Err(format!("`kireji recover` ended with {code:?}: {}", ended.err)),
            }
        })
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
