//! What a run puts into the guest's disk before it starts, and takes out of it at the end.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bfs::{Access, Kind, Options, Volume, Window};
use guest::Guest;
use guest::guests::Driver;
use guest::launch::as_user;
use guest::linux::Nonce;
use guest::machine::Boot;
use haiku::driver::Kind as DriverKind;
use haiku::image::{Disk, ImageError};
use haiku::install::{self, Change, How, Plan, Target};
use haiku::kdl::Panic;
use haiku::login::{self, Login};
use haiku::packages;
use haiku::symbols::{Symbols, is_same_code, unknown_images};
use haiku::test_run::Test;
use sha2::{Digest, Sha256};

use crate::command::driver::{self, Files, not_installed};
use crate::command::image;
use crate::{CommandError, Context, Exit};

use super::checks::{self, denied};
use super::goal::{Put, of_volume};
use super::tree::Made;
use super::{Args, base};

/// Where Haiku's log is, from the root of its volume (src/servers/syslog_daemon).
const SYSTEM_LOG: &str = "system/var/log/syslog";
/// What the debugger calls the kernel.
pub(super) const KERNEL: &str = "kernel_x86_64";
/// The largest file that is put into a disk, in bytes.
const LARGEST: u64 = 1 << 30;
/// What is read of the list of users, in bytes.
const USERS_LARGEST: usize = 64 << 10;
/// Bytes that are copied at a time.
const PIECE: usize = 256 << 10;

/// What is to be put into the guest's disk.
#[derive(Debug)]
pub(super) struct Load {
    plan: Option<Plan>,
    files: Vec<(Put, Vec<u8>)>,
    /// The drivers that show themselves.
    pub(super) drivers: Vec<Driver>,
    /// The files that drivers come from: their names, and what they hold.
    contents: Vec<(String, Vec<u8>)>,
    /// Whether the disk outlives the run; one that is thrown away needs no care for a failure of
    /// power.
    is_lasting: bool,
    /// Whether the image boots for the first time, and nobody is there to answer.
    prepares: bool,
    /// The command that runs in the guest.
    pub(super) test: Option<Test>,
    /// Kernels of a checkout, one of which may be the guest's.
    kernels: Vec<PathBuf>,
    /// What lets a person in while the guest runs.
    pub(super) login: Option<Login>,
}

/// What came into the disk.
#[derive(Debug, Default)]
pub(super) struct Installed {
    pub(super) changes: Vec<Change>,
    /// Where the files of `--put` are.
    files: Vec<Put>,
    /// The user to log in as, or why nobody can.
    pub(super) login: Option<Result<String, CommandError>>,
}

/// Reads what is to be put into the disk and checks it against the image, which is only read.
///
/// # Errors
/// A file cannot be read, or the guest's kernel would not load a driver.
pub(super) fn check(
    args: &Args,
    made: Made,
    context: &mut Context<'_>,
) -> Result<Load, CommandError> {
    let (user, goal) = (context.vars.user.as_ref(), &args.goal);
    let mut load = Load {
        plan: None,
        files: Vec::new(),
        drivers: Vec::new(),
        contents: Vec::new(),
        is_lasting: args.state.is_some() || args.preparing.is_some(),
        prepares: args.preparing.is_some(),
        test: None,
        kernels: made.kernels,
        login: None,
    };
    for put in &goal.put {
        let bytes = as_user(user, || small(&put.source)).map_err(|error| denied(error, user))?;
        let bytes = bytes.map_err(|error| checks::file("--put", &put.source, error))?;
        load.files.push((put.clone(), bytes));
    }
    if let Some(command) = &goal.test {
        let marker = format!("kireji-{}", Nonce::random(context.host)?.as_str());
        load.test = Some(Test { command: command.clone(), marker });
    }
    let drivers = [&goal.driver[..], &made.drivers].concat();
    let (Some(image), false) = (&args.image, drivers.is_empty()) else { return Ok(load) };
    let files = as_user(user, || Files::read(&drivers)).map_err(|error| denied(error, user))??;
    let target = as_user(user, || target(image)).map_err(|error| denied(error, user))??;
    if target.kernel.is_none() {
        writeln!(context.err, "No kernel was found in the image; symbols are not checked.")?;
    }
    let how = How { place: goal.place.as_deref(), boot: goal.boot_driver, force: false };
    let plan = Plan::new(&files.list(), how, &target).map_err(|error| files.not_planned(error))?;
    for note in &plan.notes {
        writeln!(context.err, "note: {note}")?;
    }
    let has_card = !args.device.is_empty() || !args.emulate.is_empty();
    for install::File { name, bytes } in files.list() {
        if let Some(lost) = driver::is_stripped(name, bytes) {
            writeln!(context.err, "note: {lost}")?;
        }
        load.drivers.extend(driver(&plan, name, bytes, has_card));
    }
    load.plan = Some(plan);
    let of = |file: &install::File<'_>| (file.name.to_owned(), file.bytes.to_vec());
    load.contents = files.list().iter().map(of).collect();
    Ok(load)
}

fn small(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = path.metadata()?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(io::Error::other("it is no file of at most 1 GiB"));
    }
    std::fs::read(path)
}

fn target(path: &Path) -> Result<Target, CommandError> {
    let mut volume = open(path, Access::Read, true)?;
    let arg = image::ImageArg { path: path.to_owned(), partition: None };
    Target::read(&mut volume).map_err(|error| image::packages_failed(error, &arg))
}

/// Opens the volume of an image. Without `barriers`, a failure of power may leave it damaged.
pub(super) fn open(
    path: &Path,
    access: Access,
    barriers: bool,
) -> Result<Volume<Window<Disk>>, CommandError> {
    let open = || -> Result<_, ImageError> {
        let disk = match access {
            Access::Write | Access::WriteClean => Disk::open_to_write(path)?,
            _ => Disk::open(path)?,
        };
        let place = disk.find_volume(None)?;
        Ok((disk, place))
    };
    let (disk, place) = open().map_err(image::not_an_image)?;
    let window = Window::new(disk, place.start, place.size)
        .map_err(|error| CommandError::from_source(Exit::Image, error))?;
    let options = Options { access, barriers, ..Options::default() };
    Volume::open(window, &options).map_err(image::failed)
}

/// What a driver shows of itself once it is loaded; nothing of add-ons that the kernel does not
/// tell of.
fn driver(plan: &Plan, file: &str, bytes: &[u8], has_card: bool) -> Option<Driver> {
    let report = haiku::driver::check(bytes, None, None).ok()?;
    let is_driver = matches!(report.kind, DriverKind::Legacy | DriverKind::Driver);
    if !is_driver && report.kind != DriverKind::Bus {
        return None;
    }
    let (_, path) = plan.add_ons().find(|(name, _)| *name == file)?;
    let name = path.rsplit('/').next()?;
    let leaf = |path: &str| path.rsplit('/').next() == Some(name);
    let links = plan.links().map(|(link, _)| link).filter(|link| leaf(link));
    let paths = std::iter::once(path).chain(links).map(|path| format!("/boot/{path}")).collect();
    let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let has_card = has_card && is_driver;
    Some(Driver { name: name.to_owned(), sha256, paths, modules: report.modules, has_card })
}

impl Load {
    /// The symbols of the drivers, of the image's kernel and of what its packages have of the images
    /// of a panic, as far as they can be had.
    pub(super) fn symbols(
        &self,
        args: &Args,
        panic: &Panic,
        context: &mut Context<'_>,
    ) -> Vec<Symbols> {
        let parse = |(name, bytes): &(String, Vec<u8>)| Symbols::parse(name, bytes).ok();
        let mut symbols: Vec<_> = self.contents.iter().filter_map(parse).collect();
        let kernel =
            self.kernel(args, context).map(|guests| self.built(&guests, context).unwrap_or(guests));
        symbols.extend(kernel.and_then(|bytes| Symbols::parse(KERNEL, &bytes).ok()));
        let names: Vec<_> =
            unknown_images(std::slice::from_ref(panic), &symbols).into_iter().collect();
        let packaged = || {
            let mut volume = open(args.image.as_ref()?, Access::Read, true).ok()?;
            packages::images(&mut volume, &names).ok()
        };
        let packaged = as_user(context.vars.user.as_ref(), packaged).ok().flatten();
        symbols.extend(image::of_packages(&packaged.unwrap_or_default()));
        symbols
    }

    /// The kernel of the checkout with the code of the guest's, which has lines too.
    fn built(&self, guests: &[u8], context: &mut Context<'_>) -> Option<Vec<u8>> {
        if self.kernels.is_empty() {
            return None;
        }
        let same = |path: &PathBuf| {
            let bytes = small(path).ok()?;
            is_same_code(&bytes, guests).then_some(bytes)
        };
        let find = || self.kernels.iter().find_map(same);
        let found = as_user(context.vars.user.as_ref(), find).ok().flatten();
        if found.is_none() {
            let words =
                "the checkout's kernel is not the guest's: no lines are known of its frames";
            drop(writeln!(context.err, "note: {words}"));
        }
        found
    }

    /// The image's kernel. An image without its package has no names for its frames.
    pub(super) fn kernel(&self, args: &Args, context: &mut Context<'_>) -> Option<Vec<u8>> {
        let image = args.image.as_ref()?;
        let kernel = || {
            let mut volume = open(image, Access::Read, true).ok()?;
            Some(packages::kernel(&mut volume).ok()?.1)
        };
        as_user(context.vars.user.as_ref(), kernel).ok().flatten()
    }

    /// Puts everything into the disk that the guest starts from.
    ///
    /// # Errors
    /// The disk cannot be read or written.
    pub(super) fn install(
        &self,
        guest: &dyn Guest,
        run: &Path,
        context: &mut Context<'_>,
    ) -> Result<Installed, CommandError> {
        let Boot::Disk(disk) = guest.boot(run) else { return Ok(Installed::default()) };
        let is_asked_for =
            self.prepares || self.plan.is_some() || !self.files.is_empty() || self.test.is_some();
        if !is_asked_for && self.login.is_none() {
            return Ok(Installed::default());
        }
        let user = context.vars.user.as_ref();
        let work = || self.write(&disk.file);
        let installed = match as_user(user, work).map_err(|error| denied(error, user))? {
            // What nobody asked for is no reason not to run.
            Err(error) if !is_asked_for => {
                Installed { login: Some(Err(error)), ..Installed::default() }
            }
            other => other?,
        };
        for change in &installed.changes {
            writeln!(context.err, "{}", image::shown_lines(&change.to_string()))?;
        }
        for put in &installed.files {
            writeln!(context.err, "{} -> /boot/{}", put.source.display(), put.destination)?;
        }
        Ok(installed)
    }

    fn write(&self, disk: &Path) -> Result<Installed, CommandError> {
        let mut volume = open(disk, Access::Write, self.is_lasting)?;
        let changes = match &self.plan {
            Some(plan) => install::install(&mut volume, plan).map_err(not_installed)?,
            None => Vec::new(),
        };
        let mut files = Vec::new();
        for (put, bytes) in &self.files {
            let put = within(&mut volume, put)?;
            put_file(&mut volume, &put.destination, 0o755, bytes)?;
            files.push(put);
        }
        for (path, content) in self.test.iter().flat_map(Test::files) {
            put_file(&mut volume, &path, 0o755, content.as_bytes())?;
        }
        if self.prepares {
            base::put(&mut volume)?;
        }
        let login = self.login.as_ref().map(|login| let_in(&mut volume, login));
        volume.sync().map_err(image::failed)?;
        Ok(Installed { changes, files, login })
    }
}

/// A file whose destination is a directory of the volume goes into it.
fn within(volume: &mut Volume<Window<Disk>>, put: &Put) -> Result<Put, CommandError> {
    let is_directory = match volume.lookup(put.destination.as_bytes()) {
        Ok(node) => volume.metadata(node).map_err(image::failed)?.kind == Kind::Directory,
        Err(_) => false,
    };
    Ok(put.in_directory().filter(|_| is_directory).unwrap_or_else(|| put.clone()))
}

pub(super) fn put_file(
    volume: &mut Volume<Window<Disk>>,
    path: &str,
    mode: u32,
    mut bytes: &[u8],
) -> Result<(), CommandError> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = image::directory(volume, above, true)?;
    let size = bytes.len() as u64;
    let written = volume.write_file(parent, name.as_bytes(), mode, &mut bytes, size);
    written.map(drop).map_err(image::failed)
}

/// Puts what lets a person in into a volume that has a Haiku on it; returns the user's name.
fn let_in(volume: &mut Volume<Window<Disk>>, login: &Login) -> Result<String, CommandError> {
    if volume.lookup(b"system/packages").is_err() {
        return Err(CommandError::new(Exit::Image, "the image has no Haiku on it"));
    }
    let mut passwd = vec![0; USERS_LARGEST];
    let known = volume.lookup(login::USERS.as_bytes()).and_then(|node| {
        let length = volume.read(node, 0, &mut passwd)?;
        passwd.truncate(length);
        Ok(())
    });
    let passwd = if known.is_ok() { String::from_utf8_lossy(&passwd) } else { "".into() };
    for (path, mode, content) in login.files() {
        put_file(volume, &path, mode, content.as_bytes())?;
    }
    Ok(login::user(&passwd).unwrap_or(login::USER).to_owned())
}

/// A file of `--get`, and where it goes if that was said.
fn parts_of_get(get: &str) -> (&str, Option<&str>) {
    get.split_once(':').map_or((get, None), |(from, to)| (from, Some(to)))
}

/// What a run writes where the user said.
pub(super) fn own_paths(args: &Args) -> impl Iterator<Item = PathBuf> {
    let gets = args.goal.get.iter().filter_map(|get| parts_of_get(get).1.map(PathBuf::from));
    gets.chain(args.goal.junit.clone())
}

/// Copies files out of the disk, as the guest left it: those that were asked for, and the system
/// log. Whatever fails is told and no reason for another verdict.
pub(super) fn fetch(
    args: &Args,
    guest: &dyn Guest,
    run: &Path,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let Boot::Disk(disk) = guest.boot(run) else { return Ok(()) };
    let user = context.vars.user.clone();
    let mut wanted: Vec<(String, PathBuf, bool)> = Vec::new();
    for get in &args.goal.get {
        let (from, to) = parts_of_get(get);
        let to =
            to.map_or_else(|| run.join(from.rsplit('/').next().unwrap_or("file")), PathBuf::from);
        wanted.push((of_volume(from).to_owned(), to, true));
    }
    wanted.push((SYSTEM_LOG.to_owned(), run.join("syslog"), false));
    let fetch = || fetch_all(&disk.file, &wanted);
    let fetched = as_user(user.as_ref(), fetch).map_err(|error| denied(error, user.as_ref()))?;
    let results = match fetched {
        Ok(results) => results,
        // A disk that nobody asked for anything of may be any system's.
        Err(_) if args.goal.get.is_empty() && !args.goal.is_any() => return Ok(()),
        Err(error) => {
            writeln!(context.err, "WARNING: the guest's disk cannot be read: {error}")?;
            return Ok(());
        }
    };
    for ((from, to, was_asked_for), result) in wanted.iter().zip(results) {
        match result {
            Ok(()) => writeln!(context.err, "/boot/{from} -> {}", to.display())?,
            Err(error) if *was_asked_for => {
                writeln!(context.err, "WARNING: cannot copy /boot/{from}: {error}")?;
            }
            // A guest that came not so far has no log.
            Err(_) => {}
        }
    }
    Ok(())
}

type Fetched = Vec<Result<(), CommandError>>;

fn fetch_all(disk: &Path, wanted: &[(String, PathBuf, bool)]) -> Result<Fetched, CommandError> {
    // What its log holds counts as written, and the disk stays as it is.
    let mut volume = open(disk, Access::Read, true)?;
    Ok(wanted.iter().map(|(from, to, _)| copy(&mut volume, from, to)).collect())
}

fn copy(volume: &mut Volume<Window<Disk>>, from: &str, to: &Path) -> Result<(), CommandError> {
    let node = volume.lookup(from.as_bytes()).map_err(image::failed)?;
    if volume.metadata(node).map_err(image::failed)?.kind != Kind::File {
        return Err(CommandError::new(Exit::No, "it is no file"));
    }
    let failed = |source| image::host_failed("write", to, source);
    let mut reader = volume.reader(node).map_err(image::failed)?;
    let (mut piece, mut offset) = (vec![0; PIECE], 0);
    let mut length = volume.read_on(&mut reader, offset, &mut piece).map_err(image::failed)?;
    // What was there before stays until something can be read.
    let mut file = File::create(to).map_err(failed)?;
    while length > 0 {
        file.write_all(&piece[..length]).map_err(failed)?;
        offset += length as u64;
        length = volume.read_on(&mut reader, offset, &mut piece).map_err(image::failed)?;
    }
    Ok(())
}
