//! Words of a kernel command line that a variable holds, added and taken out.

use std::ops::Range;

use host::command_line;

use super::{Kind, Quote, Script, Unit};
use crate::config::Change;

/// A file of assignments is not edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Something in it might change the variable in a way that only a shell can tell.
    #[error("line {line} might change {name} in a way that only a shell can tell")]
    Uncertain {
        /// The variable.
        name: String,
        /// The line, from 1.
        line: usize,
    },
    /// A value is used again in such a way that no edit changes the intended words alone.
    #[error("{name} is made of parts of itself in a way that cannot be edited")]
    Entangled {
        /// The variable.
        name: String,
    },
    /// A word cannot be written in the quotes that are there.
    #[error("`{word}` cannot be written between single quotes")]
    Unquotable {
        /// The word.
        word: String,
    },
}

/// Text to be put in place of a piece of the source.
type Piece = (Range<usize>, String);

impl Script<'_> {
    /// Returns the file with the words of a variable changed; every other byte stays.
    ///
    /// # Errors
    /// It is uncertain what the variable ends up with, or a word cannot be written.
    pub fn change(&self, name: &str, change: &Change) -> Result<String, EditError> {
        if let Some(line) = self.uncertainty(name) {
            return Err(EditError::Uncertain { name: name.to_owned(), line });
        }
        let units = self.effective(name).unwrap_or_default();
        let mut pieces: Vec<Piece> = Vec::new();
        let mut present = Vec::new();
        let mut separator = None;
        // The words that shall be there, those with something unknown in them as `None`.
        let mut expected = Vec::new();
        for range in words(&units) {
            let word = text(&units[range.clone()]);
            if word.as_ref().is_some_and(|word| change.removes(word)) {
                remove(&units, &range, &mut pieces);
                continue;
            }
            expected.push(word.clone());
            let Some(word) = word else { continue };
            if word == "--" {
                separator.get_or_insert(&units[range.start]);
            }
            present.push(word);
        }
        let missing = change.missing(&present);
        if !missing.is_empty() {
            self.add(name, &units, separator.copied(), &missing, &mut pieces)?;
        }
        let at = expected.iter().position(|word| word.as_deref() == Some("--"));
        let at = at.unwrap_or(expected.len());
        expected.splice(at..at, missing.into_iter().map(|word| Some(word.to_owned())));
        let changed = self.replaced(pieces);
        let after = Script::parse(&changed);
        let units = after.effective(name).unwrap_or_default();
        let found: Vec<_> = words(&units).into_iter().map(|word| text(&units[word])).collect();
        if after.uncertainty(name).is_some() || found != expected {
            return Err(EditError::Entangled { name: name.to_owned() });
        }
        Ok(changed)
    }

    fn replaced(&self, mut pieces: Vec<Piece>) -> String {
        pieces.sort_by_key(|(range, _)| (range.start, range.end));
        let mut result = String::with_capacity(self.source.len());
        let mut copied = 0;
        for (range, text) in pieces {
            result.push_str(&self.source[copied..range.start.max(copied)]);
            result.push_str(&text);
            copied = range.end.max(copied);
        }
        result.push_str(&self.source[copied..]);
        result
    }

    fn add(
        &self,
        name: &str,
        units: &[(usize, &Unit)],
        separator: Option<(usize, &Unit)>,
        missing: &[&str],
        pieces: &mut Vec<Piece>,
    ) -> Result<(), EditError> {
        let words = missing.join(" ");
        if let Some((_, unit)) = separator {
            let at = unit.source.start;
            pieces.push((at..at, quoted(&format!("{words} "), unit.quote)?));
            return Ok(());
        }
        let is_it = |assignment: &&super::Assignment| &self.source[assignment.name.clone()] == name;
        let Some(last) = self.assignments.iter().rfind(is_it) else {
            let new = format!("{name}=\"{}\"\n", quoted(&words, Quote::Double)?);
            let at = self.certain;
            let on_line = self.source[..at].is_empty() || self.source[..at].ends_with('\n');
            pieces.push((at..at, if on_line { new } else { format!("\n{new}") }));
            return Ok(());
        };
        // What is left in front of the new words.
        let left =
            units.iter().rfind(|(_, unit)| !pieces.iter().any(|(range, _)| *range == unit.source));
        let space = if left.is_some_and(|(_, unit)| !is_space(unit)) { " " } else { "" };
        let words = format!("{space}{words}");
        let value = &last.value;
        let (quote, end) = value.tail;
        if quote != Quote::None {
            pieces.push((end..end, quoted(&words, quote)?));
            return Ok(());
        }
        let written = quoted(&words, Quote::Double)?;
        let is_plain = |unit: &Unit| {
            matches!(unit.kind, Kind::Char(char) if unit.quote == Quote::None
                && unit.source.len() == char.len_utf8())
        };
        if value.units.iter().all(is_plain) && !value.range.is_empty() {
            // Quotes around all of it, as a person would write it.
            let start = value.range.start;
            pieces.push((start..start, "\"".to_owned()));
            pieces.push((end..end, format!("{written}\"")));
        } else {
            pieces.push((end..end, format!("\"{written}\"")));
        }
        Ok(())
    }
}

/// Takes a word out, with one of the spaces beside it.
fn remove(units: &[(usize, &Unit)], word: &Range<usize>, pieces: &mut Vec<Piece>) {
    let gone =
        |unit: &Unit, pieces: &[Piece]| pieces.iter().any(|(range, _)| *range == unit.source);
    // A value that is used again has the same word again.
    if gone(units[word.start].1, pieces) {
        return;
    }
    let space = |at: Option<usize>| {
        at.and_then(|at| units.get(at)).map(|(_, unit)| *unit).filter(|unit| is_space(unit))
    };
    let before = space(word.start.checked_sub(1)).filter(|unit| !gone(unit, pieces));
    let beside = before.or_else(|| space(Some(word.end)));
    let taken = units[word.clone()].iter().map(|(_, unit)| *unit).chain(beside);
    pieces.extend(taken.map(|unit| (unit.source.clone(), String::new())));
}

fn is_space(unit: &Unit) -> bool {
    matches!(unit.kind, Kind::Char(char) if char.is_ascii_whitespace())
}

/// Where the words are, as the kernel splits them.
fn words(units: &[(usize, &Unit)]) -> Vec<Range<usize>> {
    // What is unknown stands for a character of a word; it might be several words, or none.
    let mut starts = Vec::new();
    let mut line = String::new();
    for (_, unit) in units {
        starts.push(line.len());
        line.push(match unit.kind {
            Kind::Char(char) => char,
            _ => '\u{fffd}',
        });
    }
    let index = |at: usize| starts.binary_search(&at).unwrap_or(units.len());
    command_line::ranges(&line)
        .into_iter()
        .map(|range| index(range.start)..index(range.end))
        .collect()
}

/// The text of a word, unless something in it is unknown.
fn text(units: &[(usize, &Unit)]) -> Option<String> {
    let char = |(_, unit): &(usize, &Unit)| match unit.kind {
        Kind::Char(char) => Some(char),
        _ => None,
    };
    units.iter().map(char).collect()
}

fn quoted(text: &str, quote: Quote) -> Result<String, EditError> {
    if quote == Quote::Single {
        return match text.contains('\'') {
            true => Err(EditError::Unquotable { word: text.trim().to_owned() }),
            false => Ok(text.to_owned()),
        };
    }
    let escape = |char: char| match char {
        '$' | '`' | '"' | '\\' => vec!['\\', char],
        char => vec![char],
    };
    Ok(text.chars().flat_map(escape).collect())
}
