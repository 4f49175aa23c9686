//! A prepared base: what an image is after its first boot, for runs to start from.
//!
//! It is an overlay in the user's cache, called by the image's path, with a description of the state
//! that the image had. It gets its name only once it is whole, so nothing half-made is ever taken.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bfs::{Access, Volume, Window};
use clap::Parser;
use guest::guests::{Goal, Haiku, Storage};
use guest::launch::as_user;
use guest::machine::DiskBus;
use guest::overlay;
use haiku::first_boot::{ASKS, DONE, FILES, LOCALE};
use haiku::image::{Disk, Image};
use sha2::{Digest, Sha256};

use crate::command::image;
use crate::signals::Signals;
use crate::{CommandError, Context, Exit};

use super::checks::denied;
use super::project::Line;
use super::{Accel, Args, absolute, files, once, prepare};

/// How long a first boot may take where nobody says, in seconds: a translated processor is slow.
const LIMIT: u64 = 1800;

/// Arguments of `image prepare`.
#[derive(Debug, clap::Args)]
pub struct PrepareArgs {
    /// The image, which is not written
    #[arg(value_parser = absolute)]
    image: PathBuf,
    /// Do it again, though it was done
    #[arg(long)]
    force: bool,
    /// Remove what was made before
    #[arg(long, conflicts_with = "force")]
    remove: bool,
    /// How long the first boot may take
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT, value_parser = clap::value_parser!(u64).range(1..=super::YEAR))]
    timeout: u64,
    /// Memory in MiB
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// Number of processors
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<u16>,
    /// What runs the guest's processors; `auto` proves whether KVM works
    #[arg(long, default_value = "auto", value_name = "WHICH")]
    accel: Accel,
    /// Do not show the serial line
    #[arg(long)]
    quiet: bool,
    /// The QEMU to use
    #[arg(long, value_name = "FILE")]
    qemu: Option<PathBuf>,
    /// Take what QEMU can do from this file rather than ask it
    #[arg(long, value_name = "FILE", hide = true)]
    qemu_caps: Option<PathBuf>,
}

/// A base that is being made.
#[derive(Clone, Debug)]
pub(super) struct Preparing {
    directory: PathBuf,
    /// The overlay's name until it is whole.
    name: String,
}

impl Preparing {
    pub(super) fn storage(&self) -> Storage {
        Storage::Lasting { name: self.name.clone(), directory: self.directory.clone() }
    }
}

fn directory(context: &Context<'_>) -> PathBuf {
    context.vars.cache.join("prepared")
}

/// The name of the base of an image.
fn name(image: &Path) -> String {
    let sum = Sha256::digest(image.as_os_str().as_encoded_bytes());
    sum.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether there is a base of an image, made of the state that it has now.
pub(in crate::command) fn is_there(path: &Path, image: &Image, context: &Context<'_>) -> bool {
    let Ok(path) = std::path::absolute(path) else { return false };
    let haiku = Haiku {
        path,
        image: *image,
        base: None,
        storage: Storage::ThrowAway,
        bus: DiskBus::Ahci,
        login: false,
        goal: Goal::default(),
    };
    overlay::is_made_for(&directory(context), &name(&haiku.path), &haiku.source())
}

/// Returns the base that a run starts from, and says so.
pub(super) fn of(
    args: &Args,
    haiku: &Haiku,
    context: &mut Context<'_>,
) -> Result<Option<PathBuf>, CommandError> {
    let (directory, name) = (directory(context), name(&haiku.path));
    let is_wanted = haiku.storage == Storage::ThrowAway && !args.no_prepared;
    if !is_wanted || !overlay::is_made_for(&directory, &name, &haiku.source()) {
        return Ok(None);
    }
    writeln!(context.err, "note: the image was prepared, and the run starts from there")?;
    Ok(Some(overlay::path(&directory, &name)))
}

/// Makes the base of an image, or removes it.
///
/// # Errors
/// The image cannot be read, its first boot does not come to its end, or the base not be written.
pub fn prepare(args: &PrepareArgs, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let user = context.vars.user.clone();
    let (directory, name) = (directory(context), name(&args.image));
    if args.remove {
        let removed = as_user(user.as_ref(), || overlay::remove(&directory, &name));
        let removed = removed.map_err(|error| denied(error, user.as_ref()))?;
        let is_gone = removed.map_err(|error| prepare::error(error.into()))?;
        let said = if is_gone { "what was prepared is removed" } else { "nothing was prepared" };
        writeln!(context.err, "{said}")?;
        return Ok(Exit::Done);
    }
    let image = prepare::read_image(&args.image, user.as_ref())?;
    if !args.force && is_there(&args.image, &image, context) {
        writeln!(context.err, "the image was prepared before; `--force` does it again")?;
        return Ok(Exit::Done);
    }
    context.vars.check_home(&directory)?;
    let make = || {
        std::fs::create_dir_all(&directory)
            .map_err(|error| image::host_failed("create", &directory, error))?;
        sweep(&directory);
        Ok::<_, CommandError>(())
    };
    as_user(user.as_ref(), make).map_err(|error| denied(error, user.as_ref()))??;
    let part = format!("{name}{PART}{}", std::process::id());
    let line = Line::try_parse_from(words(args)).map_err(|error| {
        CommandError::new(Exit::Internal, "the options of the run are wrong")
            .reason(error.to_string())
    })?;
    let preparing = Preparing { directory: directory.clone(), name: part.clone() };
    let run = Args { preparing: Some(preparing), ..line.args };
    let signals = Signals::catch()?;
    let ended = once(&run, context, &signals, &|build| build()).and_then(|done| match done.exit {
        Exit::Done if done.shut_down => {
            let finish = || finish(&directory, &part, &name);
            as_user(user.as_ref(), finish).map_err(|error| denied(error, user.as_ref()))??;
            writeln!(context.err, "prepared; runs of the image start from there")?;
            Ok(Exit::Done)
        }
        Exit::Done => Err(CommandError::new(Exit::Hung, "the guest did not shut down")
            .reason("it neither did so by itself nor when its power button was pressed")
            .hint("`kireji log` shows what it said")),
        other => Ok(other),
    });
    if !matches!(ended, Ok(Exit::Done)) {
        // Nothing takes it; that it is in the way is all that is wrong with it.
        drop(as_user(user.as_ref(), || overlay::remove(&directory, &part)));
        writeln!(context.err, "The image is not prepared.")?;
    }
    ended
}

/// What comes between the name of a base and the process that makes it.
const PART: &str = ".part-";

/// Removes what was left half-made.
fn sweep(directory: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    for entry in entries {
        let file = entry.file_name();
        let Some(stem) = file.to_str().and_then(|name| name.strip_suffix(".qcow2")) else {
            continue;
        };
        if stem.contains(PART) && overlay::check_free(&entry.path()).is_ok() {
            // What cannot be removed is tried again the next time.
            drop(overlay::remove(directory, stem));
        }
    }
}

/// The command line of the run.
fn words(args: &PrepareArgs) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["--display=none", "--net=none", "--idle-timeout=600"]
        .into_iter()
        .map(OsString::from)
        .collect();
    words.push(format!("--until={DONE}").into());
    words.push(format!("--fail={ASKS}").into());
    words.push(format!("--timeout={}", args.timeout).into());
    words.extend(args.memory.map(|memory| format!("--memory={memory}").into()));
    words.extend(args.cpus.map(|cpus| format!("--cpus={cpus}").into()));
    words.push(args.accel.word().into());
    words.extend(args.quiet.then(|| "--quiet".into()));
    let files = [("--qemu", &args.qemu), ("--qemu-caps", &args.qemu_caps)];
    for (option, file) in files {
        if let Some(file) = file {
            words.extend([option.into(), file.clone().into_os_string()]);
        }
    }
    words.extend(["--".into(), args.image.clone().into_os_string()]);
    words
}

type OfDisk = Volume<Window<Disk>>;

/// Puts what answers the first boot into the volume.
pub(super) fn put(volume: &mut OfDisk) -> Result<(), CommandError> {
    if volume.lookup(b"system/packages").is_err() {
        return Err(CommandError::new(Exit::Image, "the image has no Haiku on it"));
    }
    if volume.lookup(LOCALE.as_bytes()).is_err() {
        files::put_file(volume, LOCALE, 0o644, &[])?;
    }
    for (path, content) in FILES {
        files::put_file(volume, path, 0o755, content.as_bytes())?;
    }
    Ok(())
}

/// Takes out what was put in, if the guest unmounted the volume, and gives the base its name.
fn finish(directory: &Path, part: &str, name: &str) -> Result<(), CommandError> {
    let disk = overlay::path(directory, part);
    {
        let volume = files::open(&disk, Access::ReadAsIs, true)?;
        if !volume.info().clean {
            let message = "the guest shut down without unmounting its volume";
            return Err(CommandError::new(Exit::Image, message));
        }
    }
    let mut volume = files::open(&disk, Access::WriteClean, true)?;
    for (path, _) in FILES {
        let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = volume.lookup(above.as_bytes()).map_err(image::failed)?;
        volume.remove(parent, last.as_bytes()).map_err(image::failed)?;
    }
    volume.sync().map_err(image::failed)?;
    drop(volume);
    overlay::rename(directory, part, name).map_err(|error| prepare::error(error.into()))
}
