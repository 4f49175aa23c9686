//! The kernel in an image: a file of the package `haiku`.

use std::io;

use bfs::Reader;
use haiku::hpkg::{EntryKind, HpkgError, Package, PackageSource};

use super::open::{ImageArg, ImageVolume};
use super::{Reading, failed, open, shown};
use crate::{CommandError, Context, Exit};

/// Where the boot loader looks for it (src/system/boot/loader/loader.cpp of Haiku).
const KERNEL: &[u8] = b"kernel_x86_64";
/// Bytes of a kernel; those of Haiku have about 2 MiB.
const LARGEST: u64 = 64 << 20;

struct InVolume<'a> {
    volume: &'a mut ImageVolume,
    reader: Reader,
}

impl PackageSource for InVolume<'_> {
    fn size(&mut self) -> io::Result<u64> {
        Ok(self.reader.size())
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.volume.read_on(&mut self.reader, offset, buffer) {
            Ok(length) if length == buffer.len() => Ok(()),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Reads the kernel of an image. Returns the name of its package too.
pub(crate) fn kernel(
    image: &ImageArg,
    context: &mut Context<'_>,
) -> Result<(String, Vec<u8>), CommandError> {
    let reading = Reading { image: image.clone(), no_replay: false };
    let mut volume = open::read(&reading, context)?;
    let bad = |text: String| CommandError::new(Exit::Image, text);
    let none = || bad(format!("{} has no package `haiku`", image.path.display()));
    let packages = match volume.lookup(b"system/packages") {
        Err(bfs::Error::NotFound(_)) => return Err(none()),
        other => other.map_err(failed)?,
    };
    let mut found = None;
    for entry in volume.entries(packages).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // As src/system/boot/loader/package_support.cpp has it.
        let is_haiku = entry.name == b"haiku.hpkg"
            || entry.name.starts_with(b"haiku-") && entry.name.ends_with(b".hpkg");
        if is_haiku {
            found = Some(entry);
        }
    }
    let entry = found.ok_or_else(none)?;
    let name = shown(&entry.name);
    let reader = volume.reader(entry.node).map_err(failed)?;
    let broken = |error: HpkgError| {
        CommandError::from_source(Exit::Image, error).reason(format!("it is {name}"))
    };
    let source = InVolume { volume: &mut volume, reader };
    let mut package = Package::open(source).map_err(broken)?;
    let entries = package.entries().map_err(broken)?;
    let kernel = entries.into_iter().find(|entry| entry.path == KERNEL);
    let Some(EntryKind::File(data)) = kernel.map(|kernel| kernel.kind) else {
        return Err(bad(format!("the package {name} has no kernel for x86_64"))
            .hint("images for other machines are not checked against yet"));
    };
    let bytes = package.read_all(&data, LARGEST).map_err(broken)?;
    Ok((name, bytes))
}
