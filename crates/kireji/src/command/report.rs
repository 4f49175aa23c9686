//! `kireji report`: a run in one file, to go with the report of a bug.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use guest::launch::as_user;
use pci::scrub::Scrub;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::image::host_failed;
use super::run::denied;
use super::runs;
use super::snapshot;
use crate::{CommandError, Context, Exit};

/// What is kept of each file at most, in bytes from its end.
const LARGEST: u64 = 32 << 20;
/// The files of a run that say what happened (`guest::rundir`), and those that were fetched.
const TEXTS: [&str; 7] =
    ["meta.json", "argv.json", "end.json", "events.jsonl", "qemu.log", "serial.log", "syslog"];

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run, by its name or the beginning of it; without it, the last one
    run: Option<String>,
    /// The file to write, which must not be there yet; `kireji-RUN.zip` if nothing is said
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Packs what a run left, without what identifies the host and its owner.
///
/// # Errors
/// There is no such run, or a file cannot be read or written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let run = runs::find(args.run.as_deref(), context)?;
    let scrub = scrub(context)?;
    let default = || PathBuf::from(format!("kireji-{}.zip", run.id));
    let output = args.output.clone().unwrap_or_else(default);
    let failed = |source| host_failed("write", &output, source);
    let user = context.vars.user.as_ref();
    let create = || File::options().write(true).create_new(true).open(&output);
    let file = as_user(user, create).map_err(|error| denied(error, user))?.map_err(failed)?;
    let packed = pack(&run.path, &scrub, file);
    let count = packed.inspect_err(|_| {
        // The error that matters is the one being returned.
        drop(std::fs::remove_file(&output));
    })?;
    writeln!(
        context.err,
        "{count} files in {}, without serial numbers, addresses and names",
        output.display()
    )?;
    writeln!(context.err, "Look into it before you give it away: the guest's words are its own.")?;
    Ok(Exit::Done)
}

fn scrub(context: &Context<'_>) -> Result<Scrub, CommandError> {
    let sysroot = context.host.recording()?;
    let record = snapshot::look(&sysroot)?;
    Ok(Scrub::new(&record, &snapshot::names_of_people(context.host), &snapshot::key()?))
}

fn pack(directory: &Path, scrub: &Scrub, file: File) -> Result<usize, CommandError> {
    let failed = |error: zip::result::ZipError| CommandError::from_source(Exit::HostCannot, error);
    let mut zip = ZipWriter::new(file);
    let mut count = 0;
    for name in TEXTS {
        let path = directory.join(name);
        let Some(bytes) = end_of(&path)? else { continue };
        // Whatever it is called, it is text that anything may be in.
        let clean = scrub.file(Path::new("/run.log"), &bytes);
        zip.start_file(name, SimpleFileOptions::default()).map_err(failed)?;
        zip.write_all(&clean)?;
        count += 1;
    }
    let mut file = zip.finish().map_err(failed)?;
    file.flush()?;
    Ok(count)
}

/// The end of a file, if it is there.
fn end_of(path: &Path) -> Result<Option<Vec<u8>>, CommandError> {
    let failed = |source| host_failed("read", path, source);
    let mut file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let length = file.metadata().map_err(failed)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LARGEST))).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}
