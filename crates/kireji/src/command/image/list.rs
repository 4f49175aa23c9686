//! `kireji image ls`.

use bfs::{Kind, Metadata, NodeId};
use serde::Serialize;

use super::open::ImageVolume;
use super::paths::{self, Found};
use super::{Reading, failed, human, open, shown};
use crate::table::Table;
use crate::{CommandError, Context, Exit};

/// Arguments of `image ls`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    reading: Reading,
    /// What to list; `*` and `?` stand for any characters
    #[arg(default_value = "/")]
    paths: Vec<String>,
    /// List directories themselves, not what is in them
    #[arg(short, long)]
    directory: bool,
    /// List directories below directories too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    path: String,
    kind: &'static str,
    size: u64,
    permissions: u32,
    modified: i64,
    attributes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let mut volume = open::read(&args.reading, context)?;
    let mut pending = Vec::new();
    for path in &args.paths {
        pending.extend(paths::find(&mut volume, path)?);
    }
    let named = pending.len();
    pending.reverse();
    let mut entries = Vec::new();
    let mut listed = 0;
    while let Some(found) = pending.pop() {
        listed += 1;
        let metadata = volume.metadata(found.node).map_err(failed)?;
        let is_named = listed <= named && !args.recursive || found.path.is_empty();
        let into = metadata.kind == Kind::Directory && !args.directory;
        if into && (args.recursive || is_named) {
            let mut below = children(&mut volume, &found)?;
            if args.recursive {
                below.reverse();
                pending.extend(below);
            } else {
                for found in below {
                    let metadata = volume.metadata(found.node).map_err(failed)?;
                    entries.push(entry(&mut volume, &found, &metadata)?);
                }
            }
            if is_named {
                continue;
            }
        }
        entries.push(entry(&mut volume, &found, &metadata)?);
    }
    if args.json {
        super::super::print_json(context, Document { entries })?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["MODE", "SIZE", "ATTRIBUTES", "NAME"]);
    table.optional(2);
    for entry in entries {
        let name = match &entry.target {
            Some(target) => format!("{} -> {target}", entry.path),
            None => entry.path,
        };
        let attributes = match entry.attributes {
            0 => String::new(),
            count => count.to_string(),
        };
        table.row([mode(entry.kind, entry.permissions), human(entry.size), attributes, name]);
    }
    table.write(context.out, context.width)?;
    Ok(Exit::Done)
}

fn children(volume: &mut ImageVolume, found: &Found) -> Result<Vec<Found>, CommandError> {
    let mut below = Vec::new();
    for entry in volume.entries(found.node).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = match found.path.as_slice() {
            [] => entry.name,
            path => [path, b"/", &entry.name].concat(),
        };
        below.push(Found { path, parent: found.node, node: entry.node });
    }
    Ok(below)
}

fn entry(
    volume: &mut ImageVolume,
    found: &Found,
    metadata: &Metadata,
) -> Result<Entry, CommandError> {
    let target = match metadata.kind {
        Kind::Symlink => Some(shown(&volume.read_link(found.node).map_err(failed)?)),
        _ => None,
    };
    Ok(Entry {
        path: shown(&found.path),
        kind: kind(metadata.kind),
        size: metadata.size,
        permissions: metadata.permissions,
        modified: metadata.modified.seconds(),
        attributes: attributes(volume, found.node)?,
        target,
    })
}

fn attributes(volume: &mut ImageVolume, node: NodeId) -> Result<usize, CommandError> {
    Ok(volume.attributes(node).map_err(failed)?.len())
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Symlink => "link",
    }
}

fn mode(kind: &str, permissions: u32) -> String {
    let first = match kind {
        "directory" => 'd',
        "link" => 'l',
        _ => '-',
    };
    let bits = "rwxrwxrwx".chars().enumerate();
    std::iter::once(first)
        .chain(bits.map(|(at, c)| if permissions >> (8 - at) & 1 == 1 { c } else { '-' }))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn modes_look_as_everywhere() {
        assert_eq!(super::mode("directory", 0o755), "drwxr-xr-x");
        assert_eq!(super::mode("file", 0o640), "-rw-r-----");
    }
}
