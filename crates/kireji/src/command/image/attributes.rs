//! `kireji image attr`, and attributes that go with a file when it is copied.
//!
//! On this machine an attribute is an extended one, `user.haiku.` before its name, with the type
//! code as four characters before the value.

use std::fs::File;
use std::path::Path;

use bfs::NodeId;
use rustix::fs::{XattrFlags, fsetxattr, getxattr, listxattr};
use rustix::io::Errno;
use serde::Serialize;

use super::open::{ImageArg, ImageVolume};
use super::{Reading, Writing, failed, host_failed, human, open, paths, raw, shown};
use crate::table::Table;
use crate::{CommandError, Context, Exit};

const PREFIX: &str = "user.haiku.";
/// The kernel's limit on the value of an extended attribute, and on the list of their names
/// (include/uapi/linux/limits.h, XATTR_SIZE_MAX and XATTR_LIST_MAX).
const LARGEST: usize = 65536;

/// Arguments of `image attr`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image file; `IMAGE:NUMBER` for the volume of a partition, counted from 1
    image: ImageArg,
    /// The file
    path: String,
    /// The attribute whose value is written to standard output; without it, all are listed
    name: Option<String>,
    /// Set the attribute to this text
    #[arg(long, value_name = "VALUE", requires = "name", conflicts_with = "remove")]
    set: Option<String>,
    /// The type of the attribute to set: four characters
    #[arg(long = "type", value_name = "TYPE", default_value = "CSTR", requires = "set")]
    kind: String,
    /// Remove the attribute
    #[arg(long, requires = "name")]
    remove: bool,
    /// Print one JSON document
    #[arg(long, conflicts_with = "name")]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    attributes: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    r#type: String,
    size: u64,
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    if args.set.is_some() || args.remove {
        return change(args, context);
    }
    let reading = Reading { image: args.image.clone(), no_replay: false };
    let mut volume = open::read(&reading, context)?;
    let node = only(&mut volume, &args.path)?;
    if let Some(name) = &args.name {
        let attribute = volume.attribute(node, name.as_bytes()).map_err(failed)?;
        raw(context, &attribute.value)?;
        return Ok(Exit::Done);
    }
    let found = volume.attributes(node).map_err(failed)?;
    let attributes: Vec<_> = found
        .into_iter()
        .map(|info| Row {
            name: shown(&info.name),
            r#type: shown(&info.kind.to_be_bytes()),
            size: info.size,
        })
        .collect();
    if args.json {
        super::super::print_json(context, Document { attributes })?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["TYPE", "SIZE", "NAME"]);
    for row in attributes {
        table.row([row.r#type, human(row.size), row.name]);
    }
    table.write(context.out, context.width)?;
    Ok(Exit::Done)
}

fn only(volume: &mut ImageVolume, path: &str) -> Result<NodeId, CommandError> {
    volume.lookup(path.as_bytes()).map_err(failed)
}

fn change(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let kind = <[u8; 4]>::try_from(args.kind.as_bytes()).map_err(|_| {
        CommandError::new(Exit::Usage, format!("`{}` is not four characters", args.kind))
            .hint("CSTR is a text, MIMS a MIME type")
    })?;
    let name = args.name.as_deref().unwrap_or_default().as_bytes();
    let mut volume = open::write(&Writing { image: args.image.clone() }, context)?;
    for found in paths::find(&mut volume, &args.path)? {
        match &args.set {
            Some(value) => {
                // Haiku's own tools store the zero at the end of a text.
                let mut value = value.clone().into_bytes();
                if &kind == b"CSTR" {
                    value.push(0);
                }
                let kind = u32::from_be_bytes(kind);
                volume.set_attribute(found.node, name, kind, &value).map_err(failed)?;
            }
            None => volume.remove_attribute(found.node, name).map_err(failed)?,
        }
    }
    volume.sync().map_err(failed)?;
    Ok(Exit::Done)
}

/// Attributes that could not be kept in a copy.
#[derive(Debug, Default)]
pub(super) struct Lost {
    count: usize,
    reason: Option<Errno>,
}

impl Lost {
    fn add(&mut self, reason: Errno) {
        self.count += 1;
        self.reason.get_or_insert(reason);
    }

    pub(super) fn tell(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        if let Some(reason) = self.reason {
            writeln!(context.err, "{} attributes could not be kept: {reason}", self.count)?;
        }
        Ok(())
    }
}

/// Keeps the attributes of a node with a file of this machine, as far as its file system can.
pub(super) fn save(
    volume: &mut ImageVolume,
    node: NodeId,
    file: &File,
    lost: &mut Lost,
) -> Result<(), CommandError> {
    for info in volume.attributes(node).map_err(failed)? {
        let Ok(name) = std::str::from_utf8(&info.name) else {
            lost.add(Errno::ILSEQ);
            continue;
        };
        if info.size > LARGEST as u64 {
            lost.add(Errno::TOOBIG);
            continue;
        }
        let attribute = volume.attribute(node, &info.name).map_err(failed)?;
        let value = [&attribute.kind.to_be_bytes()[..], &attribute.value].concat();
        let name = format!("{PREFIX}{name}");
        if let Err(error) = fsetxattr(file, name.as_str(), &value, XattrFlags::empty()) {
            lost.add(error);
        }
    }
    Ok(())
}

/// Gives a node the attributes that were kept with a file of this machine.
pub(super) fn load(
    volume: &mut ImageVolume,
    node: NodeId,
    path: &Path,
    lost: &mut Lost,
) -> Result<(), CommandError> {
    let mut names = vec![0; LARGEST];
    let length = match listxattr(path, &mut names) {
        Ok(length) => length,
        // A file system without extended attributes has lost none.
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(host_failed("read the attributes of", path, error.into())),
    };
    for name in names[..length].split(|byte| *byte == 0) {
        let Some(haiku) = name.strip_prefix(PREFIX.as_bytes()) else { continue };
        let mut value = vec![0; LARGEST];
        let length = match getxattr(path, name, &mut value) {
            Ok(length) => length,
            Err(error) => {
                lost.add(error);
                continue;
            }
        };
        let Some((kind, value)) = value[..length].split_first_chunk::<4>() else {
            lost.add(Errno::INVAL);
            continue;
        };
        let kind = u32::from_be_bytes(*kind);
        volume.set_attribute(node, haiku, kind, value).map_err(failed)?;
    }
    Ok(())
}
