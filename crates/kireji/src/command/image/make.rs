//! `kireji image mkfs`.

use bfs::{MakeOptions, Volume};
use haiku::image::{Disk, Extent};

use super::open::{self, ImageArg};
use super::{failed, human};
use crate::command::owner::Owner;
use crate::{CommandError, Context, Exit};

/// Arguments of `image mkfs`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to make; or an image, whose volume is made anew; `IMAGE:NUMBER` for a partition
    image: ImageArg,
    /// Make a file of this size: bytes, or a number with K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: Option<u64>,
    /// The name of the volume
    #[arg(long, default_value = "Haiku")]
    name: String,
    /// Bytes of a block
    #[arg(long, default_value_t = 2048, value_name = "BYTES")]
    block_size: u32,
    /// Throw away what is there
    #[arg(long, conflicts_with = "size")]
    force: bool,
}

fn size(text: &str) -> Result<u64, String> {
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let (digits, shift) = units
        .into_iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
        .unwrap_or((text, 0));
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is not a size"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is too large"))
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let path = &args.image.path;
    let options =
        MakeOptions { block_size: args.block_size, ..MakeOptions::new(args.name.as_str()) };
    let window = match args.size {
        Some(size) => {
            let disk = Disk::create(path, size).map_err(open::not_an_image)?;
            Owner::of(&context.vars).give(path);
            open::window(disk, Extent { start: 0, size })?
        }
        None if !args.force => {
            return Err(CommandError::new(Exit::Usage, "nothing says what to make").hint(
                "`--size` makes a file; `--force` throws away what is in the volume of an image",
            ));
        }
        None => open::place(&args.image)?,
    };
    let made = Volume::make(window, &options).and_then(|mut volume| {
        volume.sync()?;
        Ok(volume.info())
    });
    let info = made.map_err(|error| {
        if args.size.is_some() {
            // Nothing of use is in it.
            drop(std::fs::remove_file(path));
        }
        let is_usage = matches!(error, bfs::Error::Parameters(_));
        if is_usage { CommandError::from_source(Exit::Usage, error) } else { failed(error) }
    })?;
    let free = (info.blocks - info.used_blocks) * u64::from(info.block_size);
    writeln!(context.err, "made the volume `{}`, {} free", info.name, human(free))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("2T"), Ok(2 << 40));
        for bad in ["", "M", "-1", "1.5G", "99999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
