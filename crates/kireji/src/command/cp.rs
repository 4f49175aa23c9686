//! `kireji cp`: files to and from the guest of a run that goes on.

use std::ffi::{OsStr, OsString};

use guest::login::ALIAS;

use super::reach;
use crate::{Code, CommandError, Context, Exit};

/// Arguments of `cp`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to copy: a path of this machine, or RUN:PATH or :PATH in the guest
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<OsString>,
    /// Where to: a path of the other side
    destination: OsString,
    /// Copy directories with what is in them
    #[arg(long, short)]
    recursive: bool,
    #[command(flatten)]
    wait: reach::Wait,
}

/// A place of this machine, or of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place<'a> {
    Here(&'a OsStr),
    There { run: Option<&'a str>, path: &'a str },
}

impl<'a> Place<'a> {
    /// As scp tells them apart: what has a colon before any slash is elsewhere.
    fn of(text: &'a OsStr) -> Self {
        let parts = text.to_str().and_then(|text| text.split_once(':'));
        match parts.filter(|(run, _)| !run.contains('/')) {
            Some((run, path)) => Self::There { run: (!run.is_empty()).then_some(run), path },
            None => Self::Here(text),
        }
    }

    fn run(self) -> Option<Option<&'a str>> {
        match self {
            Self::Here(_) => None,
            Self::There { run, .. } => Some(run),
        }
    }

    fn word(self) -> OsString {
        match self {
            Self::Here(path) => path.to_owned(),
            Self::There { path, .. } => format!("{ALIAS}:{path}").into(),
        }
    }
}

/// Returns the run that a copy is about; its name is `None` where it is the last one.
fn run_of<'a>(
    sources: &[Place<'a>],
    destination: Place<'a>,
) -> Result<Option<&'a str>, CommandError> {
    let wrong = |message: &str| {
        CommandError::new(Exit::Usage, message)
            .hint("`kireji cp FILE :/boot/home/` and `kireji cp :/boot/home/FILE .` copy")
    };
    let runs: Vec<_> = sources.iter().map(|source| source.run()).collect();
    let (Some(first), target) = (runs.first(), destination.run()) else {
        return Err(wrong("nothing is to be copied"));
    };
    if runs.iter().any(|run| run != first) {
        return Err(wrong("all that is copied must be of one run, or of this machine"));
    }
    match (*first, target) {
        (Some(run), None) | (None, Some(run)) => Ok(run),
        (None, None) => Err(wrong("neither side is the guest's: its paths begin with `:`")),
        (Some(_), Some(_)) => {
            Err(wrong("both sides are a guest's, and one must be of this machine"))
        }
    }
}

/// Copies the files; the exit code is scp's.
///
/// # Errors
/// The paths are not of a guest and of this machine, there is no such run, nobody can log in to its
/// guest, or the guest does not answer.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Code, CommandError> {
    let sources: Vec<_> = args.sources.iter().map(|source| Place::of(source)).collect();
    let destination = Place::of(&args.destination);
    let run = reach::find(run_of(&sources, destination)?, context)?;
    let configuration = reach::open(&run, args.wait, context)?;
    let mut words: Vec<OsString> = vec!["-F".into(), configuration.into()];
    if args.recursive {
        words.push("-r".into());
    }
    words.push("--".into());
    words.extend(sources.iter().map(|source| source.word()));
    words.push(destination.word());
    reach::attach("scp", words, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_between_one_run_and_this_machine() {
        for (words, expected) in [
            (&["a", ":b"][..], Ok(None)),
            (&["a", "./c:d", "2026:b"], Ok(Some("2026"))),
            (&["2026:a", "2026:b", "."], Ok(Some("2026"))),
            (&[":a", "/tmp/x:y"], Ok(None)),
            (&["a", "b"], Err("neither side")),
            (&[":a", ":b"], Err("both sides")),
            (&["a", ":b", "."], Err("must be of one run")),
            (&["1:a", "2:b", "."], Err("must be of one run")),
        ] {
            let places: Vec<_> = words.iter().map(|word| Place::of(OsStr::new(*word))).collect();
            let (destination, sources) = places.split_last().unwrap();
            let found = run_of(sources, *destination).map_err(|error| error.to_string());
            match expected {
                Ok(run) => assert_eq!(found, Ok(run), "{words:?}"),
                Err(part) => assert!(found.unwrap_err().contains(part), "{words:?}"),
            }
        }
        assert_eq!(Place::of(OsStr::new("2026:/boot/a")).word(), "guest:/boot/a");
        assert_eq!(Place::of(OsStr::new("a/b:c")).word(), "a/b:c");
    }
}
