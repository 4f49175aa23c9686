//! `kireji driver install` and `remove`.
//!
//! What was put into the volume besides the driver is written down in an attribute of its file,
//! so that it can be taken back.

use std::path::{Path, PathBuf};

use bfs::{Kind, NodeId};
use haiku::driver::{Kernel, Step, check, place};

use super::super::image::{self, ImageArg, ImageVolume, Writing};
use super::check::{failed, read};
use crate::{CommandError, Context, Exit};

/// The attribute: a line for each thing, its kind before its path.
const MANIFEST: &[u8] = b"kireji:installed";
/// `CSTR`, the type code of text.
const TEXT: u32 = 0x4353_5452;
/// Settings files are small; what is larger is left alone.
const LARGEST_SETTINGS: u64 = 1 << 20;

/// Arguments of `driver install`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The files: a driver, and its other halves
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The image, which is changed; `IMAGE:NUMBER` for the volume of a partition
    #[arg(long, value_name = "IMAGE")]
    image: ImageArg,
    /// Where a driver goes: for a legacy one below `/dev`, else below `drivers`
    #[arg(long = "as", value_name = "CATEGORY/NAME")]
    place: Option<String>,
    /// Let the boot loader load it, as the drivers of disks and buses
    #[arg(long)]
    boot: bool,
    /// Put it there even if the kernel would not load it
    #[arg(long)]
    force: bool,
}

/// Arguments of `driver remove`.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// The name of the driver's file in the image
    name: String,
    /// The image, which is changed; `IMAGE:NUMBER` for the volume of a partition
    #[arg(long, value_name = "IMAGE")]
    image: ImageArg,
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let mut plans = Vec::new();
    // An image without the package of a kernel can be written to all the same.
    let kernel = image::kernel(&args.image, context).ok();
    let kernel = kernel.and_then(|(_, bytes)| Kernel::parse(&bytes).ok());
    if kernel.is_none() {
        writeln!(context.err, "No kernel was found in the image; symbols are not checked.")?;
    }
    for file in &args.files {
        let bytes = read(file)?;
        let report = check(&bytes, kernel.as_ref(), None).map_err(|error| failed(file, error))?;
        if !report.is_loadable() && !args.force {
            let text = format!("the kernel would not load {}", file.display());
            let error = CommandError::new(Exit::DriverNotLoaded, text);
            let problems = report.findings.iter().map(|finding| finding.problem.clone());
            return Err(problems
                .fold(error, CommandError::reason)
                .hint(format!("`kireji driver check {}` says what to do", file.display())));
        }
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.strip_suffix(".so").unwrap_or(name);
        // Only one of several files can have the place that was asked for.
        let wanted = args.place.as_deref().filter(|_| report.kind.is_kernel());
        let steps = place(&report, name, wanted, args.boot)
            .map_err(|error| CommandError::from_source(Exit::Usage, error))?;
        plans.push((file, bytes, steps));
    }
    let mut volume = image::write(&Writing { image: args.image.clone() }, context)?;
    for (file, bytes, steps) in plans {
        install(&mut volume, file, &bytes, &steps, context)?;
    }
    volume.sync().map_err(image::failed)?;
    Ok(Exit::Done)
}

fn install(
    volume: &mut ImageVolume,
    file: &Path,
    bytes: &[u8],
    steps: &[Step],
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let (mut add_on, mut manifest) = (None, String::new());
    for step in steps {
        match step {
            Step::AddOn { path } => {
                let (parent, name) = parent_of(volume, path)?;
                let known = volume.entry(parent, name.as_bytes()).ok();
                if let Some(known) = known
                    && let Ok(before) = volume.attribute(known, MANIFEST)
                {
                    // What an earlier install made stays to be taken back by this one.
                    manifest = String::from_utf8_lossy(&before.value).into_owned();
                }
                let mut source = bytes;
                let size = bytes.len() as u64;
                let node = volume
                    .write_file(parent, name.as_bytes(), 0o755, &mut source, size)
                    .map_err(image::failed)?;
                add_on = Some(node);
                writeln!(context.err, "{} -> /boot/{path}", file.display())?;
            }
            Step::Link { path, target } => {
                let (parent, name) = parent_of(volume, path)?;
                if let Ok(known) = volume.entry(parent, name.as_bytes()) {
                    let same = volume.read_link(known).is_ok_and(|link| link == target.as_bytes());
                    if same {
                        continue;
                    }
                    volume.remove(parent, name.as_bytes()).map_err(image::failed)?;
                }
                volume
                    .create_symlink(parent, name.as_bytes(), target.as_bytes())
                    .map_err(image::failed)?;
                note(&mut manifest, "file", path);
                writeln!(context.err, "link /boot/{path} -> {target}")?;
            }
            Step::Text { path, content } => {
                let (parent, name) = parent_of(volume, path)?;
                let mut source = content.as_bytes();
                let size = content.len() as u64;
                volume
                    .write_file(parent, name.as_bytes(), 0o644, &mut source, size)
                    .map_err(image::failed)?;
                note(&mut manifest, "file", path);
                writeln!(context.err, "file /boot/{path}")?;
            }
            Step::Line { path, line } => {
                if add_line(volume, path, line)? {
                    note(&mut manifest, "line", path);
                    writeln!(context.err, "line `{line}` in /boot/{path}")?;
                }
            }
        }
    }
    let Some(node) = add_on else { return Ok(()) };
    volume.set_attribute(node, MANIFEST, TEXT, manifest.as_bytes()).map_err(image::failed)
}

fn note(manifest: &mut String, kind: &str, path: &str) {
    let line = format!("{kind} {path}\n");
    if !manifest.contains(&line) {
        manifest.push_str(&line);
    }
}

/// The directory of a path, made where it is missing, and the last part.
fn parent_of<'p>(
    volume: &mut ImageVolume,
    path: &'p str,
) -> Result<(NodeId, &'p str), CommandError> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    Ok((image::directory(volume, above, true)?, name))
}

/// What a line of ours ends with, by which it is found again.
const OURS: &str = "\t# kireji";

/// Adds a line to a settings file unless its first word is set there. Returns whether it did.
fn add_line(volume: &mut ImageVolume, path: &str, line: &str) -> Result<bool, CommandError> {
    let (parent, name) = parent_of(volume, path)?;
    let mut text = match volume.entry(parent, name.as_bytes()) {
        Ok(node) => settings(volume, node, path)?,
        Err(bfs::Error::NotFound(_)) => String::new(),
        Err(error) => return Err(image::failed(error)),
    };
    let word = line.split(' ').next().unwrap_or(line);
    let is_set = |known: &str| known.split_whitespace().next() == Some(word);
    if text.lines().any(is_set) {
        return Ok(false);
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!("{line}{OURS}\n"));
    write_text(volume, parent, name, &text)?;
    Ok(true)
}

fn settings(volume: &mut ImageVolume, node: NodeId, path: &str) -> Result<String, CommandError> {
    let size = volume.metadata(node).map_err(image::failed)?.size;
    let mut bytes = vec![0; usize::try_from(size.min(LARGEST_SETTINGS)).unwrap_or_default()];
    volume.read(node, 0, &mut bytes).map_err(image::failed)?;
    String::from_utf8(bytes).ok().filter(|_| size <= LARGEST_SETTINGS).ok_or_else(|| {
        CommandError::new(Exit::Image, format!("/boot/{path} is not a settings file"))
    })
}

fn write_text(
    volume: &mut ImageVolume,
    parent: NodeId,
    name: &str,
    text: &str,
) -> Result<(), CommandError> {
    let mut source = text.as_bytes();
    let size = text.len() as u64;
    volume
        .write_file(parent, name.as_bytes(), 0o644, &mut source, size)
        .map(drop)
        .map_err(image::failed)
}

pub(super) fn remove(args: &RemoveArgs, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let mut volume = image::write(&Writing { image: args.image.clone() }, context)?;
    let mut found = Vec::new();
    // Where `install` puts add-ons.
    let mut stack = match volume.lookup(b"home/config/non-packaged/add-ons") {
        Ok(node) => vec![node],
        Err(bfs::Error::NotFound(_)) => Vec::new(),
        Err(error) => return Err(image::failed(error)),
    };
    while let Some(directory) = stack.pop() {
        let entries: Result<Vec<_>, _> =
            volume.entries(directory).map_err(image::failed)?.collect();
        for entry in entries.map_err(image::failed)? {
            let kind = volume.metadata(entry.node).map_err(image::failed)?.kind;
            if kind == Kind::Directory {
                stack.push(entry.node);
            } else if kind == Kind::File && entry.name == args.name.as_bytes() {
                match volume.attribute(entry.node, MANIFEST) {
                    Ok(manifest) => found.push((directory, manifest.value)),
                    Err(bfs::Error::NotFound(_)) => {}
                    Err(error) => return Err(image::failed(error)),
                }
            }
        }
    }
    if found.is_empty() {
        let text = format!("no driver `{}` was installed by kireji", args.name);
        return Err(CommandError::new(Exit::No, text).hint("`kireji image rm` removes any file"));
    }
    for (directory, manifest) in found {
        let manifest = String::from_utf8_lossy(&manifest).into_owned();
        for line in manifest.lines() {
            take_back(&mut volume, line, context)?;
        }
        volume.remove(directory, args.name.as_bytes()).map_err(image::failed)?;
        writeln!(context.err, "removed the driver `{}`", args.name)?;
    }
    volume.sync().map_err(image::failed)?;
    Ok(Exit::Done)
}

/// Takes back one line of a manifest. What is gone already is no error.
fn take_back(
    volume: &mut ImageVolume,
    line: &str,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let Some((kind, path)) = line.split_once(' ') else { return Ok(()) };
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let node = match volume.lookup(path.as_bytes()) {
        Ok(node) => node,
        Err(bfs::Error::NotFound(_) | bfs::Error::NotADirectory(_)) => return Ok(()),
        Err(error) => return Err(image::failed(error)),
    };
    let parent = volume.lookup(above.as_bytes()).map_err(image::failed)?;
    match kind {
        "file" => {
            volume.remove(parent, name.as_bytes()).map_err(image::failed)?;
            writeln!(context.err, "removed /boot/{path}")?;
        }
        "line" => {
            let text = settings(volume, node, path)?;
            let kept: String = text
                .split_inclusive('\n')
                .filter(|line| !line.trim_end().ends_with(OURS))
                .collect();
            if kept.is_empty() {
                volume.remove(parent, name.as_bytes()).map_err(image::failed)?;
            } else {
                write_text(volume, parent, name, &kept)?;
            }
            writeln!(context.err, "removed the line in /boot/{path}")?;
        }
        _ => {}
    }
    Ok(())
}
