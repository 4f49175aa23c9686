//! `kireji driver pack`.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use haiku::hpkg::{About, write};
use haiku::install::{How, Plan, Target};

use super::super::image::{self, ImageArg};
use super::{Files, output};
use crate::command::owner::Owner;
use crate::{CommandError, Context, Exit};

/// Arguments of `driver pack`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The files: a driver, and its other halves
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The package's name: letters, digits and `_` (default: the first file's)
    #[arg(long)]
    name: Option<String>,
    /// The package's version
    #[arg(long, default_value = "0.1")]
    version: String,
    /// How often this version was packaged
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    revision: u64,
    /// What it is, in one line (default: that it is a driver)
    #[arg(long)]
    summary: Option<String>,
    /// Who made it: `NAME <ADDRESS>`
    #[arg(long, default_value = "nobody <nobody@localhost>")]
    packager: String,
    /// The licence, by a name that Haiku has
    #[arg(long, default_value = "MIT")]
    license: String,
    /// Look into the kernel of this image
    #[arg(long, value_name = "IMAGE")]
    image: Option<ImageArg>,
    /// Where a driver goes: for a legacy one below `/dev`, else below `drivers`
    #[arg(long = "as", value_name = "CATEGORY/NAME")]
    place: Option<String>,
    /// Let the boot loader load it, as the drivers of disks and buses
    #[arg(long)]
    boot: bool,
    /// Pack it even if the kernel would not load it
    #[arg(long)]
    force: bool,
    /// Where to put the package (default: the current directory)
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let files = Files::read(&args.files)?;
    let target = match &args.image {
        Some(image) => image::target(image, context)?,
        None => Target::default(),
    };
    let how = How { place: args.place.as_deref(), boot: args.boot, force: args.force };
    let plan = Plan::new(&files.list(), how, &target).map_err(|error| files.not_planned(error))?;
    for note in &plan.notes {
        writeln!(context.err, "note: {note}")?;
    }
    let name = args.name.clone().unwrap_or_else(|| files.first_name().replace('-', "_"));
    let who = args.packager.split('<').next().unwrap_or_default().trim();
    let about = About {
        summary: args.summary.clone().unwrap_or_else(|| format!("The driver {name}")),
        name,
        version: args.version.clone(),
        revision: args.revision,
        architecture: "x86_64".to_owned(),
        vendor: who.to_owned(),
        packager: args.packager.clone(),
        copyright: who.to_owned(),
        license: args.license.clone(),
        requires: vec!["haiku".to_owned()],
    };
    // The newest of the files tells the time: the same files give the same package.
    let times = args.files.iter().filter_map(|path| path.metadata().ok()?.modified().ok());
    let newest = times.max().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified = newest.map_or(0, |since| since.as_secs());
    let bytes = write(&about, &plan.package(), modified)
        .map_err(|error| CommandError::new(Exit::Usage, error.to_string()))?;
    let path = args.output.clone().unwrap_or_default().join(about.file_name());
    let owner = Owner::of(&context.vars);
    output::file(&path, &bytes, owner)?;
    for (file, place) in plan.add_ons() {
        let place = place.trim_start_matches("home/config/non-packaged/");
        writeln!(context.err, "{file} -> {place}")?;
    }
    writeln!(context.out, "{}", path.display())?;
    Ok(Exit::Done)
}
