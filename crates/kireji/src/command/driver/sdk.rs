//! `kireji driver sdk`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use haiku::hpkg::Package;
use haiku::packages;
use haiku::project::{Compiler, Sdk, SdkError};

use super::super::image::{self, ImageArg, host_failed};
use super::output;
use crate::command::owner::Owner;
use crate::{CommandError, Context, Exit};

/// Packages of an image that there may be something to build against in, the best first.
const PACKAGES: [&str; 2] = ["haiku_devel", "haiku"];

/// Arguments of `driver sdk`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A package (`haiku_devel`), or an image that has it
    source: ImageArg,
    /// Where to put it
    #[arg(long, value_name = "DIRECTORY", default_value = "sdk")]
    output: PathBuf,
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let path = &args.source.path;
    let sdk = match package(path)? {
        Some(file) => {
            let failed = |error: SdkError| {
                CommandError::from_source(Exit::Image, error)
                    .reason(format!("the package is {}", path.display()))
            };
            let mut package = Package::open(file).map_err(|error| failed(error.into()))?;
            Sdk::read(&mut package).map_err(failed)?
        }
        None => of_image(&args.source, context)?,
    };
    let owner = Owner::of(&context.vars);
    output::directory(&args.output, owner)?;
    for (path, bytes) in &sdk.files {
        let path = args.output.join(path);
        if let Some(above) = path.parent() {
            owner.make_directories(above).map_err(|error| host_failed("make", above, error))?;
        }
        output::file(&path, bytes, owner)?;
    }
    let directory = args.output.display();
    writeln!(context.err, "{directory} has {} files of {}.", sdk.files.len(), sdk.package)?;
    for (there, what) in
        [(sdk.has_headers(), "headers"), (sdk.has_kernel(), "kernel to link against")]
    {
        if !there {
            writeln!(
                context.err,
                "It has no {what}: the package `haiku_devel` of the revision has."
            )?;
        }
    }
    let directory = directory.to_string();
    for (name, compiler) in [("gcc", Compiler::Gcc), ("clang", Compiler::Clang)] {
        writeln!(context.out, "{name} {} -c NAME.c", compiler.compile(&directory))?;
        writeln!(context.out, "{name} {} -o NAME", compiler.link(&directory, "NAME"))?;
    }
    Ok(Exit::Done)
}

/// Opens a file if it is a package.
fn package(path: &Path) -> Result<Option<File>, CommandError> {
    let failed = |error| host_failed("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut begin = Vec::new();
    (&mut file).take(4).read_to_end(&mut begin).map_err(failed)?;
    Ok((begin == b"hpkg").then_some(file))
}

fn of_image(image: &ImageArg, context: &mut Context<'_>) -> Result<Sdk, CommandError> {
    let mut volume = image::read_volume(image, context)?;
    let failed = |error| image::packages_failed(error, image);
    let all = packages::find(&mut volume).map_err(failed)?;
    let found = PACKAGES.iter().find_map(|name| packages::named(&all, name));
    let Some(found) = found else {
        let text = format!("{} has no package `haiku_devel`", image.path.display());
        return Err(CommandError::new(Exit::Image, text)
            .hint("give the package of the revision instead; Haiku's repository has it"));
    };
    let mut package = found.open(&mut volume).map_err(failed)?;
    Sdk::read(&mut package).map_err(|error| {
        CommandError::from_source(Exit::Image, error)
            .reason(format!("the package is {}", found.name))
    })
}
