//! Errors as the user sees them: what failed, what caused it, what to do.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use crate::Exit;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

/// The error of a command.
#[derive(Debug)]
pub struct CommandError {
    exit: Exit,
    code: Option<&'static str>,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    reasons: Vec<String>,
    hints: Vec<String>,
}

impl CommandError {
    /// Returns an error without a cause.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { exit, code: None, message, source: None, reasons: Vec::new(), hints: Vec::new() }
    }

    /// Returns an error that says what `source` says, with its causes.
    pub fn from_source(exit: Exit, source: impl Error + Send + Sync + 'static) -> Self {
        let message = source.to_string();
        Self { source: Some(Box::new(source)), ..Self::new(exit, message) }
    }

    /// Adds the stable code that `kireji explain` knows.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Adds one of several reasons.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reasons.push(reason.into());
        self
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Returns the reasons that were added.
    pub fn all_reasons(&self) -> &[String] {
        &self.reasons
    }

    /// Returns the exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    fn causes(&self) -> impl Iterator<Item = &(dyn Error + 'static)> {
        let mut next: Option<&(dyn Error + 'static)> = match &self.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        };
        std::iter::from_fn(move || {
            let cause = next?;
            next = cause.source();
            Some(cause)
        })
    }

    /// Writes the error. A failure to do so has nowhere to go.
    pub fn report(&self, err: &mut dyn Write) {
        drop(self.write(err));
    }

    fn write(&self, err: &mut dyn Write) -> io::Result<()> {
        write!(err, "{ERROR}error:{ERROR:#} {}", self.message)?;
        match self.code {
            Some(code) => writeln!(err, " [{code}]")?,
            None => writeln!(err)?,
        }
        // Our own first cause may be the very error that gave the message.
        for cause in self.causes().filter(|cause| cause.to_string() != self.message) {
            writeln!(err, "  caused by: {cause}")?;
        }
        for reason in &self.reasons {
            writeln!(err, "  because {reason}")?;
        }
        for hint in &self.hints {
            writeln!(err, "  {HINT}hint:{HINT:#} {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<io::Error> for CommandError {
    /// An error of our own output, which is where a bare one comes from.
    fn from(error: io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::StorageFull => Exit::NoSpace,
            _ => Exit::Internal,
        };
        Self { source: Some(Box::new(error)), ..Self::new(exit, "cannot write the output") }
    }
}

impl From<serde_json::Error> for CommandError {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}

impl From<host::ReadError> for CommandError {
    fn from(error: host::ReadError) -> Self {
        let exit = if error.is_denied() { Exit::Permission } else { Exit::HostCannot };
        Self::from_source(exit, error)
    }
}
