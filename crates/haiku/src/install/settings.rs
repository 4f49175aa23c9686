//! Settings files of Haiku, changed so that what a person wrote there stays byte for byte.
//!
//! Everything of ours is between two comments, so that taking it out again gives exactly what was
//! there before, whatever the person wrote around it since. How Haiku reads such a file is told by
//! src/system/libroot/os/driver_settings.cpp: a comment ends with its line, of several lines with
//! one name the last counts, and a file of 32 KiB or more is ignored.

use serde::{Deserialize, Serialize};

const BEGIN: &str = "\n# kireji: begin\n";
const END: &str = "# kireji: end\n";
/// A file of this size is not read any more (driver_settings.cpp, MAX_SETTINGS_SIZE).
const TOO_LARGE: usize = 32768;

/// One thing that is wanted in a settings file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Setting {
    /// A line of a name and its value.
    Line(String),
    /// An entry of a package that Haiku shall not show.
    Blocked {
        /// The package.
        package: String,
        /// The path in it.
        entry: String,
    },
}

/// What is wanted does not go into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Its braces or quotes do not match.
    #[error("its braces or quotes do not match, so that Haiku ignores all of it")]
    Unbalanced,
    /// It is too large.
    #[error("it has 32 KiB or more, which Haiku ignores")]
    TooLarge,
}

/// Takes out what is ours.
pub(super) fn strip(text: &str) -> String {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(BEGIN) {
        // A block that somebody tore is not known to be ours any more.
        let Some((_, after)) = after.split_once(END) else { break };
        kept.push_str(before);
        rest = after;
    }
    kept.push_str(rest);
    kept
}

/// Puts in what is wanted and not there yet. `text` has nothing of ours.
pub(super) fn render(text: &str, settings: &[Setting]) -> Result<String, SettingsError> {
    let mut text = text.to_owned();
    let mut packages: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut lines: Vec<&str> = Vec::new();
    for setting in settings {
        match setting {
            Setting::Line(line) if !lines.contains(&line.as_str()) => lines.push(line),
            Setting::Line(_) => {}
            Setting::Blocked { package, entry } => {
                match packages.iter_mut().find(|(name, _)| name == package) {
                    Some((_, entries)) if entries.contains(&entry.as_str()) => {}
                    Some((_, entries)) => entries.push(entry),
                    None => packages.push((package, vec![entry])),
                }
            }
        }
    }
    for (package, entries) in packages {
        let blocked: String = entries.iter().map(|entry| format!("\t\t{entry}\n")).collect();
        let block = format!("\tBlockedEntries {{\n{blocked}\t}}\n");
        // The boot loader reads the first block of a package only (PackageSettingsItem.cpp).
        match package_block(&text, package)? {
            Some(at) => text.insert_str(at, &format!("{BEGIN}{block}{END}")),
            None => {
                let whole = format!("{BEGIN}Package {package} {{\n{block}}}\n{END}");
                text.insert_str(0, &whole);
            }
        }
    }
    let words = words(&text)?;
    lines.retain(|line| {
        let name = line.split(' ').next().unwrap_or(line);
        let at_top = |word: &&Word<'_>| word.depth == 0 && word.first && word.text == name;
        let last = words.iter().rposition(|word| at_top(&word));
        let same = |at: usize| {
            let rest = &words[at..];
            let end = rest[1..].iter().position(|word| word.first).map_or(rest.len(), |n| n + 1);
            rest[..end].iter().map(|word| word.text).eq(line.split(' '))
        };
        !last.is_some_and(same)
    });
    if !lines.is_empty() {
        text.push_str(&format!("{BEGIN}{}\n{END}", lines.join("\n")));
    }
    if text.len() >= TOO_LARGE { Err(SettingsError::TooLarge) } else { Ok(text) }
}

/// Whether the last parameter `name` says no, in one of the words that Haiku knows for it
/// (driver_settings.cpp, get_driver_boolean_parameter).
pub(super) fn is_off(text: &str, name: &str) -> bool {
    const OFF: [&str; 6] = ["0", "false", "no", "off", "disable", "disabled"];
    let Ok(words) = words(text) else { return false };
    let is_named = |word: &Word<'_>| word.depth == 0 && word.first && word.text == name;
    let value = words.iter().rposition(is_named).and_then(|at| words.get(at + 1));
    value.is_some_and(|word| !word.first && OFF.contains(&word.text))
}

/// A word of a settings file.
struct Word<'t> {
    text: &'t str,
    /// Braces around it.
    depth: usize,
    /// Whether it begins a parameter, and so is its name.
    first: bool,
    /// Where the brace after it ends, if one opens.
    opens: Option<usize>,
}

/// Where the first block of a package begins, after its brace.
fn package_block(text: &str, package: &str) -> Result<Option<usize>, SettingsError> {
    let words = words(text)?;
    let begins = |pair: &&[Word<'_>]| {
        pair[0].depth == 0
            && pair[0].first
            && pair[0].text == "Package"
            && !pair[1].first
            && pair[1].text == package
    };
    Ok(words.windows(2).find(begins).and_then(|pair| pair[1].opens))
}

/// The words of a file, with the braces around them.
fn words(text: &str) -> Result<Vec<Word<'_>>, SettingsError> {
    let bytes = text.as_bytes();
    let mut words: Vec<Word<'_>> = Vec::new();
    let (mut at, mut depth, mut first) = (0, 0_usize, true);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'#' => {
                let line = bytes[at..].iter().position(|byte| *byte == b'\n');
                at += line.unwrap_or(bytes.len() - at);
                continue;
            }
            b'{' => {
                depth += 1;
                first = true;
                if let Some(word) = words.last_mut() {
                    word.opens = Some(at + 1);
                }
            }
            b'}' => {
                depth = depth.checked_sub(1).ok_or(SettingsError::Unbalanced)?;
                first = true;
            }
            b'\n' | b';' => first = true,
            byte if byte.is_ascii_whitespace() || *byte == b'=' => {}
            _ => {
                let (word, end) = word(text, at)?;
                words.push(Word { text: word, depth, first, opens: None });
                (at, first) = (end, false);
                continue;
            }
        }
        at += 1;
    }
    if depth == 0 { Ok(words) } else { Err(SettingsError::Unbalanced) }
}

/// The word that begins at a byte, and where what follows it begins.
fn word(text: &str, start: usize) -> Result<(&str, usize), SettingsError> {
    let bytes = text.as_bytes();
    let quote = bytes.get(start).copied().filter(|byte| matches!(byte, b'"' | b'\''));
    let begin = start + usize::from(quote.is_some());
    let mut at = begin;
    while let Some(byte) = bytes.get(at) {
        match quote {
            _ if *byte == b'\\' => at += 1,
            Some(quote) if *byte == quote => return Ok((&text[begin..at], at + 1)),
            Some(_) => {}
            None if byte.is_ascii_whitespace() || matches!(byte, b';' | b'=') => break,
            None => {}
        }
        at += 1;
    }
    if quote.is_some() || at > bytes.len() {
        return Err(SettingsError::Unbalanced);
    }
    Ok((&text[begin..at], at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_says_no_is_seen_where_it_counts() {
        for (text, off) in [
            ("", false),
            ("serial_debug_output false", true),
            ("  serial_debug_output\toff # why\nx true", true),
            ("serial_debug_output true", false),
            ("#serial_debug_output false", false),
            ("serial_debug_output false\nserial_debug_output true\n", false),
            ("serial_debug_output\nfalse", false),
            ("a {\nserial_debug_output false\n}", false),
            ("serial_debug_output false }", false),
        ] {
            assert_eq!(is_off(text, "serial_debug_output"), off, "{text}");
        }
    }

    fn blocked(entry: &str) -> Setting {
        Setting::Blocked { package: "haiku".to_owned(), entry: entry.to_owned() }
    }

    fn line() -> Setting {
        Setting::Line("bluescreen false".to_owned())
    }

    #[test]
    fn a_line_is_added_unless_the_last_of_its_name_says_so() {
        for (before, added) in [
            ("", true),
            ("load_symbols true", true),
            ("load_symbols true\n", true),
            ("bluescreen false\n", false),
            ("bluescreen   false ; x\n", false),
            ("bluescreen=false", false),
            ("bluescreen true\nbluescreen false", false),
            ("bluescreen false\nbluescreen true\n", true),
            ("# bluescreen false\n", true),
            ("nested {\nbluescreen false\n}\n", true),
            ("bluescreen\n", true),
        ] {
            let after = render(before, &[line(), line()]).unwrap();
            assert_eq!(after != before, added, "{before:?}");
            assert_eq!(after.matches("# kireji: begin").count(), usize::from(added));
            assert_eq!(strip(&after), before);
        }
    }

    #[test]
    fn entries_join_the_first_block_of_their_package() {
        let before = "Package other {\n}\nPackage \"haiku\" { # mine\n\tBlockedEntries {\n\t\tbin/x\n\
                      \t}\n}\nPackage haiku {\n}\n";
        let after = render(before, &[blocked("a/b"), blocked("a/b"), blocked("c")]).unwrap();
        let expected = "Package other {\n}\nPackage \"haiku\" {\n# kireji: begin\n\
                        \tBlockedEntries {\n\t\ta/b\n\t\tc\n\t}\n# kireji: end\n # mine\n";
        assert!(after.starts_with(expected), "{after}");
        assert_eq!(strip(&after), before);
        assert_eq!(
            render("", &[blocked("a/b")]).unwrap(),
            "\n# kireji: begin\nPackage haiku {\n\tBlockedEntries {\n\t\ta/b\n\t}\n}\n\
             # kireji: end\n"
        );
        // The brace may be on the next line.
        let after = render("Package haiku\n{\n}\n", &[blocked("a")]).unwrap();
        assert!(after.starts_with("Package haiku\n{\n# kireji: begin\n"), "{after}");
    }

    #[test]
    fn what_haiku_would_ignore_is_refused() {
        for bad in ["a {", "}", "a \"b", "a b\\"] {
            assert_eq!(render(bad, &[line()]), Err(SettingsError::Unbalanced), "{bad}");
        }
        let large = "x y\n".repeat(8192);
        assert_eq!(render(&large, &[line()]), Err(SettingsError::TooLarge));
    }

    #[test]
    fn a_torn_block_stays() {
        let torn = "a b\n# kireji: begin\nc d\n";
        assert_eq!(strip(torn), torn);
    }

    proptest::proptest! {
        #[test]
        fn what_was_there_comes_back_byte_for_byte(
            before in "([a-c #{}\"\\\\;=\n\t]|Package haiku \\{\n|\\}\n|# note\n){0,24}",
        ) {
            if let Ok(after) = render(&before, &[line(), blocked("x/y")]) {
                proptest::prop_assert_eq!(strip(&after), before);
                proptest::prop_assert!(words(&after).is_ok());
            }
        }
    }
}
