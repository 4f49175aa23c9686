//! `kireji image check`.

use bfs::{Finding, Options, Report, check, repair};
use serde::Serialize;

use super::{ImageArg, failed, open};
use crate::{CommandError, Context, Exit};

/// Arguments of `image check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image file; `IMAGE:NUMBER` for the volume of a partition, counted from 1
    image: ImageArg,
    /// Carry out the log, and repair the bitmap and the indices
    #[arg(long)]
    repair: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    clean: bool,
    findings: Vec<Row>,
    notes: Vec<Row>,
    omitted: u64,
    files: u64,
    directories: u64,
    links: u64,
    attributes: u64,
    indices: u64,
    used_blocks: u64,
    missing_blocks: u64,
    lost_blocks: u64,
    shared_blocks: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<u64>,
}

#[derive(Serialize)]
struct Row {
    class: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    block: u64,
    field: &'static str,
    problem: String,
}

impl From<&Finding> for Row {
    fn from(finding: &Finding) -> Self {
        let damage = &finding.damage;
        Self {
            class: finding.class.to_string(),
            inode: damage.inode,
            block: damage.block,
            field: damage.field,
            problem: damage.problem.clone(),
        }
    }
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let (report, repaired) = if args.repair {
        let mut window = open::exclusive(&args.image)?;
        let done = repair(&mut window, &Options::default()).map_err(failed)?;
        let fixed = count(&done.before).saturating_sub(count(&done.after));
        (done.after, Some(fixed))
    } else {
        let mut window = args.image.volume(args.image.disk()?)?;
        (check(&mut window).map_err(failed)?, None)
    };
    let exit = if report.is_clean() { Exit::Done } else { Exit::No };
    if args.json {
        super::super::print_json(context, document(&report, repaired))?;
        return Ok(exit);
    }
    for finding in &report.findings {
        writeln!(context.out, "{}", super::shown(finding.to_string().as_bytes()))?;
    }
    if report.omitted > 0 {
        writeln!(context.out, "and {} more", report.omitted)?;
    }
    for note in &report.notes {
        let text = super::shown(note.damage.problem.as_bytes());
        writeln!(context.err, "note: {text}, as Haiku itself leaves it")?;
    }
    writeln!(
        context.err,
        "{} files, {} directories, {} links, {} attributes, {} indices; {}",
        report.files,
        report.directories,
        report.symlinks,
        report.small_attributes + report.large_attributes,
        report.indices,
        match (report.is_clean(), repaired) {
            (true, None | Some(0)) => "no damage".to_owned(),
            (true, Some(count)) => format!("{count} findings repaired"),
            (false, None) => "damaged".to_owned(),
            (false, Some(_)) =>
                "not repaired: the damage goes beyond bitmap and indices".to_owned(),
        }
    )?;
    Ok(exit)
}

fn count(report: &Report) -> u64 {
    report.findings.len() as u64 + report.omitted
}

fn document(report: &Report, repaired: Option<u64>) -> Document {
    Document {
        clean: report.is_clean(),
        findings: report.findings.iter().map(Row::from).collect(),
        notes: report.notes.iter().map(Row::from).collect(),
        omitted: report.omitted,
        files: report.files,
        directories: report.directories,
        links: report.symlinks,
        attributes: report.small_attributes + report.large_attributes,
        indices: report.indices,
        used_blocks: report.used_blocks,
        missing_blocks: report.missing_blocks + report.unreserved_blocks,
        lost_blocks: report.lost_blocks,
        shared_blocks: report.shared_blocks,
        repaired,
    }
}
