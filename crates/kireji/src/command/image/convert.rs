//! `kireji image convert`.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use bfs::Storage;
use haiku::image::convert::{Format, write};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::progress::{OFTEN, Progress};
use super::{ImageArg, host_failed, human, not_an_image};
use crate::command::owner::Owner;
use crate::{CommandError, Context, Exit};

/// Where the boot block of a volume says in which sector its partition begins
/// (src/tools/anyboot/anyboot.cpp of Haiku).
const BOOT_OFFSET: u64 = 506;

/// Arguments of `image convert`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image; `IMAGE:NUMBER` for the volume of a partition, counted from 1
    image: ImageArg,
    /// The file to make
    output: PathBuf,
    /// How it holds the disk (default: by the end of its name, .qcow2 or anything else for raw)
    #[arg(long, value_enum)]
    format: Option<Kind>,
    /// Only the BFS volume, without partitions and what else is on the disk
    #[arg(long)]
    volume: bool,
}

/// How a file holds a disk.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// The file is the disk, or the volume
    Raw,
    /// QEMU's own format
    Qcow2,
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let is_qcow2 = args.output.extension().is_some_and(|end| end == "qcow2");
    let format = match args.format {
        Some(Kind::Qcow2) => Format::Qcow2,
        None if is_qcow2 => Format::Qcow2,
        Some(Kind::Raw) | None => Format::Raw,
    };
    let there = || {
        let text = format!("{} is there already", args.output.display());
        CommandError::new(Exit::Usage, text)
    };
    if args.output.symlink_metadata().is_ok() {
        return Err(there());
    }
    let disk = args.image.disk()?;
    // A page that was saved in place of an image would become a disk, too.
    disk.image().map_err(not_an_image)?;
    let part = part_of(&args.output);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&part)
        .map_err(|source| host_failed("make", &args.output, source))?;
    Owner::of(&context.vars).give(&part);
    let mut progress = Progress::new(&mut *context.err, OFTEN);
    let written = if args.volume || args.image.partition.is_some() {
        args.image
            .volume(disk)
            .and_then(|window| convert(&Volume { window }, (&file, &part), format, &mut progress))
    } else {
        convert(&disk, (&file, &part), format, &mut progress)
    };
    let done = written.and_then(|size| match named(&part, &args.output) {
        Ok(()) => Ok(size),
        Err(Errno::EXIST) => Err(there()),
        Err(error) => Err(host_failed("make", &args.output, error.into())),
    });
    let size = done.inspect_err(|_| {
        // Half an image is none; the first error is the one to tell.
        drop(std::fs::remove_file(&part));
    })?;
    writeln!(context.err, "{} has a disk of {}.", args.output.display(), human(size))?;
    Ok(Exit::Done)
}

/// Returns the size of the disk.
fn convert(
    disk: &impl Storage,
    (file, path): (&File, &Path),
    format: Format,
    progress: &mut Progress<'_>,
) -> Result<u64, CommandError> {
    let size = disk.size().and_then(|size| {
        write(disk, file, format, &mut |done| progress.of(done, size))?;
        Ok(size)
    });
    size.map_err(|source| host_failed("write", path, source))
}

/// A name beside a file's for while it is made.
fn part_of(output: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(output.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    output.with_file_name(name)
}

/// Gives a file its name, unless something has it.
fn named(part: &Path, output: &Path) -> Result<(), Errno> {
    match renameat_with(CWD, part, CWD, output, RenameFlags::NOREPLACE) {
        // Some file systems cannot do both at once.
        Err(Errno::INVAL | Errno::NOSYS) if output.symlink_metadata().is_err() => {
            rustix::fs::rename(part, output)
        }
        other => other,
    }
}

/// A volume that is at the beginning of its disk now: its boot block says so.
struct Volume<S> {
    window: S,
}

impl<S: Storage> Storage for Volume<S> {
    fn size(&self) -> io::Result<u64> {
        self.window.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.window.read_at(buffer, offset)?;
        for byte in BOOT_OFFSET..BOOT_OFFSET + 4 {
            let place = byte.checked_sub(offset).and_then(|place| usize::try_from(place).ok());
            if let Some(byte) = place.and_then(|place| buffer.get_mut(place)) {
                *byte = 0;
            }
        }
        Ok(())
    }

    fn write_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
