//! `kireji snapshot`: what kireji reads of a host, in one file that can be given to others.

use std::io::Read;
use std::path::{Path, PathBuf};

use guest::qemu::{Family, Firmware};
use host::modules::Modules;
use host::{Record, Sysroot};
use pci::facts::{Devices, Facts};
use pci::scrub::Scrub;
use pci::uses::{Scope, Uses};
use pci::{Host, Names};
use reserve::boot::Boot;
use reserve::config::Change;
use reserve::goal::{self, Goal};
use reserve::reservation::Reservations;
use reserve::{by_hand, image, parameters, proof};
use vfio::take::Binding;

use super::doctor::qemu;
use super::save::save;
use crate::{CommandError, Context, Exit};

/// Users of people have numbers from here on, `nobody` has more (systemd's
/// docs/UIDS-GIDS.md).
const PEOPLE: std::ops::Range<u32> = 1000..60_000;

/// Arguments of `snapshot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to write: a tar archive compressed with zstd
    file: PathBuf,
}

/// Captures the host.
///
/// # Errors
/// The host cannot be read, a secret would be left, or the file cannot be written.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let sysroot = context.host.recording()?;
    let mut record = look(&sysroot)?;
    // What the database says of other hosts' cards is not needed.
    let names = database(context.host)?;
    record.files.insert("/usr/share/misc/pci.ids".into(), names.into_bytes());
    // Of a captured host what is known of its QEMU is in the record already, if anything is.
    if context.host.is_live() {
        let answer = serde_json::to_vec_pretty(&qemu::ask(context));
        let answer = answer.map_err(|error| CommandError::from_source(Exit::Internal, error))?;
        record.files.insert(qemu::CAPTURED.into(), answer);
    }
    let scrub = Scrub::new(&record, &names_of_people(context.host), &key()?);
    let mut clean = scrub.record(&record);
    add_images(context.host, &record, &scrub, &mut clean);
    scrub.check(&clean).map_err(|error| {
        CommandError::from_source(Exit::Internal, error)
            .hint("nothing was written; please report it with the name of that file")
    })?;
    let mut packed = Vec::new();
    host::pack(&clean, &mut packed)
        .map_err(|error| CommandError::from_source(Exit::Internal, error))?;
    save(context, &args.file, &packed, 0o600)?;
    let file = args.file.display();
    writeln!(
        context.err,
        "{} files in {file} ({} KiB), without serial numbers, addresses and names",
        clean.files.len(),
        packed.len().div_ceil(1024)
    )?;
    writeln!(context.err, "to see what is in it: tar --zstd --list --file {file}")?;
    if !context.vars.is_root {
        let line = context.vars.sudo_line();
        writeln!(context.err, "what only root can read is missing; to have it: {line}")?;
    }
    Ok(Exit::Done)
}

/// Reads whatever a command that only looks may read.
pub(super) fn look(sysroot: &Sysroot) -> Result<Record, CommandError> {
    let host = Host::read(sysroot)?;
    let facts = Facts::read(sysroot, &host);
    let mut devices = Devices::read(sysroot, &host, host.functions());
    super::doctor::add_ports(sysroot, &host, &mut devices);
    for function in host.functions() {
        // A function that cannot be read is one that others could not read either.
        let _ = function.config(sysroot);
        let _ = Binding::read(sysroot, function.address);
    }
    // Disks are not read: what is on them is nobody's business.
    let uses = Uses::read(sysroot, &host, &Scope::default());
    let _ = Firmware::find(sysroot);
    let _ = Family::read(sysroot);
    if let Some(release) = facts.kernel.release.known() {
        let _ = Modules::read(sysroot, &Path::new("/lib/modules").join(release));
    }
    look_at_boot(sysroot, &host);
    let _ = sysroot.read(qemu::CAPTURED);
    let mut record = sysroot.recorded();
    for disk in uses.storage.known().into_iter().flat_map(|storage| &storage.disks) {
        let node = format!("/dev/{}", disk.name);
        record.present.insert(PathBuf::from(&node));
        record.manifest.unreadable.insert(node);
    }
    // The databases of names are replaced.
    for place in pci::DATABASES {
        record.files.remove(Path::new(place));
    }
    Ok(record)
}

/// Reads whatever `reserve --dry-run` and `verify` may read, of any card. What cannot be read could
/// not be read by them either.
fn look_at_boot(sysroot: &Sysroot, host: &Host) {
    let addresses: Vec<_> = host.functions().map(|function| function.address).collect();
    let _ = by_hand::find(sysroot, host, &addresses);
    let _ = parameters::needed(sysroot);
    let Ok(boot) = Boot::read(sysroot) else { return };
    let reserved = Reservations::read(sysroot).unwrap_or_default();
    let endpoint = host.functions().find(|function| !function.class.is_pci_bridge());
    let wanted = endpoint.and_then(|one| reserved.clone().with(host, &[one.address]).ok());
    for reservations in [Some(Reservations::default()), wanted, Some(reserved)] {
        let Some(reservations) = reservations else { continue };
        // A parameter that is nowhere has a plan read all that it would change.
        for parameters in [Change::default(), Change::add(["kireji.none=1"])] {
            let adoption = by_hand::Adoption::default();
            let goal = Goal { reservations: reservations.clone(), parameters, adoption };
            let _ = goal::plan(sysroot, &boot, &goal);
        }
        let Ok(goal) = Goal::of(sysroot, reservations, Change::default()) else { continue };
        let _ = goal::plan(sysroot, &boot, &goal);
        let _ = proof::prove(sysroot, &boot, &goal);
    }
}

/// Adds of the images that were opened what is needed to prove something: their members' names, and
/// the contents of few. They hold keys.
fn add_images(host: &Sysroot, record: &Record, scrub: &Scrub, clean: &mut Record) {
    for path in &record.opened {
        let shown = image::skeleton(host, path, proof::needs, &Scrubbed(scrub));
        let path = scrub.path(path);
        match shown {
            Ok(bytes) => {
                clean.files.insert(path, bytes);
            }
            // It is there, and says nothing.
            Err(_) => clean.manifest.unreadable.extend(path.to_str().map(str::to_owned)),
        }
    }
}

/// What is shown of an image.
struct Scrubbed<'a>(&'a Scrub);

impl image::Shown for Scrubbed<'_> {
    fn path(&self, path: &Path) -> PathBuf {
        self.0.path(path)
    }

    fn contents(&self, path: &Path, bytes: &[u8]) -> Vec<u8> {
        self.0.file(&Path::new("/").join(path), bytes)
    }
}

fn database(sysroot: &Sysroot) -> Result<String, CommandError> {
    let host = Host::read(sysroot)?;
    Ok(Names::read(sysroot, &host).database())
}

/// The names of the host, and of the people who use it.
pub(super) fn names_of_people(sysroot: &Sysroot) -> Vec<String> {
    let text = |path: &str| sysroot.text(path).unwrap_or_default();
    let mut names = vec![text("/proc/sys/kernel/hostname"), text("/etc/hostname")];
    // A name with a domain is also written without it.
    names.extend(names.clone().iter().filter_map(|name| Some(name.split_once('.')?.0.to_owned())));
    names.extend(sysroot.optional_names("/home").unwrap_or_default());
    for line in text("/etc/passwd").lines() {
        let mut fields = line.split(':');
        let (name, number) = (fields.next(), fields.nth(1).and_then(|id| id.parse().ok()));
        if let (Some(name), Some(number)) = (name, number)
            && PEOPLE.contains(&number)
        {
            names.push(name.to_owned());
        }
    }
    // They say nothing of anybody, and are words of configuration files.
    names.retain(|name| !["localhost", "user", "root", "(none)"].contains(&name.as_str()));
    names
}

/// Random, so that nobody finds a serial number by trying them all.
pub(super) fn key() -> Result<[u8; 32], CommandError> {
    let mut key = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut key))
        .map_err(|error| CommandError::from_source(Exit::HostCannot, error))?;
    Ok(key)
}
