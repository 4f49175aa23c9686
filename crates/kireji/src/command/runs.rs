//! `kireji runs` and `log`: what runs left behind.

use std::io::Read;

use guest::rundir::{self, Run, State};
use serde::Serialize;

use crate::shown::Filter;
use crate::streams::Data;
use crate::table::Table;
use crate::{CommandError, Context, Exit};

use super::run::run_error;

/// Arguments of `runs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Arguments of `log`.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// The run, by its name or the beginning of it; without it, the last one
    run: Option<String>,
    /// Show what QEMU said rather than the guest's serial line
    #[arg(long)]
    qemu: bool,
    /// Every byte as it came, with sequences that a terminal obeys
    #[arg(long)]
    raw: bool,
}

#[derive(Serialize)]
struct Document {
    runs: Vec<Run>,
}

/// Lists the runs.
///
/// # Errors
/// The runs cannot be read, or the output not written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let base = context.vars.state.join("runs");
    let runs = rundir::list(context.host, &base).map_err(run_error)?;
    if args.json {
        super::print_json(context, Document { runs })?;
        return Ok(Exit::Done);
    }
    if runs.is_empty() {
        writeln!(context.err, "There was no run yet.")?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["RUN", "GUEST", "DEVICES", "HOW IT ENDED"]);
    for run in &runs {
        let meta = run.meta.as_ref();
        table.row([
            run.id.clone(),
            meta.map_or("?", |meta| &meta.guest).to_owned(),
            meta.map_or_else(String::new, |meta| meta.devices.join(" ")),
            in_words(&run.state),
        ]);
    }
    table.write(context.out, context.width)?;
    Ok(Exit::Done)
}

fn in_words(state: &State) -> String {
    match state {
        State::Running => "it goes on".to_owned(),
        State::Finished(end) => end.outcome.clone(),
        State::Abandoned => "kireji was killed".to_owned(),
        State::HostWentDown => "host went down during this run".to_owned(),
        State::Damaged => "what it left is damaged".to_owned(),
    }
}

/// Finds a run: the one that is named, or the last.
///
/// # Errors
/// There is none, or the runs cannot be read.
pub(super) fn find(name: Option<&str>, context: &Context<'_>) -> Result<Run, CommandError> {
    let base = context.vars.state.join("runs");
    rundir::find(context.host, &base, name).map_err(|error| match error {
        rundir::RunError::Unknown { .. } => {
            CommandError::from_source(Exit::Usage, error).hint("`kireji runs` lists them")
        }
        error => run_error(error),
    })
}

/// Shows the log of a run.
///
/// # Errors
/// There is no such run, its log cannot be read, or the output not written.
pub fn log(args: &LogArgs, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let run = find(args.run.as_deref(), context)?;
    let path = if args.qemu { run.qemu_log() } else { run.serial_log() };
    let unreadable =
        |source| run_error(rundir::RunError::Io { verb: "read", path: path.clone(), source });
    let mut file = std::fs::File::open(&path).map_err(unreadable)?;
    if args.raw {
        // Straight to standard output, for what is between takes sequences out.
        std::io::copy(&mut file, &mut Data::new(std::io::stdout()))?;
        return Ok(Exit::Done);
    }
    let mut filter = Filter::default();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let count = file.read(&mut chunk).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        context.out.write_all(&filter.feed(&chunk[..count]))?;
    }
    context.out.write_all(filter.reset())?;
    Ok(Exit::Done)
}
