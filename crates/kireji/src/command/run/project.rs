//! `kireji run` in a directory with a project file.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Parser;

use crate::project::{FILE, Project};
use crate::shown::plain;
use crate::{CommandError, Context, Exit};

use super::{Args, GuestKind};

/// A command line of `run` alone.
#[derive(Debug, Parser)]
#[command(name = "kireji run", no_binary_name = true)]
pub(super) struct Line {
    #[command(flatten)]
    pub(super) args: Args,
}

/// Returns the arguments with those of the target before them, where a target of the project that
/// this directory belongs to is meant: nothing is named where the image would be, or a plain word,
/// which is a target before it is a file. A word with a slash is always a file.
pub(super) fn expand(args: &Args, context: &mut Context<'_>) -> Result<Option<Args>, CommandError> {
    if args.guest == GuestKind::Linux {
        return Ok(None);
    }
    let given = context.vars.args.iter().skip_while(|word| *word != "run").skip(1);
    let mut given: Vec<_> = given.cloned().collect();
    let word = match args.image.as_deref() {
        None => None,
        Some(image) => match position(&given, image) {
            Some(index) if is_plain(&given[index]) => Some(given.remove(index)),
            _ => return Ok(None),
        },
    };
    let image = args.image.as_deref();
    let is_there = image.is_some_and(Path::exists);
    let name = word.as_deref().and_then(OsStr::to_str);
    let directory = std::env::current_dir()?;
    let project = match Project::find(&directory, context) {
        Ok(Some(project)) => project,
        Ok(None) => return Ok(None),
        // What somebody else left above has no say in what the word means.
        Err(error) if is_there && error.exit() == Exit::Refused => return Ok(None),
        Err(error) => return Err(with_file(error, name.filter(|_| is_there))),
    };
    let is_known = name.map_or(word.is_none(), |name| project.has(name));
    if !is_known && (is_there || name.is_none()) {
        return Ok(None);
    }
    if let Some(name) = name.filter(|_| image.is_some_and(Path::is_file)) {
        let name = plain(name);
        writeln!(context.err, "note: {name} is the target of {FILE}; the file is ./{name}")?;
    }
    let mut words = project.words(name, context).map_err(|error| match is_known {
        true => error,
        false => error.hint("there is no image of this name either"),
    })?;
    words.retain(|word| !is_replaced(word, &given));
    words.extend(given);
    let mut line = Line::try_parse_from(words).map_err(|error| {
        let error = error.render().to_string();
        let mut lines = error.lines().filter(|line| !line.trim().is_empty());
        let first = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        CommandError::new(Exit::Usage, first).hint("look into kireji.toml and the command line")
    })?;
    line.args.project = Some(project.directory);
    Ok(Some(line.args))
}

/// Says how the file is named that is there too.
fn with_file(error: CommandError, name: Option<&str>) -> CommandError {
    name.into_iter().fold(error, |error, name| error.hint(format!("./{name} names the file")))
}

/// Whether a word is a name and no path.
fn is_plain(word: &OsStr) -> bool {
    !word.as_encoded_bytes().contains(&b'/') && word != "." && word != ".."
}

/// Returns which of the words that a person wrote named the image. The same word may be the value of
/// an option, and then nothing without it means the same.
fn position(given: &[OsString], image: &Path) -> Option<usize> {
    let names = |word: &OsString| std::path::absolute(word).is_ok_and(|path| path == image);
    (0..given.len()).rev().filter(|index| names(&given[*index])).find(|index| {
        let mut rest = given.to_vec();
        rest.remove(*index);
        Line::try_parse_from(&rest).is_ok_and(|line| line.args.image.is_none())
    })
}

/// What means nothing without a card of this host.
const OF_CARDS: [&str; 7] = [
    "--romfile",
    "--reset",
    "--function",
    "--with-group",
    "--allow",
    "--force-unbind",
    "--primary-display",
];
/// Options of a target's that one of a person's rules out.
const RULED_OUT: [(&str, &str); 2] = [("--keep", "--watch"), ("--state", "--persist")];

/// Whether a word of a target's gives an option that a person gave too, or that another one of the
/// person's rules out. A card and one of QEMU's own in its place are the same then.
fn is_replaced(word: &OsStr, given: &[OsString]) -> bool {
    const CARDS: [&str; 2] = ["--device", "--emulate"];
    let Some(option) = option(word) else { return false };
    let has = |wanted: &str| given.iter().any(|word| self::option(word) == Some(wanted));
    let has_no_card = has(CARDS[1]) && !has(CARDS[0]);
    has(option)
        || CARDS.contains(&option) && CARDS.iter().any(|card| has(card))
        || has_no_card && OF_CARDS.contains(&option)
        || RULED_OUT.iter().any(|(own, persons)| *own == option && has(persons))
}

/// The option that a word gives.
fn option(word: &OsStr) -> Option<&str> {
    let word = word.to_str().filter(|word| word.starts_with("--"))?;
    Some(word.split_once('=').map_or(word, |(option, _)| option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_names_the_target_is_found() {
        let image = std::path::absolute("a").unwrap();
        for (given, expected) in [
            ("a", Some(0)),
            ("--quiet ./a --json", Some(1)),
            ("--until a --quiet a", Some(3)),
            ("a --until a", Some(0)),
            ("--fail=a a --fail a", Some(1)),
            ("a --extra-qemu-arg a --quiet", Some(0)),
            ("--until a", None),
        ] {
            let words: Vec<_> = given.split_whitespace().map(OsString::from).collect();
            assert_eq!(position(&words, &image), expected, "{given}");
        }
        for (word, expected) in [("a", true), ("a.iso", true), ("./a", false), ("b/a", false)] {
            assert_eq!(is_plain(OsStr::new(word)), expected, "{word}");
        }
    }

    #[test]
    fn what_a_person_gives_replaces_what_a_target_has() {
        let given = ["--emulate", "nvme", "--put=a:b", "--quiet"].map(OsString::from);
        for (word, expected) in [
            ("--device=29:00.0", true),
            ("--emulate=edu", true),
            ("--put=c:d", true),
            ("--driver=x", false),
            ("nvme", false),
            ("--romfile=x", true),
            ("--allow=acs", true),
            ("--keep", false),
        ] {
            assert_eq!(is_replaced(OsStr::new(word), &given), expected, "{word}");
        }
        let given = ["--watch", "--device=29:00.0"].map(OsString::from);
        for (word, expected) in [
            ("--keep", true),
            ("--state=x", false),
            ("--emulate=edu", true),
            ("--reset=flr", false),
        ] {
            assert_eq!(is_replaced(OsStr::new(word), &given), expected, "{word}");
        }
    }
}
