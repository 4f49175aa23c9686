//! `kireji image info`.

use std::error::Error;

use haiku::image::{Container, Image, Partition, PartitionKind};
use haiku::packages;
use host::Measured;
use serde::Serialize;

use super::super::run::base;
use super::open::not_an_image;
use super::{Reading, failed, human, open, shown};
use crate::shown::plain;
use crate::{CommandError, Context, Exit};

/// Arguments of `image info`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    reading: Reading,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    image: Image,
    partitions: Vec<Partition>,
    volume: VolumeInfo,
    packages: Vec<String>,
    /// Of Haiku; null where its version has none.
    revision: Measured<Option<String>>,
    /// Whether there is a prepared base of it.
    prepared: bool,
}

#[derive(Serialize)]
struct VolumeInfo {
    name: String,
    block_size: u32,
    size: u64,
    free: u64,
    clean: bool,
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let disk = args.reading.image.disk()?;
    let partitions = disk.partitions().map_err(not_an_image)?;
    let opened = disk.image().map_err(not_an_image).and_then(|image| {
        let volume = open::read_on(&args.reading, disk, context)?;
        Ok((image, volume))
    });
    let (image, mut volume) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // Which partition to name is what one wants to know then.
            if !args.json {
                table(&partitions, context)?;
            }
            return Err(error);
        }
    };
    let info = volume.info();
    let mut named = Vec::new();
    if let Ok(directory) = volume.lookup(b"system/packages") {
        for entry in volume.entries(directory).map_err(failed)? {
            let name = entry.map_err(failed)?.name;
            if name.starts_with(b"haiku-") || name.starts_with(b"haiku.") {
                named.push(shown(&name));
            }
        }
    }
    let revision = match packages::revision(&mut volume) {
        Ok(revision) => Measured::Known(revision),
        Err(error) => Measured::unmeasured(match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        }),
    };
    let block = u64::from(info.block_size);
    let volume = VolumeInfo {
        name: shown(info.name.as_bytes()),
        block_size: info.block_size,
        size: info.blocks * block,
        free: info.blocks.saturating_sub(info.used_blocks) * block,
        clean: info.clean,
    };
    let prepared = base::is_there(&args.reading.image.path, &image, context);
    if args.json {
        let document = Document { image, partitions, volume, packages: named, revision, prepared };
        super::super::print_json(context, document)?;
        return Ok(Exit::Done);
    }
    let container = match image.container {
        Container::Raw => "the disk itself".to_owned(),
        Container::Vmdk { header } => format!("VMDK, a header of {}", human(header)),
        Container::Qcow2 { version } => format!("qcow2, version {version}"),
    };
    writeln!(context.out, "container:  {container}, {}", human(image.disk_size))?;
    if let Some(boots) = image.boots() {
        let by = match (boots.bios, boots.uefi) {
            (true, true) => "BIOS and UEFI",
            (true, false) => "BIOS",
            (false, true) => "UEFI",
            (false, false) => "nothing",
        };
        writeln!(context.out, "boots by:   {by}")?;
    }
    table(&partitions, context)?;
    let out = &mut *context.out;
    writeln!(out, "volume:     {}, blocks of {}", volume.name, volume.block_size)?;
    writeln!(out, "size:       {}, {} free", human(volume.size), human(volume.free))?;
    writeln!(out, "unmounted:  {}", if volume.clean { "cleanly" } else { "not cleanly" })?;
    match &revision {
        Measured::Known(Some(revision)) => writeln!(out, "Haiku:      {}", plain(revision))?,
        Measured::Known(None) => {}
        Measured::Unmeasured { unmeasured } => {
            writeln!(out, "Haiku:      unknown: {}", plain(unmeasured))?;
        }
    }
    if prepared {
        writeln!(out, "prepared:   yes, and runs start from what `kireji image prepare` made")?;
    }
    for package in &named {
        writeln!(out, "package:    {package}")?;
    }
    Ok(Exit::Done)
}

fn table(partitions: &[Partition], context: &mut Context<'_>) -> Result<(), CommandError> {
    for partition in partitions {
        let what = match (partition.has_bfs, partition.kind) {
            (true, _) => ", a BFS volume",
            (false, PartitionKind::Bfs) => ", for a BFS volume",
            (false, PartitionKind::Efi) => ", the EFI system partition",
            (false, PartitionKind::Other) => "",
        };
        writeln!(
            context.out,
            "partition:  {} at {}, {}{}",
            partition.number,
            partition.extent.start,
            human(partition.extent.size),
            what
        )?;
    }
    Ok(())
}
