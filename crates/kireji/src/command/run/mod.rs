//! `kireji run`: a guest with the real card, from the plan to the card's return.

pub(super) mod base;
mod build;
mod cards;
mod checks;
mod ci;
mod files;
mod gdb;
mod goal;
mod highlight;
mod inhibit;
mod leased;
mod login;
mod prepare;
mod project;
mod qemu;
mod record;
mod report;
mod request;
mod rom;
mod session;
mod stages;
mod tree;
mod verdict;
mod watch;
mod window;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use guest::launch::as_user;
use guest::machine::{self, Forward, Machine, UsbDevice};
use guest::qemu::Firmware;
use pci::Named;

use crate::signals::Signals;
use crate::{CommandError, Context, Exit};

use super::YEAR;
use super::refuse::Allowed;

use record::{Ended, Record, Told};
use stages::{History, Timeline};

pub(super) use checks::denied;
pub(super) use qemu::with_runner;
pub(crate) use session::launcher;
pub(super) use session::run_error;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
pub struct Args {
    /// Haiku's image: anyboot, raw, qcow2 or VMDK. It is never written, but for `--persist`. Or a
    /// target of `kireji.toml`, which wins over a file of its name: `./NAME` is the file; without
    /// either, its default target
    #[arg(value_parser = absolute)]
    image: Option<PathBuf>,
    /// The guest: Haiku from an image, or the reference guest, this host's own Linux with the
    /// card's own driver, which shows whether passthrough works with the card at all
    #[arg(long, default_value = "haiku", value_name = "GUEST")]
    guest: GuestKind,
    /// The kernel of the reference guest, rather than the one that runs here
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    kernel: Option<PathBuf>,
    /// Pass a card of this host (can be repeated)
    #[arg(long, value_name = "ADDRESS", help_heading = "Cards")]
    device: Vec<Named>,
    /// Give the guest a device of QEMU's own, such as edu, e1000e or nvme, in a card's place (can
    /// be repeated)
    #[arg(long, value_name = "MODEL[,PROPERTY=VALUE]", value_parser = emulated, help_heading = "Cards")]
    emulate: Vec<machine::Emulated>,
    /// Show the guest this option ROM rather than the card's own
    #[arg(long, value_name = "FILE", value_parser = absolute, help_heading = "Cards")]
    romfile: Option<PathBuf>,
    /// How the card may be reset, where the kernel has several ways
    #[arg(long, value_name = "METHOD", help_heading = "Cards")]
    reset: Option<Reset>,
    #[command(flatten)]
    allowed: Allowed,
    /// Keep what the guest writes under this name, for later runs of the same image
    #[arg(long, value_name = "NAME", conflicts_with = "persist", help_heading = "Disk")]
    state: Option<String>,
    /// Let the guest write the image itself
    #[arg(long, help_heading = "Disk")]
    persist: bool,
    /// What the disk is attached to: the machine's AHCI controller, if nothing is said
    #[arg(long, value_name = "BUS", help_heading = "Disk")]
    disk_bus: Option<Bus>,
    /// Memory in MiB: 2048, or what the reference guest needs
    #[arg(long, value_name = "MIB", help_heading = "Machine")]
    memory: Option<u64>,
    /// Number of processors: 2, or 1 for the reference guest
    #[arg(long, value_name = "NUMBER", help_heading = "Machine")]
    cpus: Option<u16>,
    /// What runs the guest's processors; `auto` proves whether KVM works
    #[arg(long, default_value = "auto", value_name = "WHICH", help_heading = "Machine")]
    accel: Accel,
    /// Firmware, whatever image and card suggest
    #[arg(long, value_name = "KIND", help_heading = "Machine")]
    firmware: Option<FirmwareChoice>,
    /// The guest's network
    #[arg(long, value_name = "KIND", help_heading = "Machine")]
    net: Option<Net>,
    /// Let the reference guest ask the card's network for an address, and ping who gives it
    #[arg(long, help_heading = "Machine")]
    dhcp: bool,
    /// Lead a port of this host's loopback interface to one of the guest (can be repeated)
    #[arg(long, value_name = "HOST:GUEST", value_parser = forward, help_heading = "Machine")]
    forward: Vec<Forward>,
    /// Where the emulated screen is shown: `none` (so for the reference guest), `auto`, or a back
    /// end of QEMU's
    #[arg(long, value_name = "WHERE", help_heading = "Screen and input")]
    display: Option<String>,
    /// Make the passed display card the guest's only screen
    #[arg(long, help_heading = "Screen and input")]
    primary_display: bool,
    /// Give the guest an emulated sound card
    #[arg(long, help_heading = "Screen and input")]
    sound: bool,
    /// Lend the guest an input device, `/dev/input/event…`; both Ctrl keys switch it (can be
    /// repeated)
    #[arg(long, value_name = "DEVICE", value_parser = absolute, help_heading = "Screen and input")]
    input: Vec<PathBuf>,
    /// Pass a USB device of this host (can be repeated)
    #[arg(long, value_name = "VENDOR:PRODUCT", value_parser = usb, help_heading = "Screen and input")]
    usb: Vec<UsbDevice>,
    #[command(flatten)]
    goal: goal::GoalArgs,
    /// Take the image as it is, not what `kireji image prepare` made of it
    #[arg(long, help_heading = "Disk")]
    no_prepared: bool,
    /// The base that this run makes.
    #[arg(skip)]
    preparing: Option<base::Preparing>,
    /// The directory of the project that a target was taken from.
    #[arg(skip)]
    project: Option<PathBuf>,
    /// End the run after this time
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=YEAR), help_heading = "Run")]
    timeout: Option<u64>,
    /// Do not show the serial line
    #[arg(long, help_heading = "Run")]
    quiet: bool,
    /// Print events as JSON lines rather than the serial line
    #[arg(long, help_heading = "Run")]
    json: bool,
    /// Print QEMU's command line, one argument a line, and do nothing
    #[arg(long, help_heading = "Run")]
    dry_run: bool,
    /// The QEMU to use
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    qemu: Option<PathBuf>,
    /// Take what QEMU can do from this file rather than ask it
    #[arg(long, value_name = "FILE", hide = true)]
    qemu_caps: Option<PathBuf>,
    /// Hand an argument to QEMU as it is (can be repeated)
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true, help_heading = "Run")]
    extra_qemu_arg: Vec<OsString>,
    /// Open QEMU's stub for gdb at this port of the loopback interface, and print how to start gdb
    /// with the kernel's symbols; the guest is left running, also in its debugger
    #[arg(
        long,
        value_name = "PORT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1234",
        value_parser = clap::value_parser!(u16).range(1..),
        help_heading = "Run"
    )]
    gdb: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum GuestKind {
    /// Haiku
    Haiku,
    /// The reference guest
    Linux,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Reset {
    /// A function-level reset
    Flr,
    /// Through the power state D3
    Pm,
    /// Of the bus behind the port
    Bus,
    /// Not at all
    None,
}

impl Reset {
    /// The kernel's word for it, as in `reset_method`.
    fn name(self) -> &'static str {
        match self {
            Self::Flr => "flr",
            Self::Pm => "pm",
            Self::Bus => "bus",
            Self::None => "",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Bus {
    /// The machine's AHCI controller
    Ahci,
    /// An NVMe controller
    Nvme,
    /// A USB stick
    Usb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Accel {
    /// KVM where it works, translation elsewhere
    Auto,
    /// The processor itself
    Kvm,
    /// Translation
    Tcg,
}

impl Accel {
    /// The word of the command line that means it.
    fn word(self) -> &'static str {
        match self {
            Self::Auto => "--accel=auto",
            Self::Kvm => "--accel=kvm",
            Self::Tcg => "--accel=tcg",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FirmwareChoice {
    /// A PC BIOS
    Bios,
    /// UEFI
    Uefi,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Net {
    /// A private network with this host as its gateway
    User,
    /// None
    None,
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    // An address on the network is told apart later, by what looks into the image.
    if path.contains("://") {
        return Ok(PathBuf::from(path));
    }
    std::path::absolute(path).map_err(|error| error.to_string())
}

fn forward(text: &str) -> Result<Forward, String> {
    let ports = text.split_once(':').and_then(|(host, guest)| {
        Some(Forward { host: host.parse().ok()?, guest: guest.parse().ok()? })
    });
    ports.ok_or_else(|| "HOST:GUEST takes two port numbers, such as 2222:22".to_owned())
}

fn usb(text: &str) -> Result<UsbDevice, String> {
    let hex = |text| u16::from_str_radix(text, 16).ok();
    let ids = text.split_once(':').and_then(|(vendor, product)| {
        Some(UsbDevice { vendor: hex(vendor)?, product: hex(product)? })
    });
    ids.ok_or_else(|| "VENDOR:PRODUCT takes two hexadecimal ids, such as 046d:c31c".to_owned())
}

fn emulated(text: &str) -> Result<machine::Emulated, String> {
    let mut parts = text.split(',');
    let model = parts.next().filter(|model| !model.is_empty()).ok_or("a model is missing")?;
    let property = |part: &str| {
        let (name, value) = part.split_once('=').ok_or(format!("`{part}` is no PROPERTY=VALUE"))?;
        Ok::<_, String>((name.to_owned(), value.to_owned()))
    };
    let properties = parts.map(property).collect::<Result<_, _>>()?;
    Ok(machine::Emulated { model: model.to_owned(), properties })
}

/// Runs the guest.
///
/// # Errors
/// Something is missing, would be lost, or failed; the card is back then, or the error says not.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let of_project = project::expand(args, context)?;
    let args = of_project.as_ref().unwrap_or(args);
    checks::options(args)?;
    goal::check(args)?;
    if !args.dry_run {
        context.vars.check_home(&context.vars.state)?;
    }
    if args.goal.watch {
        return watch::run(args, context);
    }
    // From here on a signal must not end the process before the cards are back.
    let signals = Signals::catch()?;
    Ok(once(args, context, &signals, &|build| build())?.exit)
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Done {
    exit: Exit,
    /// Whether the guest itself shut the machine down.
    shut_down: bool,
}

/// Builds what the guest is made of, by calling what it is given.
type Build<'a> = &'a dyn Fn(
    &mut dyn FnMut() -> Result<tree::Made, CommandError>,
) -> Result<tree::Made, CommandError>;

/// Runs the guest once, and tells machines how that ended, whatever the end.
fn once(
    args: &Args,
    context: &mut Context<'_>,
    signals: &Signals,
    build: Build<'_>,
) -> Result<Done, CommandError> {
    let mut machines = ci::Machines::open(args, context)?;
    let ended = attempt(args, context, signals, build, &mut machines);
    let told = match &ended {
        Ok(_) if args.dry_run => Ok(()),
        Ok(done) => machines.tell_early(args, done.exit, "It was interrupted.", &[], context),
        Err(error) => {
            let words = verdict::sentence(&error.to_string());
            machines.tell_early(args, error.exit(), &words, error.all_reasons(), context)
        }
    };
    ended.and_then(|done| told.map(|()| done))
}

fn attempt(
    args: &Args,
    context: &mut Context<'_>,
    signals: &Signals,
    build: Build<'_>,
    machines: &mut ci::Machines,
) -> Result<Done, CommandError> {
    let requested = Instant::now();
    let mut timeline = Timeline::new(requested);
    let made = build(&mut || {
        if let (Some(words), false) = (&args.goal.build, args.dry_run) {
            build::run(words, args, signals, context)?;
        }
        tree::build(args, signals, context)
    })?;
    if args.goal.build.is_some() && !args.dry_run || !made.drivers.is_empty() {
        timeline.mark("build");
    }
    let user = context.vars.user.clone();
    let image = args.image.as_deref().map(|path| prepare::read_image(path, user.as_ref()));
    let image = image.transpose()?;
    let mut load = files::check(args, made, context)?;
    timeline.mark("check");
    let (qemu, cache) = qemu::capabilities(args, context)?;
    let firmware = Firmware::find(context.host)?;
    let mut cards = cards::select(args, context)?;
    let accelerator = request::accelerator(args, context, &cache, &qemu)?;
    let guest = prepare::guest(args, context, image, &cards, accelerator, &load)?;
    let plan = |directory: &Path, cards: &cards::Cards, context: &Context<'_>| {
        let request = request::request(args, directory, &*guest, cards, accelerator)?;
        machine::plan(&request, &qemu, &firmware).map_err(|error| qemu::plan_error(error, context))
    };
    // Everything that can be wrong with the request is found before anything is changed.
    let machine = plan(&context.vars.state.join("runs/DRY-RUN"), &cards, context)?;
    checks::host(args, context, &*guest, user.as_ref())?;
    if args.dry_run {
        return Ok(Done { exit: print(&machine, context)?, shut_down: false });
    }
    leased::may_lock(context, machine.locked_memory)?;
    if signals.came() {
        return Ok(Done { exit: Exit::Interrupted, shut_down: false });
    }
    prepare::sweep(context);
    let mut record = session::record(args, context, &*guest, user.as_ref())?;
    let mut user_of_guest = None;
    let ended = prepare::files(&*guest, &record.directory)
        .and_then(|()| {
            load.login = login::keys(args, &machine, &record.directory, context)?;
            let installed = load.install(&*guest, record.directory.path(), context)?;
            if !installed.changes.is_empty() {
                record.tell(&Told::Installed { changes: &installed.changes }, context);
            }
            user_of_guest = login::installed(installed.login, &record.directory)?;
            timeline.mark("install");
            Ok(())
        })
        .and_then(|()| cards.take(args, context, user.as_ref(), &mut record))
        .and_then(|taken| {
            let ended = guarded(|| {
                // Only a card on vfio-pci shows its character device and its ROM, so the plan is
                // made once more.
                let machine = plan(record.directory.path(), &cards, context)?;
                session::tell_notes(&machine, context)?;
                let (guest, record) = (&*guest, &mut record);
                let user = user.as_ref();
                let passed = cards.functions();
                session::Session {
                    args,
                    machine,
                    user,
                    requested,
                    guest,
                    signals,
                    passed,
                    load: &load,
                    login: user_of_guest,
                }
                .run(record, &mut timeline, context)
            });
            taken.give_back(ended, &mut record, context)
        });
    let fetched = files::fetch(args, &*guest, record.directory.path(), context);
    record.keep(fetched);
    prepare::clean_up(&*guest, &record.directory);
    timeline.mark("verdict");
    told(args, &load, &timeline, &ended, (&mut record, machines), context);
    let shut_down = record.shut_down;
    Ok(Done { exit: record.close(ended, context)?, shut_down })
}

/// Tells how long the run took, and machines how it ended.
fn told(
    args: &Args,
    load: &files::Load,
    timeline: &Timeline,
    ended: &Ended,
    (record, machines): (&mut Record, &mut ci::Machines),
    context: &mut Context<'_>,
) {
    let times = timeline.times();
    record.tell(&Told::Times { stages: &times }, context);
    let names: Vec<_> = load.drivers.iter().map(|driver| driver.name.clone()).collect();
    let (exit, words, reasons) = record::in_words(ended);
    let told = ci::Told {
        name: &if names.is_empty() { "guest".to_owned() } else { names.join(" ") },
        exit,
        words: &words,
        reasons,
        took: timeline.total(),
    };
    record.keep(machines.tell(&told, context));
    if !args.goal.is_any() {
        return;
    }
    let line = if args.quiet { Ok(()) } else { writeln!(context.err, "{}", times.line()) };
    record.keep(line.map_err(CommandError::from));
    let mut parts: Vec<_> = args.emulate.iter().map(|emulated| emulated.model.clone()).collect();
    parts.extend(args.device.iter().map(|named| named.address.to_string()));
    parts.extend(names);
    parts.extend(args.image.iter().map(|image| image.display().to_string()));
    let history = History::of(&context.vars.state, &parts);
    // Only times of runs that came to their goal can be compared.
    if exit != Exit::Done {
        return;
    }
    // A history that cannot be written is none, and nothing else.
    let user = context.vars.user.clone();
    let slower = as_user(user.as_ref(), || history.add(&times).unwrap_or_default());
    for line in slower.unwrap_or_default() {
        record.keep(writeln!(context.err, "{line}").map_err(CommandError::from));
    }
}

/// Does work after which something has to be given back, whatever becomes of it.
fn guarded<T>(work: impl FnOnce() -> Result<T, CommandError>) -> Result<T, CommandError> {
    // Nothing that the work may have left half done is used for anything but giving back.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
        let error = CommandError::new(Exit::Internal, "a defect in kireji ended the run");
        Err(said.into_iter().fold(error, CommandError::reason))
    })
}

fn print(machine: &Machine, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    writeln!(context.out, "{}", machine.executable.display())?;
    for argument in &machine.arguments {
        writeln!(context.out, "{}", argument.to_string_lossy())?;
    }
    session::tell_notes(machine, context)?;
    Ok(Exit::Done)
}

/// How long a run may last.
fn limit(args: &Args) -> Option<Duration> {
    args.timeout.map(Duration::from_secs)
}
