//! `--haiku-tree` and `--jam`: drivers that a checkout of Haiku's sources builds.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use guest::launch::as_user;
use haiku::tree::{Tree, TreeError};
use host::Program;

use crate::signals::Signals;
use crate::{CommandError, Context, Exit, user};

use super::checks::denied;
use super::{Args, build};

/// How jam begins what it says of a target that no Jamfile has (make1.c of jam).
const UNKNOWN: &str = "don't know how to make ";

/// What was built.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// The add-ons, in the order of their targets.
    pub(super) drivers: Vec<PathBuf>,
    /// The kernels that the checkout has.
    pub(super) kernels: Vec<PathBuf>,
}

/// Builds the targets, as the user whom the run belongs to, and finds what was made; for a dry run,
/// what was made before.
///
/// # Errors
/// There is no jam, the checkout is not configured, or a target is no add-on of the kernel.
pub(super) fn build(
    args: &Args,
    signals: &Signals,
    context: &mut Context<'_>,
) -> Result<Made, CommandError> {
    let Some(directory) = &args.goal.haiku_tree else { return Ok(Made::default()) };
    let user = context.vars.user.clone();
    let tree = as_user(user.as_ref(), || find(directory));
    let tree = tree.map_err(|error| denied(error, user.as_ref()))?.map_err(tree_error)?;
    if !args.dry_run {
        jam(&tree, args, signals, context)?;
    }
    let look = || {
        let drivers = args.goal.jam.iter().map(|target| tree.add_on(target)).collect();
        Ok(Made { drivers: Result::from_iter::<Vec<_>>(drivers)?, kernels: tree.kernels()? })
    };
    let made = as_user(user.as_ref(), look).map_err(|error| denied(error, user.as_ref()))?;
    let made = made.map_err(tree_error)?;
    for driver in &made.drivers {
        writeln!(context.err, "built {}", driver.display())?;
    }
    Ok(made)
}

/// The directories whose files make a difference to add-ons of the kernel.
pub(super) fn sources(args: &Args) -> Vec<PathBuf> {
    // What is wrong with the tree is told by the build.
    let tree = args.goal.haiku_tree.as_deref().and_then(|directory| find(directory).ok());
    let below = |tree: Tree| ["src/add-ons/kernel", "headers"].map(|path| tree.sources.join(path));
    tree.into_iter().flat_map(below).filter(|directory| directory.is_dir()).collect()
}

fn find(directory: &Path) -> Result<Tree, TreeError> {
    let variable = std::env::var_os("HAIKU_OUTPUT_DIR").map(PathBuf::from);
    Tree::find(directory, variable.as_deref())
}

fn jam(
    tree: &Tree,
    args: &Args,
    signals: &Signals,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let targets = &args.goal.jam;
    let user = context.vars.user.as_ref();
    let of_user = user.and_then(|user| user::path_of_sudo(context.host, user.uid));
    let path = of_user.map(OsString::from).or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    if !std::env::split_paths(&path).any(|directory| directory.join("jam").is_file()) {
        return Err(CommandError::new(Exit::HostCannot, "jam is not installed")
            .reason("no directory of PATH has it")
            .hint("Haiku is built with the jam of its own: see `buildtools/jam`"));
    }
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let program = Program::new("jam").arg("-q").arg(format!("-j{jobs}")).args(targets);
    let program = program.directory(&tree.directory);
    let mut said = Vec::new();
    build::execute(program, args.quiet, &mut said, signals, context).map_err(|error| {
        let unknown = |line: &String| {
            let (_, name) = line.split_once(UNKNOWN)?;
            Some(name.split_whitespace().next()?.to_owned())
        };
        match said.iter().find_map(unknown) {
            Some(name) if targets.contains(&name) => {
                let what = format!("{} has no target `{name}`", tree.sources.display());
                CommandError::new(Exit::Usage, what)
                    .hint("a `KernelAddon` rule of a Jamfile names one")
            }
            _ => error,
        }
    })
}

fn tree_error(error: TreeError) -> CommandError {
    let hint = match &error {
        TreeError::NotTree(_) => "name the directory that `configure` of Haiku is in".to_owned(),
        TreeError::NotConfigured(_) => "run `./configure` in it first".to_owned(),
        TreeError::Several { outputs, .. } => {
            let outputs: Vec<_> = outputs.iter().map(|path| path.display().to_string()).collect();
            format!("name one of {}", outputs.join(", "))
        }
        TreeError::Read { .. } => "check the directory and its permissions".to_owned(),
        TreeError::NotBuilt(_) => {
            "jam had nothing to do for it, or it is the name of more than one file: name an add-on \
             as its `KernelAddon` rule does"
                .to_owned()
        }
        TreeError::NotAddOn { .. } => "`--put` puts other files into the guest's disk".to_owned(),
    };
    CommandError::from_source(Exit::Usage, error).hint(hint)
}
