//! `kireji doctor` in words.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use pci::doctor::{Candidate, Finding, Readiness, Status, Subject};
use pci::{Host, Names};

use super::Report;
use crate::{CommandError, Context};

const PASS: Style = AnsiColor::Green.on_default();
const FAIL: Style = AnsiColor::Red.on_default().bold();
const UNMEASURED: Style = AnsiColor::Yellow.on_default();
const ADVICE: Style = AnsiColor::Magenta.on_default();
const HINT: Style = AnsiColor::Cyan.on_default();
const HEADING: Style = Style::new().bold();

/// Writes what was found, by subject, then the cards, then the verdict.
pub(super) fn write(
    context: &mut Context<'_>,
    host: &Host,
    report: &Report,
    verbose: bool,
) -> Result<(), CommandError> {
    for subject in Subject::ALL {
        let about = report.findings.iter().filter(|finding| finding.subject == subject);
        let mut about = about.peekable();
        if about.peek().is_none() {
            continue;
        }
        writeln!(context.out, "{HEADING}{}{HEADING:#}", subject.title())?;
        while let Some(finding) = about.next() {
            // Several conditions may hold for the same reason.
            let mut codes = finding.code.to_string();
            while let Some(next) = about.next_if(|next| is_same(finding, next)) {
                codes = format!("{codes} {}", next.code);
            }
            one(context.out, finding, &codes, verbose)?;
        }
        writeln!(context.out)?;
    }
    if let Some(candidates) = &report.cards {
        let is_ready = pci::doctor::readiness(&report.findings) == Readiness::Ready;
        cards(context, host, candidates, is_ready)?;
    }
    verdict(context.out, report)?;
    Ok(())
}

fn is_same(one: &Finding, next: &Finding) -> bool {
    let pass = one.status == Status::Pass && next.status == Status::Pass;
    pass && one.says == next.says && one.function == next.function
}

fn one(out: &mut dyn Write, finding: &Finding, codes: &str, verbose: bool) -> io::Result<()> {
    let (style, word) = match (finding.status, finding.decides) {
        (Status::Pass, _) => (PASS, "pass"),
        (Status::Fail, true) => (FAIL, "FAIL"),
        (Status::Fail, false) => (ADVICE, "note"),
        (Status::Unmeasured, true) => (UNMEASURED, "????"),
        (Status::Unmeasured, false) => (UNMEASURED, "?"),
    };
    writeln!(out, "  {style}{word:<4}{style:#}  {}  [{codes}]", finding.says)?;
    if finding.status == Status::Pass && !verbose {
        return Ok(());
    }
    for evidence in &finding.evidence {
        writeln!(out, "          {}: {}", evidence.file, evidence.value)?;
    }
    if let Some(remedy) = &finding.remedy {
        writeln!(out, "        {HINT}→{HINT:#} {remedy}")?;
    }
    if let Some(command) = finding.settle.as_ref().filter(|_| finding.status == Status::Unmeasured)
    {
        writeln!(out, "        {HINT}to measure it:{HINT:#} {command}")?;
    }
    Ok(())
}

fn cards(
    context: &mut Context<'_>,
    host: &Host,
    candidates: &[Candidate],
    is_ready: bool,
) -> Result<(), CommandError> {
    let names = Names::read(context.host, host);
    let out = &mut *context.out;
    let once = if is_ready { "" } else { ", once the host is ready" };
    writeln!(out, "{HEADING}Cards, the best to give away first{once}{HEADING:#}")?;
    if candidates.is_empty() {
        writeln!(out, "  none")?;
    }
    let short = host.functions().all(|function| function.address.domain() == 0);
    for candidate in candidates {
        let (style, word) = match candidate.readiness {
            Readiness::Ready => (PASS, "can"),
            Readiness::Unknown => (UNMEASURED, "????"),
            Readiness::NotReady => (FAIL, "not"),
        };
        let name = super::named(host, &names, candidate.card, short);
        writeln!(out, "  {style}{word:<4}{style:#}  {name}")?;
        for (code, says) in &candidate.against {
            writeln!(out, "          {says}  [{code}]")?;
        }
        if candidate.readiness == Readiness::Ready && !candidate.drawbacks.is_empty() {
            let codes: Vec<_> = candidate.drawbacks.iter().map(ToString::to_string).collect();
            writeln!(out, "          but see {}", codes.join(", "))?;
        }
    }
    writeln!(out)?;
    Ok(())
}

fn verdict(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let stopping = |status: Status| {
        report.findings.iter().find(move |one| one.decides && one.status == status)
    };
    match report.readiness {
        Readiness::Ready => writeln!(out, "{PASS}ready{PASS:#}")?,
        Readiness::NotReady => match stopping(Status::Fail) {
            Some(finding) => {
                writeln!(out, "{FAIL}not ready:{FAIL:#} {} [{}]", finding.says, finding.code)?;
                if let Some(remedy) = &finding.remedy {
                    writeln!(out, "{HINT}→{HINT:#} {remedy}")?;
                }
            }
            None => writeln!(out, "{FAIL}not ready:{FAIL:#} no card can be given away")?,
        },
        Readiness::Unknown => {
            let why = stopping(Status::Unmeasured);
            let why = why.map_or("what decides for the cards is unmeasured", |one| &one.says);
            writeln!(out, "{UNMEASURED}unknown:{UNMEASURED:#} {why}")?;
        }
    }
    if let Some(line) = &report.settle {
        writeln!(out, "{HINT}to measure it:{HINT:#} {line}")?;
    }
    Ok(())
}
