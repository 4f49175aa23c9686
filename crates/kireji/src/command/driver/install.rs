//! `kireji driver install` and `remove`.

use std::path::PathBuf;

use haiku::install::{Change, How, InstallError, Plan, Target};

use super::super::image::{self, ImageArg, Writing};
use super::Files;
use crate::{CommandError, Context, Exit};

/// Arguments of `driver install`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The files: a driver, and its other halves
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The image, which is changed; `IMAGE:NUMBER` for the volume of a partition (can be repeated)
    #[arg(long, value_name = "IMAGE", required = true)]
    image: Vec<ImageArg>,
    /// Where a driver goes: for a legacy one below `/dev`, else below `drivers`
    #[arg(long = "as", value_name = "CATEGORY/NAME")]
    place: Option<String>,
    /// Let the boot loader load it, as the drivers of disks and buses
    #[arg(long)]
    boot: bool,
    /// Put it there even if the kernel would not load it
    #[arg(long)]
    force: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Arguments of `driver remove`.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// The name of the driver's file in the image
    name: String,
    /// The image, which is changed; `IMAGE:NUMBER` for the volume of a partition
    #[arg(long, value_name = "IMAGE")]
    image: ImageArg,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Document {
    images: Vec<Changed>,
}

#[derive(serde::Serialize)]
struct Changed {
    image: PathBuf,
    changes: Vec<Change>,
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let files = Files::read(&args.files)?;
    let how = How { place: args.place.as_deref(), boot: args.boot, force: args.force };
    let mut known = Vec::new();
    for image in &args.image {
        // What is open twice would be written twice, each without knowing of the other.
        let path = image.path.canonicalize().unwrap_or_else(|_| image.path.clone());
        if known.contains(&path) {
            let text = format!("{} is given twice", image.path.display());
            return Err(CommandError::new(Exit::Usage, text));
        }
        known.push(path);
    }
    // No image is changed unless the driver fits them all.
    let mut plans = Vec::new();
    for image in &args.image {
        let mut volume = image::write(&Writing { image: image.clone() }, context)?;
        let target =
            Target::read(&mut volume).map_err(|error| image::packages_failed(error, image))?;
        if target.kernel.is_none() {
            writeln!(
                context.err,
                "No kernel was found in {}; symbols are not checked.",
                image.path.display()
            )?;
        }
        let plan =
            Plan::new(&files.list(), how, &target).map_err(|error| files.not_planned(error))?;
        for note in &plan.notes {
            writeln!(context.err, "note: {note}")?;
        }
        plans.push((image, volume, plan));
    }
    let mut images = Vec::new();
    for (image, mut volume, plan) in plans {
        let changes = haiku::install::install(&mut volume, &plan).map_err(not_installed)?;
        if haiku::install::serial_is_off(&mut volume).map_err(not_installed)? {
            writeln!(
                context.err,
                "note: `serial_debug_output` is off in the kernel's settings of {}, and left so: a \
                 panic is not told on the serial line",
                image.path.display()
            )?;
        }
        images.push(Changed { image: image.path.clone(), changes });
    }
    tell(images, args.json, context)
}

pub(super) fn remove(args: &RemoveArgs, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let mut volume = image::write(&Writing { image: args.image.clone() }, context)?;
    let remove = |volume: &mut _, name: &str| haiku::install::remove(volume, name);
    let changes = match (remove(&mut volume, &args.name), args.name.strip_suffix(".so")) {
        // A file is installed under its name without this.
        (Err(InstallError::NotInstalled(_)), Some(name)) => remove(&mut volume, name),
        (removed, _) => removed,
    };
    let changes = changes.map_err(not_installed)?;
    tell(vec![Changed { image: args.image.path.clone(), changes }], args.json, context)
}

fn tell(images: Vec<Changed>, json: bool, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    if json {
        super::super::print_json(context, Document { images })?;
        return Ok(Exit::Done);
    }
    let several = images.len() > 1;
    for Changed { image, changes } in images {
        if several {
            writeln!(context.err, "{}:", image.display())?;
        }
        for change in changes {
            writeln!(context.err, "{}", image::shown_lines(&change.to_string()))?;
        }
    }
    Ok(Exit::Done)
}

/// An error of an install or removal, as the user sees it.
pub(crate) fn not_installed(error: InstallError) -> CommandError {
    match error {
        InstallError::Volume(error) => image::failed(error),
        InstallError::NotInstalled(_) => CommandError::new(Exit::No, error.to_string())
            .hint("`kireji image rm` removes any file"),
        InstallError::Settings { .. } | InstallError::NoSettings(_) => {
            CommandError::new(Exit::No, error.to_string())
                .hint("`kireji image get` and `put` let it be mended")
        }
        error => CommandError::new(Exit::No, error.to_string()),
    }
}
