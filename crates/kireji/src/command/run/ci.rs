//! A verdict for machines that run tests: a JUnit file, and annotations of a GitHub workflow.

use std::fmt::Write;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use guest::launch::as_user;

use crate::{CommandError, Context, Exit};

use super::super::image::host_failed;
use super::Args;
use super::checks::denied;

/// Where machines hear of a verdict, each once.
#[derive(Debug)]
pub(super) struct Machines {
    junit: Option<(PathBuf, File)>,
    has_annotations: bool,
    begun: Instant,
    has_told: bool,
}

impl Machines {
    /// Opens the JUnit file with the rights of the user whom the run belongs to. It is empty then:
    /// what a former run left in it is no result of this one.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn open(args: &Args, context: &Context<'_>) -> Result<Self, CommandError> {
        let user = context.vars.user.as_ref();
        let open = |path: &Path| {
            let created = as_user(user, || File::create(path)).map_err(|e| denied(e, user))?;
            created.map_err(|source| host_failed("write", path, source))
        };
        let junit = match &args.goal.junit {
            Some(path) if !args.dry_run => Some((path.clone(), open(path)?)),
            _ => None,
        };
        let is_workflow = std::env::var_os("GITHUB_ACTIONS").is_some_and(|set| set == "true");
        let has_annotations = !args.dry_run && (args.goal.github || is_workflow);
        Ok(Self { junit, has_annotations, begun: Instant::now(), has_told: false })
    }

    /// Tells a verdict.
    pub(super) fn tell(
        &mut self,
        told: &Told<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), CommandError> {
        self.has_told = true;
        if let Some((path, mut file)) = self.junit.take() {
            let written = file.write_all(told.junit().as_bytes());
            written.map_err(|source| host_failed("write", &path, source))?;
        }
        if self.has_annotations {
            writeln!(context.err, "{}", told.annotation())?;
        }
        Ok(())
    }

    /// Tells how a run ended that did not come so far as to tell it.
    pub(super) fn tell_early(
        &mut self,
        args: &Args,
        exit: Exit,
        words: &str,
        reasons: &[String],
        context: &mut Context<'_>,
    ) -> Result<(), CommandError> {
        if self.has_told {
            return Ok(());
        }
        let files = args.goal.driver.iter().filter_map(|path| path.file_stem());
        let mut names: Vec<_> = files.map(|name| name.to_string_lossy().into_owned()).collect();
        names.extend(args.goal.jam.iter().cloned());
        let name = if names.is_empty() { "guest".to_owned() } else { names.join(" ") };
        let took = self.begun.elapsed();
        self.tell(&Told { name: &name, exit, words, reasons, took }, context)
    }
}

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
