//! Asks before anything is downloaded or installed.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Result, bail};

/// Whether a person has to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Ask.
    Ask,
    /// Given already, by `--yes` or because this is CI.
    Given,
}

impl Consent {
    /// Returns whether consent is given by the option or by the environment variable `CI`.
    pub fn of(yes: bool) -> Self {
        let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
        if yes || ci { Self::Given } else { Self::Ask }
    }

    /// Says what is about to happen, and returns an error unless it may.
    pub fn ask(self, what: &str) -> Result<()> {
        let mut stderr = std::io::stderr();
        if self == Self::Given {
            writeln!(stderr, "        {what}")?;
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            bail!("would {what}: say so with --yes");
        }
        write!(stderr, "May I {what}? [Y/n] ")?;
        stderr.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "" | "y" | "yes" => Ok(()),
            _ => bail!("nothing was done"),
        }
    }
}
