//! Files of assignments that a shell sources, such as `/etc/default/grub`.
//!
//! Only what is certain is taken as an assignment: one that a shell carries out whenever it
//! sources the file. Everything else is left alone, and where something of it might change the
//! variable in question, an edit is refused rather than made where it might have no effect.
//! The grammar is that of POSIX (XCU, "Shell Command Language"), with `+=` of bash.

mod edit;
mod lexer;

#[cfg(test)]
mod tests;

pub use edit::EditError;

use std::ops::Range;

/// A file of assignments.
#[derive(Clone, Debug)]
pub struct Script<'a> {
    source: &'a str,
    assignments: Vec<Assignment>,
    /// What is no assignment and no comment.
    others: Vec<Range<usize>>,
    /// Where it begins to be uncertain whether, and in what order, something is carried out.
    certain: usize,
}

/// `NAME=value` or `NAME+=value`.
#[derive(Clone, Debug)]
struct Assignment {
    name: Range<usize>,
    appends: bool,
    value: Value,
}

/// The value of an assignment, as it is written and as it is meant.
#[derive(Clone, Debug)]
struct Value {
    range: Range<usize>,
    units: Vec<Unit>,
    /// How its last part is quoted, and where that part's text ends.
    tail: (Quote, usize),
}

/// One character of a value, or something that the shell puts in its place.
#[derive(Clone, Debug)]
struct Unit {
    kind: Kind,
    source: Range<usize>,
    quote: Quote,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Char(char),
    /// The value of a variable that is simply named.
    Variable(String),
    /// Anything else that only a shell can tell.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
}

impl<'a> Script<'a> {
    /// Reads a file. Nothing is an error: what is not understood is left alone.
    pub fn parse(source: &'a str) -> Self {
        lexer::parse(source)
    }

    /// Returns the value of a variable as far as it can be told without a shell: `None` where it
    /// is not set, or where something in it or behind it only a shell can tell.
    pub fn value(&self, name: &str) -> Option<String> {
        if self.uncertainty(name).is_some() {
            return None;
        }
        let units = self.effective(name)?;
        let char = |(_, unit): &(usize, &Unit)| match unit.kind {
            Kind::Char(char) => Some(char),
            _ => None,
        };
        units.iter().map(char).collect()
    }

    /// What a variable ends up with: each unit with the index of its assignment.
    fn effective(&self, name: &str) -> Option<Vec<(usize, &Unit)>> {
        let mut all: Option<Vec<(usize, &Unit)>> = None;
        for (index, assignment) in self.assignments.iter().enumerate() {
            if &self.source[assignment.name.clone()] != name {
                continue;
            }
            let before = all.take().unwrap_or_default();
            let mut now = if assignment.appends { before.clone() } else { Vec::new() };
            for unit in &assignment.value.units {
                match &unit.kind {
                    Kind::Variable(other) if other == name => now.extend(before.iter().copied()),
                    _ => now.push((index, unit)),
                }
            }
            all = Some(now);
        }
        all
    }

    /// Where something stands that might change a variable in a way that only a shell can tell:
    /// the number of the line, from 1.
    fn uncertainty(&self, name: &str) -> Option<usize> {
        let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
        let mentions = |text: &str| text.split(|char| !is_name(char)).any(|word| word == name);
        // These carry out other text.
        let sources = |text: &str| {
            let mut words = text.split_whitespace();
            words.any(|word| matches!(word, "." | "source" | "eval"))
        };
        self.others
            .iter()
            .find(|range| {
                let text = &self.source[(*range).clone()];
                mentions(text) || sources(text)
            })
            .map(|range| self.source[..range.start].matches('\n').count() + 1)
    }
}
