//! `/etc/kernel/cmdline` and its kind: a command line that may be spread over lines, with comments
//! (kernel-install(8); ukify(1)).

use super::{Change, words};

/// Returns the words of the file, in order.
pub fn split(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !is_comment(line)).flat_map(words::split).collect()
}

/// Returns the file with the change made; every other byte stays.
pub fn apply(text: &str, change: &Change) -> String {
    let present: Vec<_> = split(text).into_iter().filter(|word| !change.removes(word)).collect();
    let missing = change.missing(&present);
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    // What is missing goes to the last line that has words.
    let is_words = |line: &&str| !is_comment(line) && !line.trim().is_empty();
    let last = lines.iter().rposition(is_words);
    let remove = Change { add: Vec::new(), remove: change.remove.clone() };
    let mut result = String::new();
    for (index, line) in lines.iter().enumerate() {
        let mut changed = match is_comment(line) {
            true => (*line).to_owned(),
            false => remove.apply(line),
        };
        if last == Some(index) {
            changed = Change::add(missing.iter().copied()).apply(&changed);
        }
        result.push_str(&changed);
    }
    if last.is_none() && !missing.is_empty() {
        if !result.is_empty() && !result.ends_with('\n') {
            result.push('\n');
        }
        result.push_str(&missing.join(" "));
        result.push('\n');
    }
    result
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_to_the_last_line_that_has_some() {
        let change = Change { add: vec!["new".into()], remove: vec!["quiet".into()] };
        for (before, after) in [
            ("", "new\n"),
            ("# none", "# none\nnew\n"),
            ("root=/dev/a quiet\n", "root=/dev/a new\n"),
            ("a quiet\n# quiet new\nb\n\n# end\n", "a\n# quiet new\nb new\n\n# end\n"),
            ("new\nb\n", "new\nb\n"),
        ] {
            assert_eq!(apply(before, &change), after, "{before:?}");
        }
        assert_eq!(split("a\n# b\n c d\n"), ["a", "c", "d"]);
    }
}
