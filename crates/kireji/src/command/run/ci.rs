//! A verdict for machines that run tests: a JUnit file, and annotations of a GitHub workflow.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use crate::{CommandError, Exit};

use super::super::image::host_failed;

/// A verdict, as others are told of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    /// What was tried: the drivers' names, or the guest's.
    pub(super) name: &'a str,
    pub(super) exit: Exit,
    pub(super) words: &'a str,
    pub(super) reasons: &'a [String],
    pub(super) took: Duration,
}

impl Told<'_> {
    /// The verdict as a JUnit file: a test that passed, failed, or could not be made.
    pub(super) fn junit(&self) -> String {
        // What the guest did is a failure; that it could not be tried is an error.
        let kind = match self.exit {
            Exit::Done => None,
            exit if (20..=28).contains(&(exit as u8)) => Some("failure"),
            _ => Some("error"),
        };
        let count = |wanted: &str| usize::from(kind == Some(wanted));
        let (name, seconds) = (escaped(self.name), self.took.as_secs_f64());
        let (failures, errors) = (count("failure"), count("error"));
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "<testsuite name=\"kireji\" tests=\"1\" failures=\"{failures}\" errors=\"{errors}\" \
             time=\"{seconds:.3}\">\n  <testcase classname=\"kireji.run\" name=\"{name}\" \
             time=\"{seconds:.3}\">"
        );
        let reasons = escaped(&self.reasons.join("\n"));
        let words = escaped(self.words);
        let _ = match kind {
            Some(kind) => writeln!(
                text,
                "    <{kind} type=\"{}\" message=\"{words}\">{reasons}</{kind}>",
                self.exit as u8
            ),
            None => writeln!(text, "    <system-out>{words}\n{reasons}</system-out>"),
        };
        text.push_str("  </testcase>\n</testsuite>\n");
        text
    }

    /// Writes the JUnit file.
    pub(super) fn write_junit(&self, path: &Path) -> Result<(), CommandError> {
        std::fs::write(path, self.junit()).map_err(|source| host_failed("write", path, source))
    }

    /// The verdict as a workflow command
    /// (docs.github.com, "Workflow commands for GitHub Actions").
    pub(super) fn annotation(&self) -> String {
        let level = if self.exit == Exit::Done { "notice" } else { "error" };
        let of_property = |text: &str| of_message(text).replace(':', "%3A").replace(',', "%2C");
        let message = std::iter::once(self.words).chain(self.reasons.iter().map(String::as_str));
        let message = message.collect::<Vec<_>>().join("\n");
        let title = of_property(&format!("kireji run {}", self.name));
        format!("::{level} title={title}::{}", of_message(&message))
    }
}

fn of_message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Text for XML 1.0: markup is escaped, and what may not be in a document at all is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' => out.push(c),
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(exit: Exit, reasons: &[String]) -> Told<'_> {
        let took = Duration::from_millis(1500);
        Told { name: "edu, \"x\"", exit, words: "It <panicked>.", reasons, took }
    }

    #[test]
    fn a_verdict_is_a_test_that_passed_failed_or_could_not_be_made() {
        let reasons = ["PANIC: a & b\x1b\x00\u{ffff}".to_owned()];
        insta::assert_snapshot!(told(Exit::Panic, &reasons).junit(), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuite name="kireji" tests="1" failures="1" errors="0" time="1.500">
          <testcase classname="kireji.run" name="edu, &quot;x&quot;" time="1.500">
            <failure type="21" message="It &lt;panicked&gt;.">PANIC: a &amp; b</failure>
          </testcase>
        </testsuite>
        "#);
        assert!(told(Exit::Busy, &[]).junit().contains("errors=\"1\""));
        let passed = told(Exit::Done, &[]).junit();
        assert!(passed.contains("failures=\"0\" errors=\"0\""), "{passed}");
    }

    #[test]
    fn an_annotation_is_one_line_that_cannot_be_broken_out_of() {
        let reasons = ["100%\n::error::forged".to_owned()];
        assert_eq!(
            told(Exit::Panic, &reasons).annotation(),
            "::error title=kireji run edu%2C \"x\"::It <panicked>.%0A100%25%0A::error::forged"
        );
        assert!(told(Exit::Done, &[]).annotation().starts_with("::notice "));
    }
}
