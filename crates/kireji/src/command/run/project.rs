//! `kireji run` in a directory with a project file.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Parser;

use crate::project::Project;
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
/// this directory belongs to is meant: it is named where the image would be, or nothing is.
pub(super) fn expand(args: &Args, context: &Context<'_>) -> Result<Option<Args>, CommandError> {
    let image = args.image.as_deref();
    // A directory is no image, and may well have a target's name.
    let is_image = |image: &Path| image.exists() && !image.is_dir();
    if args.guest == GuestKind::Linux || image.is_some_and(is_image) {
        return Ok(None);
    }
    let directory = std::env::current_dir()?;
    let Some(project) = Project::find(&directory, context)? else { return Ok(None) };
    let name = image.and_then(Path::file_name).and_then(|name| name.to_str());
    let is_name = image.is_none_or(|image| image.parent() == Some(&directory) && name.is_some());
    let is_known = name.is_none_or(|name| project.has(name));
    if !is_name || (!is_known && image.is_some_and(Path::is_dir)) {
        return Ok(None);
    }
    let mut words = project.words(name, context).map_err(|error| match is_known {
        true => error,
        false => error.hint("there is no image of this name either"),
    })?;
    let given = context.vars.args.iter().skip_while(|word| *word != "run").skip(1);
    let given = without(given.cloned().collect(), image);
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

/// Takes the word that named the image out of the words that a person wrote. The same word may be
/// the value of an option, and then nothing without it means the same.
fn without(given: Vec<OsString>, image: Option<&Path>) -> Vec<OsString> {
    let Some(image) = image else { return given };
    let names = |word: &OsString| std::path::absolute(word).is_ok_and(|path| path == image);
    for index in (0..given.len()).rev().filter(|index| names(&given[*index])) {
        let mut rest = given.clone();
        rest.remove(index);
        if Line::try_parse_from(&rest).is_ok_and(|line| line.args.image.is_none()) {
            return rest;
        }
    }
    given
}

/// Whether a word of a target's gives an option that a person gave too. A card and one of QEMU's own
/// in its place are the same then.
fn is_replaced(word: &OsStr, given: &[OsString]) -> bool {
    const CARDS: [&str; 2] = ["--device", "--emulate"];
    let option = |word: &OsStr| {
        let word = word.to_str().filter(|word| word.starts_with("--"))?;
        let option = word.split_once('=').map_or(word, |(option, _)| option);
        Some(if CARDS.contains(&option) { CARDS[0].to_owned() } else { option.to_owned() })
    };
    let is_same = |wanted: String| given.iter().any(|word| option(word).as_ref() == Some(&wanted));
    option(word).is_some_and(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_names_the_target_is_taken_out() {
        let image = std::path::absolute("a").unwrap();
        for (given, expected) in [
            ("a", ""),
            ("--quiet ./a --json", "--quiet --json"),
            ("--until a --quiet a", "--until a --quiet"),
            ("a --until a", "--until a"),
            ("--fail=a a --fail a", "--fail=a --fail a"),
            ("a --extra-qemu-arg a --quiet", "--extra-qemu-arg a --quiet"),
        ] {
            let words = |text: &str| text.split_whitespace().map(OsString::from).collect();
            let expected: Vec<OsString> = words(expected);
            assert_eq!(without(words(given), Some(&image)), expected, "{given}");
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
        ] {
            assert_eq!(is_replaced(OsStr::new(word), &given), expected, "{word}");
        }
    }
}
