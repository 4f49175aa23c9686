//! `kireji backtrace`: what a log says of a panic.

mod encoding;
mod source;
mod text;

pub(crate) use text::write;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use guest::rundir;
use haiku::kdl::{Event, LogReader, Panic};
use haiku::symbols::{Remark, Symbols, gdb_arguments, symbolise};
use serde::Serialize;

use super::driver;
use super::image::{self, ImageArg};
use super::run::run_error;
use crate::context::quoted;
use crate::{CommandError, Context, Exit};

/// Panics that are kept of one log, with `--all`; a log of gigabytes may have no end of them.
const MOST: usize = 256;

/// Arguments of `backtrace`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The log: a file, `-` for standard input, a run's directory, or a run by its name or the
    /// beginning of it; without it, the last run
    log: Option<PathBuf>,
    /// A driver as it was linked, with its symbols; or the kernel's file (can be repeated)
    #[arg(long, value_name = "FILE")]
    driver: Vec<PathBuf>,
    /// Take the kernel's symbols from this image
    #[arg(long, value_name = "IMAGE")]
    image: Option<ImageArg>,
    /// Every panic of the log, rather than the first
    #[arg(long)]
    all: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Print the command that starts gdb with the drivers' symbols where the panic has them, for
    /// QEMU's stub at this place
    #[arg(
        long,
        value_name = "HOST:PORT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "localhost:1234",
        conflicts_with_all = ["json", "all"]
    )]
    gdb: Option<String>,
}

#[derive(Serialize)]
struct Document {
    panic: Option<Panic>,
    #[serde(skip_serializing_if = "Option::is_none")]
    panics: Option<Vec<Panic>>,
    /// What is to be said of the symbols that were used.
    remarks: Vec<String>,
}

/// Tells a panic.
///
/// # Errors
/// The log or the symbols cannot be read, or the output not written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    // A mistake in them is told before a log of gigabytes is read.
    let mut symbols = symbols(args, context)?;
    let (mut panics, count) = read(args, context)?;
    if let (Some(target), Some(panic)) = (&args.gdb, panics.first()) {
        return gdb(target, panic, args, &symbols, context);
    }
    if let Some(image) = &args.image {
        symbols.extend(image::packaged(image, &panics, &symbols, context)?);
    }
    let mut remarks = BTreeSet::new();
    for panic in &mut panics {
        remarks.extend(symbolise(panic, &symbols));
    }
    let exit = if panics.is_empty() { Exit::No } else { Exit::Done };
    if args.json {
        let remarks = remarks.iter().map(Remark::to_string).collect();
        let document = Document {
            panic: panics.first().cloned(),
            panics: args.all.then_some(panics),
            remarks,
        };
        super::print_json(context, document)?;
        return Ok(exit);
    }
    if panics.is_empty() {
        writeln!(context.err, "There is no panic in the log.")?;
    }
    for (index, panic) in panics.iter().enumerate() {
        if index > 0 {
            writeln!(context.out)?;
        }
        text::write(panic, context.out)?;
    }
    for remark in remarks {
        writeln!(context.err, "note: {}", image::shown(remark.to_string().as_bytes()))?;
    }
    let more = count - panics.len();
    if more > 0 {
        let hint = if args.all { "" } else { "; `--all` shows every one" };
        writeln!(context.err, "The log has {more} more{hint}.")?;
    }
    Ok(exit)
}

/// Prints a line for a shell. The symbols of the drivers come first, in their order.
fn gdb(
    target: &str,
    panic: &Panic,
    args: &Args,
    symbols: &[Symbols],
    context: &mut Context<'_>,
) -> Result<Exit, CommandError> {
    let mut files = Vec::new();
    for (path, symbols) in args.driver.iter().zip(symbols) {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        if let Err(remark) = symbols.place(panic) {
            writeln!(context.err, "note: {}", image::shown(remark.to_string().as_bytes()))?;
        }
        files.push((path, symbols));
    }
    let files: Vec<_> = files.iter().map(|(path, symbols)| (path.as_path(), *symbols)).collect();
    let arguments = gdb_arguments(target, panic, &files);
    let words: Vec<_> = arguments.iter().map(|word| quoted(word)).collect();
    writeln!(context.out, "gdb {}", words.join(" "))?;
    Ok(Exit::Done)
}

fn symbols(args: &Args, context: &mut Context<'_>) -> Result<Vec<Symbols>, CommandError> {
    let mut symbols = Vec::new();
    let mut add = |name: &str, shown: String, bytes: &[u8]| {
        let parsed = Symbols::parse(name, bytes)
            .map_err(|error| CommandError::new(Exit::Usage, format!("{shown}: {error}")));
        parsed.map(|parsed| symbols.push(parsed))
    };
    for path in &args.driver {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        add(&name, path.display().to_string(), &driver::read(path)?)?;
    }
    if let Some(image) = &args.image {
        let (package, bytes) = image::kernel(image, context)?;
        add("kernel_x86_64", package, &bytes)?;
    }
    Ok(symbols)
}

/// Reads the log. Returns the panics that are shown, and how many there are.
fn read(args: &Args, context: &mut Context<'_>) -> Result<(Vec<Panic>, usize), CommandError> {
    let most = if args.all { MOST } else { 1 };
    let (mut panics, mut count) = (Vec::new(), 0);
    let mut keep = |event: Event<'_>| {
        if let Event::Complete(panic) = event {
            count += 1;
            if panics.len() < most {
                panics.push(*panic);
            }
        }
    };
    let (log, path): (Box<dyn Read>, PathBuf) = open(args.log.as_deref(), context)?;
    let failed = |error| image::host_failed("read", &path, error);
    let mut log = encoding::plain(log).map_err(failed)?;
    let mut reader = LogReader::default();
    let mut chunk = vec![0; 256 << 10];
    let (mut is_begun, mut damage) = (false, None);
    while damage.is_none() {
        match log.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => {
                is_begun = true;
                reader.push(&chunk[..length], &mut keep);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What came before the end of a packed file that was cut is worth as much as ever.
            Err(error) if is_begun => damage = Some(error),
            Err(error) => return Err(failed(error)),
        }
    }
    reader.finish(&mut keep);
    if let Some(error) = damage {
        writeln!(context.err, "note: {} is read no further: {error}", path.display())?;
    }
    Ok((panics, count))
}

fn open(
    log: Option<&Path>,
    context: &Context<'_>,
) -> Result<(Box<dyn Read>, PathBuf), CommandError> {
    let path = match log {
        Some(path) if path.as_os_str() == "-" => {
            return Ok((Box::new(io::stdin()), "standard input".into()));
        }
        Some(path) if path.is_dir() => path.join(rundir::SERIAL_LOG),
        Some(path) if path.exists() || path.components().count() > 1 => path.to_owned(),
        other => {
            let base = context.vars.state.join("runs");
            let name = other.map(Path::to_string_lossy);
            let run = rundir::find(context.host, &base, name.as_deref());
            run.map_err(|error| match other {
                Some(_) => CommandError::from_source(Exit::Usage, error)
                    .hint("there is no file of this name either; `kireji runs` lists the runs"),
                None => run_error(error),
            })?
            .serial_log()
        }
    };
    match std::fs::File::open(&path) {
        Ok(file) => Ok((Box::new(file), path)),
        Err(error) => Err(image::host_failed("open", &path, error)),
    }
}
