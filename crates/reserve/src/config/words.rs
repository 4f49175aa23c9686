//! Changes of kernel command lines.

use std::ops::Range;

use host::command_line::ranges;
pub use host::command_line::{is_same, split, value};

/// What is to become of the words of a command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Words that it shall have.
    pub add: Vec<String>,
    /// Words that it shall not have.
    pub remove: Vec<String>,
}

impl Change {
    /// Returns the change that adds these words.
    pub fn add<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Self {
        Self { add: words.into_iter().map(Into::into).collect(), remove: Vec::new() }
    }

    /// Returns the change that takes these words out.
    pub fn remove<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Self {
        Self { remove: words.into_iter().map(Into::into).collect(), add: Vec::new() }
    }

    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    pub(crate) fn removes(&self, word: &str) -> bool {
        self.remove.iter().any(|other| is_same(other, word))
    }

    /// The words to add to a line that has `present`.
    pub(crate) fn missing<'a, S: AsRef<str>>(&'a self, present: &[S]) -> Vec<&'a str> {
        let has = |word: &str| present.iter().any(|other| is_same(other.as_ref(), word));
        self.add.iter().map(String::as_str).filter(|word| !has(word)).collect()
    }

    /// Returns the line with the change made; every other byte stays.
    ///
    /// What is added goes to the end, but before `--`, behind which the kernel gives everything to
    /// the first process.
    pub fn apply(&self, line: &str) -> String {
        let mut result = String::with_capacity(line.len());
        let mut copied = 0;
        for word in ranges(line) {
            if self.removes(&line[word.clone()]) {
                let Range { start, end } = with_space(line, &word, copied);
                result.push_str(&line[copied..start]);
                copied = end;
            }
        }
        result.push_str(&line[copied..]);
        let words = ranges(&result);
        let present: Vec<_> = words.iter().map(|word| &result[word.clone()]).collect();
        let missing = self.missing(&present).join(" ");
        if missing.is_empty() {
            return result;
        }
        let separator = words.iter().find(|word| &result[(*word).clone()] == "--");
        if let Some(separator) = separator {
            result.insert_str(separator.start, &format!("{missing} "));
        } else {
            match words.last() {
                Some(last) => result.insert_str(last.end, &format!(" {missing}")),
                None => result.insert_str(0, &missing),
            }
        }
        result
    }
}

/// A word with one of the spaces beside it, the one before it if that is still there.
fn with_space(line: &str, word: &Range<usize>, from: usize) -> Range<usize> {
    let is_space = |at: usize| line.as_bytes().get(at).is_some_and(u8::is_ascii_whitespace);
    if word.start > from && is_space(word.start - 1) {
        word.start - 1..word.end
    } else if is_space(word.end) && word.end + 1 < line.len() {
        word.start..word.end + 1
    } else {
        word.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_come_and_go_and_the_rest_stays() {
        let change = Change {
            add: vec!["intel_iommu=on".into(), "vfio-pci.ids=1:2".into()],
            remove: vec!["quiet".into()],
        };
        for (before, after) in [
            ("", "intel_iommu=on vfio-pci.ids=1:2"),
            ("\n", "intel_iommu=on vfio-pci.ids=1:2\n"),
            ("quiet\n", "intel_iommu=on vfio-pci.ids=1:2\n"),
            ("root=/dev/a  ro\tquiet \n", "root=/dev/a  ro intel_iommu=on vfio-pci.ids=1:2 \n"),
            ("quiet quiet a", "a intel_iommu=on vfio-pci.ids=1:2"),
            ("vfio_pci.ids=1:2 intel-iommu=on", "vfio_pci.ids=1:2 intel-iommu=on"),
            ("a=\"quiet b\" -- quiet c", "a=\"quiet b\" intel_iommu=on vfio-pci.ids=1:2 -- c"),
        ] {
            assert_eq!(change.apply(before), after, "{before:?}");
            assert_eq!(change.apply(after), after, "again");
        }
    }

    proptest! {
        #[test]
        fn only_the_intended_words_change(
            line in "([a-c=\"]{1,3}|[ \t]){0,12}\n?",
            add in prop::collection::vec("[a-c]{1,3}", 0..3),
            remove in prop::collection::vec("[a-c]{1,3}", 0..3),
        ) {
            // An open quote swallows what is added; the kernel itself takes it so.
            prop_assume!(line.matches('"').count() % 2 == 0);
            prop_assume!(!add.iter().any(|word| remove.contains(word)));
            let change = Change { add: add.clone(), remove: remove.clone() };
            let changed = change.apply(&line);
            let mut expected: Vec<_> =
                split(&line).into_iter().filter(|word| !change.removes(word)).collect();
            for word in &add {
                if !expected.contains(&word.as_str()) {
                    expected.push(word);
                }
            }
            // A word that is named twice to be added is missing once.
            let mut found = split(&changed);
            if add.len() == 2 && add[0] == add[1] && found.len() > expected.len() {
                found.pop();
            }
            prop_assert_eq!(found, expected);
        }
    }
}
