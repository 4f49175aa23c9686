//! `kireji image`: what is in a Haiku image, and changing it without booting it.

mod attributes;
mod change;
mod check;
mod convert;
mod copy;
mod fetch;
mod info;
mod list;
mod make;
mod open;
mod paths;
mod progress;
mod target;

use std::io::Write;
use std::path::PathBuf;

use super::run::base;
use crate::{CommandError, Context, Exit};

pub(crate) use change::directory;
pub(crate) use open::{ImageArg, not_an_image, write};
pub(crate) use target::{kernel, of_packages, packaged, packages_failed, read_volume, target};

/// Arguments of `image`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do with the image
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say what an image is: partitions, what boots it, the volume and its free space
    Info(info::Args),
    /// List files of the volume
    Ls(list::Args),
    /// Write the content of files to standard output
    Cat(copy::CatArgs),
    /// Copy files out of the volume
    Get(copy::Args),
    /// Copy files into the volume
    Put(copy::PutArgs),
    /// Remove files of the volume
    Rm(change::RemoveArgs),
    /// Make directories in the volume
    Mkdir(change::MkdirArgs),
    /// Make a symbolic link in the volume
    Ln(change::LinkArgs),
    /// Show, set or remove attributes of a file
    Attr(attributes::Args),
    /// Look for damage
    Check(check::Args),
    /// Make an empty volume
    Mkfs(make::Args),
    /// Copy a disk, or its volume, into an image of another format
    Convert(convert::Args),
    /// Download a published image of Haiku, and check it
    Fetch(fetch::Args),
    /// Boot an image once, and keep what that makes of it for runs to start from
    #[command(after_long_help = crate::help::PREPARE)]
    Prepare(base::PrepareArgs),
}

/// The volume to read.
#[derive(Debug, clap::Args)]
struct Reading {
    /// The image file; `IMAGE:NUMBER` for the volume of a partition, counted from 1
    image: ImageArg,
    /// Read a volume that was not unmounted as it is, not as its log would leave it
    #[arg(long)]
    no_replay: bool,
}

/// The volume to write.
#[derive(Debug, clap::Args)]
pub(crate) struct Writing {
    /// The image file, which is changed; `IMAGE:NUMBER` for the volume of a partition
    pub(crate) image: ImageArg,
}

/// Does something with an image.
///
/// # Errors
/// The image or what is named in it cannot be read or written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    match &args.command {
        Command::Info(args) => info::run(args, context),
        Command::Ls(args) => list::run(args, context),
        Command::Cat(args) => copy::cat(args, context),
        Command::Get(args) => copy::get(args, context),
        Command::Put(args) => copy::put(args, context),
        Command::Rm(args) => change::remove(args, context),
        Command::Mkdir(args) => change::mkdir(args, context),
        Command::Ln(args) => change::link(args, context),
        Command::Attr(args) => attributes::run(args, context),
        Command::Check(args) => check::run(args, context),
        Command::Mkfs(args) => make::run(args, context),
        Command::Convert(args) => convert::run(args, context),
        Command::Fetch(args) => fetch::run(args, context),
        Command::Prepare(args) => base::prepare(args, context),
    }
}

/// An error of the volume, as the user sees it.
pub(crate) fn failed(error: bfs::Error) -> CommandError {
    use bfs::Error;
    let (exit, hint) = match &error {
        Error::NoSpace { .. } => (Exit::NoSpace, None),
        Error::NotFound(_)
        | Error::Exists(_)
        | Error::NotADirectory(_)
        | Error::IsADirectory(_)
        | Error::NotEmpty(_)
        | Error::IntoItself(_)
        | Error::InvalidName(..) => (Exit::No, None),
        Error::Damaged(_) => (Exit::Image, Some("`kireji image check` looks at all of it")),
        _ => (Exit::Image, None),
    };
    let error = CommandError::from_source(exit, error);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// An error of a file of this machine.
pub(crate) fn host_failed(
    action: &str,
    path: &std::path::Path,
    source: std::io::Error,
) -> CommandError {
    let exit = match source.kind() {
        std::io::ErrorKind::StorageFull => Exit::NoSpace,
        std::io::ErrorKind::PermissionDenied => Exit::Permission,
        _ => Exit::HostCannot,
    };
    CommandError::from_source(
        exit,
        HostError { action: action.to_owned(), path: path.into(), source },
    )
}

#[derive(Debug)]
struct HostError {
    action: String,
    path: PathBuf,
    source: std::io::Error,
}

impl std::fmt::Display for HostError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {} {}", self.action, self.path.display())
    }
}

impl std::error::Error for HostError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Writes bytes of a file as they are, unless they go to a terminal, which they could steer.
fn raw(context: &mut Context<'_>, bytes: &[u8]) -> Result<(), CommandError> {
    match context.width {
        Some(_) => context.out.write_all(bytes)?,
        None => std::io::stdout().lock().write_all(bytes)?,
    }
    Ok(())
}

/// A size for people: one decimal from 1 KiB on.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (bytes.saturating_mul(10) / 1024, 0);
    while tenths >= 10240 && unit + 1 < UNITS.len() {
        (tenths, unit) = (tenths / 1024, unit + 1);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Bytes of a name for the terminal: what could steer it is shown as `?`.
pub(crate) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Lines for the terminal, each as [`shown`].
pub(crate) fn shown_lines(text: &str) -> String {
    text.lines().map(|line| shown(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_500_000, "1.4 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "1638.3 PiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(shown(b"a\x1b[2Jb\xff"), "a?[2Jb\u{fffd}");
    }
}
