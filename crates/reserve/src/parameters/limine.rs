//! Limine: its own `limine.conf`, or what the entry tool of some distributions makes that from.

use std::path::Path;

use host::Sysroot;

use super::{ParameterError, Source};
use crate::boot::{Boot, entries::limine};
use crate::config::{Change, words};
use crate::generator::Confidence;
use crate::plan::Plan;

/// The entry tool's configuration; each line that appends counts (limine-entry-tool's README).
const DEFAULTS: &str = "/etc/default/limine";

/// Limine with a menu that nobody makes again.
#[derive(Debug)]
pub(super) struct Limine;

/// Limine with limine-entry-tool.
#[derive(Debug)]
pub(super) struct EntryTool;

impl Source for Limine {
    fn name(&self) -> &'static str {
        "Limine with limine.conf"
    }

    // A digest of the configuration may be enrolled in the program itself, which then boots nothing
    // else (CONFIG.md), and no file says so.
    fn confidence(&self) -> Confidence {
        Confidence::Hearsay
    }

    fn plan(
        &self,
        host: &Sysroot,
        _: &Boot,
        change: &Change,
        plan: &mut Plan,
    ) -> Result<bool, ParameterError> {
        let Some(path) = limine::CONFIGURATIONS.iter().find(|path| host.exists(path)) else {
            return Err(ParameterError::Unsupported("Limine without limine.conf".to_owned()));
        };
        super::edit(host, Path::new(path), plan, |text| Ok(edited(text, change)))?;
        Ok(false)
    }
}

fn edited(text: &str, change: &Change) -> String {
    let line = |line: &str| match limine::option(line) {
        Some(("cmdline" | "kernel_cmdline", _)) => {
            let start = line.find(':').map_or(0, |at| at + 1);
            let (key, value) = line.split_at(start);
            // What is added to an empty line stands behind a space.
            let value = if value.trim().is_empty() {
                format!(" {}", value.trim_start_matches([' ', '\t']))
            } else {
                value.to_owned()
            };
            let changed = change.apply(&value);
            let space = if changed.starts_with([' ', '\t', '\n']) { "" } else { " " };
            format!("{key}{space}{changed}")
        }
        _ => line.to_owned(),
    };
    text.split_inclusive('\n').map(line).collect()
}

impl Source for EntryTool {
    fn name(&self) -> &'static str {
        "Limine with limine-entry-tool"
    }

    fn confidence(&self) -> Confidence {
        Confidence::Hearsay
    }

    fn plan(
        &self,
        host: &Sysroot,
        _: &Boot,
        change: &Change,
        plan: &mut Plan,
    ) -> Result<bool, ParameterError> {
        let before = plan.files.len();
        super::edit(host, Path::new(DEFAULTS), plan, |text| Ok(default_edited(text, change)))?;
        Ok(plan.files.len() > before)
    }
}

/// Each line `KERNEL_CMDLINE[…]="…"` or `+=` has words between its quotes.
fn default_edited(text: &str, change: &Change) -> String {
    let remove = Change::remove(change.remove.iter().cloned());
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let is_line = |line: &String| line.trim_start().starts_with("KERNEL_CMDLINE[default]");
    let mut present = Vec::new();
    for line in lines.iter_mut().filter(|line| is_line(line)) {
        *line = between_quotes(line, |value| remove.apply(value));
        between_quotes(line, |value| {
            present.extend(words::split(value).into_iter().map(str::to_owned));
            value.to_owned()
        });
    }
    let missing = change.missing(&present);
    if let Some(last) = lines.iter_mut().rfind(|line| is_line(line)).filter(|_| !missing.is_empty())
    {
        *last = between_quotes(last, |value| Change::add(missing.iter().copied()).apply(value));
    }
    lines.concat()
}

fn between_quotes(line: &str, mut change: impl FnMut(&str) -> String) -> String {
    match (line.find('"'), line.rfind('"')) {
        (Some(start), Some(end)) if start < end => {
            format!("{}{}{}", &line[..=start], change(&line[start + 1..end]), &line[end..])
        }
        _ => line.to_owned(),
    }
}
