//! QEMU from its start to its end.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use guest::Guest;
use guest::door::Door;
use guest::guests::Sign;
use guest::host_log::KernelLog;
use guest::launch::{Launch, User};
use guest::machine::{Machine, NewFile, Note};
use guest::process::{Event, Launcher, Patience, Qemu, Stage, Supervision};
use guest::rundir::{Meta, RunDirectory, RunError, timestamp};
use guest::serial::{Show, Shown};
use haiku::kdl::Panic;
use haiku::login::PORT;
use haiku::symbols::symbolise;
use host::Owner;
use pci::Address;

use crate::command::backtrace;
use crate::shown::{Filter, plain};
use crate::signals::Signals;
use crate::{CommandError, Context, Exit};

use super::files::Load;
use super::highlight::{Cards, Highlight};
use super::record::{Ended, Record, Told, in_words};
use super::stages::Timeline;
use super::{Args, gdb, limit, login, report, verdict, window};

/// A run that is ready to start.
pub(super) struct Session<'a> {
    pub(super) args: &'a Args,
    pub(super) machine: Machine,
    pub(super) user: Option<&'a User>,
    pub(super) requested: Instant,
    pub(super) guest: &'a dyn Guest,
    /// Where signals that end the run show.
    pub(super) signals: &'a Signals,
    /// The functions of the host that the guest gets.
    pub(super) passed: Vec<Address>,
    /// What was put into its disk, with the symbols that a panic is read by.
    pub(super) load: &'a Load,
    /// The user as whom a person can log in to the guest.
    pub(super) login: Option<String>,
}

/// How kireji starts itself as the launcher.
pub(crate) fn launcher(context: &Context<'_>) -> Launcher {
    Launcher {
        program: context.vars.program.clone(),
        arguments: ["internal", "launch"].map(Into::into).to_vec(),
    }
}

pub(crate) fn run_error(error: RunError) -> CommandError {
    let exit = match &error {
        RunError::Io { source, .. } => Exit::of_io(source),
        RunError::None { .. } | RunError::Unknown { .. } => Exit::HostCannot,
    };
    CommandError::from_source(exit, error)
}

/// Says what a person should know before the guest starts.
pub(super) fn tell_notes(machine: &Machine, context: &mut Context<'_>) -> Result<(), CommandError> {
    // That it is slow was said, with the reason, when KVM was tried.
    for note in machine.notes.iter().filter(|note| **note != Note::Slow) {
        writeln!(context.err, "note: {note}")?;
    }
    Ok(())
}

/// Begins the record of the run, in a directory that keeps what it leaves.
pub(super) fn record(
    args: &Args,
    context: &mut Context<'_>,
    guest: &dyn Guest,
    user: Option<&User>,
) -> Result<Record, CommandError> {
    let now = context.clock.now();
    let text = |word: &std::ffi::OsString| word.to_string_lossy().into_owned();
    let program = context.vars.program.to_string_lossy().into_owned();
    let emulated = args.emulate.iter().map(|emulated| emulated.model.clone());
    let meta = Meta {
        schema: 1,
        started: timestamp(now),
        owner: Owner::current(context.host)?,
        command: std::iter::once(program).chain(context.vars.args.iter().map(text)).collect(),
        guest: guest.name().to_owned(),
        image: args.image.clone(),
        devices: args
            .device
            .iter()
            .map(|named| named.address.to_string())
            .chain(emulated)
            .collect(),
    };
    let base = context.vars.state.join("runs");
    let directory = RunDirectory::create(&base, now, &meta, user).map_err(run_error)?;
    let (run, path) = (directory.id().to_owned(), directory.path().to_owned());
    let mut record = Record::new(directory, args.json);
    record.is_quiet = args.quiet && !args.json && guest.wants().serial;
    let begins = Told::Run {
        schema: 1,
        run: &run,
        directory: &path,
        guest: &meta.guest,
        image: meta.image.as_deref(),
        devices: &meta.devices,
    };
    record.tell(&begins, context);
    Ok(record)
}

impl Session<'_> {
    /// What QEMU gets of another environment than this process has: under sudo, the user's.
    fn environment(&self, context: &Context<'_>) -> window::Environment {
        let kept = |name: &str| std::env::var(name).ok();
        let environment = |user| window::environment(context.host, user, &kept);
        self.user.map_or_else(Default::default, environment)
    }

    /// What the host's kernel says of the cards from now on, where it may be read.
    fn host_log(&self, context: &mut Context<'_>) -> Result<Option<KernelLog>, CommandError> {
        if self.passed.is_empty() {
            return Ok(None);
        }
        let path = context.host.locate("/dev/kmsg");
        let log = KernelLog::open(&path, self.passed.clone());
        if let Err(error) = &log {
            writeln!(context.err, "note: faults of the card are not seen, for {error}: /dev/kmsg")?;
        }
        Ok(log.ok())
    }

    /// Starts QEMU, follows it to its end, and says how it ended.
    pub(super) fn run(
        self,
        record: &mut Record,
        timeline: &mut Timeline,
        context: &mut Context<'_>,
    ) -> Ended {
        let Self { args, machine, guest, .. } = &self;
        // With gdb, a person asks.
        let is_asked = args.goal.is_any() && args.gdb.is_none();
        let run = &record.directory;
        let wants = guest.wants();
        for file in &machine.files {
            make(file)?;
            let (NewFile::Copy { to: path, .. } | NewFile::Zeros { path, .. }) = file;
            run.hand_over(path).map_err(run_error)?;
        }
        run.write_arguments(&machine.executable, &machine.arguments).map_err(run_error)?;
        writeln!(context.err, "run {}", run.path().display())?;
        if let Some(port) = args.gdb {
            gdb::announce(port, self.load.kernel(args, context).as_deref(), run, context)?;
        }
        // Should the card take the host down with it, this is what is left.
        run.sync().map_err(run_error)?;

        let launch = Launch {
            parent: std::process::id(),
            locked_memory: machine.locked_memory,
            open: machine.descriptors.iter().map(|d| (d.path.clone(), d.number)).collect(),
            user: self.user.cloned(),
            environment: self.environment(context),
        };
        let shown = !args.quiet && !args.json && wants.serial;
        let names = self.load.drivers.iter().map(|driver| &*driver.name);
        let cards = Cards::default();
        let show = shown.then(|| show(Highlight::new(names, cards.clone())));
        let qemu = Qemu::start(machine, &launcher(context), &launch, run, show, self.requested)
            .map_err(|error| CommandError::from_source(Exit::Internal, error))?;
        let door = Door::open(run, qemu.control(), wants.may_reboot);
        if let Err(error) = &door {
            writeln!(context.err, "note: `kireji control` does not reach this run: {error}")?;
        }
        let mut observer = guest.observer();
        let rules = Supervision {
            stop: Some(self.signals.as_fd()),
            limit: limit(args),
            patience: Patience { power_down: wants.power_down, ..Patience::default() },
            observer: Some(&mut *observer),
            topology: Some(&machine.topology),
            host_log: self.host_log(context)?,
        };
        // The panic of a guest that is kept, as it was read and as it was told.
        let mut shown: Option<(Panic, Panic)> = None;
        let outcome = qemu
            .supervise(rules, &mut |event| {
                // Before it is told: who knows it may rely on the colours.
                if let Event::Places { places, .. } = &event {
                    cards.are_at(places);
                }
                record.tell(&event, context);
                timeline.event(&event);
                // QEMU's word for it (qapi/run-state.json, ShutdownCause).
                record.shut_down |= matches!(&event, Event::Qemu { name, data, .. }
                    if name == "SHUTDOWN" && data["reason"] == "guest-shutdown");
                if let Event::Concluded { verdict, .. } = &event {
                    let ended = verdict::of_guest(verdict.clone(), |panic| {
                        let told = self.tell_panic(panic.clone(), record, context);
                        shown.insert((panic, told)).1.clone()
                    });
                    let said = if args.json { Ok(()) } else { so_far(&ended, context) };
                    record.keep(said);
                }
                if let (Event::Forward { host, guest: PORT }, Some(user)) = (&event, &self.login) {
                    let told = login::open(user, *host, args.json, &record.directory, context);
                    record.keep(told);
                } else if !args.json {
                    let said = say(&event, wants.serial, is_asked, timeline, context);
                    record.keep(said);
                }
            })
            .map_err(|error| {
                CommandError::from_source(Exit::Internal, error).hint("QEMU was killed")
            })?;
        // Of a QEMU that is gone without a word.
        timeline.mark("goal");
        if let Some(error) = &outcome.serial.error {
            writeln!(context.err, "WARNING: the serial log is not whole: {error}")?;
        }
        let told = |panic| match shown {
            Some((raw, shown)) if raw == panic => shown,
            _ => self.tell_panic(panic, record, context),
        };
        verdict::judge(&outcome, &*observer, told)
    }

    /// Tells a panic of the guest's kernel, and returns it with the names of its frames.
    fn tell_panic(
        &self,
        mut panic: Panic,
        record: &mut Record,
        context: &mut Context<'_>,
    ) -> Panic {
        let symbols = self.load.symbols(self.args, &panic, context);
        let remarks = symbolise(&mut panic, &symbols);
        record.tell(&Told::Panic { panic: &panic }, context);
        // The report says more than the end of what the debugger said.
        record.is_quiet = false;
        if !self.args.json {
            let shown = backtrace::write(&panic, context.err).map_err(CommandError::from);
            record.keep(shown);
            for remark in remarks {
                let remark = plain(&remark.to_string());
                record.keep(writeln!(context.err, "note: {remark}").map_err(CommandError::from));
            }
        }
        panic
    }
}

fn make(file: &NewFile) -> Result<(), CommandError> {
    let failed = |path: &Path, source: std::io::Error| {
        let exit = Exit::of_io(&source);
        let path = path.to_owned();
        CommandError::from_source(exit, host::atomic::WriteError { path, source })
    };
    match file {
        NewFile::Copy { from, to } => {
            std::fs::copy(from, to).map(drop).map_err(|error| failed(to, error))
        }
        NewFile::Zeros { path, size } => File::create(path)
            .and_then(|file| file.set_len(*size))
            .map_err(|error| failed(path, error)),
    }
}

/// Shows the serial line on standard output, from the thread that drains it.
fn show(mut highlight: Highlight) -> Show {
    let mut filter = Filter::default();
    // Where standard output is no terminal, this takes the styles out too.
    let mut out = anstream::stdout();
    Box::new(move |shown| {
        // Nobody reading is no reason to end the guest; the file has it all.
        drop(match shown {
            Shown::Bytes(bytes) => {
                let styled = highlight.feed(&filter.feed(bytes));
                out.write_all(&styled).and_then(|()| out.flush())
            }
            Shown::LeftOut(bytes) => {
                let held = out.write_all(&highlight.finish());
                let reset = held.and_then(|()| out.write_all(filter.reset()));
                reset.and_then(|()| writeln!(out, "\n[{bytes} bytes left out here, see the log]"))
            }
            Shown::End => {
                let held = out.write_all(&highlight.finish());
                held.and_then(|()| out.write_all(filter.reset())).and_then(|()| out.flush())
            }
        });
    })
}

/// Says what a run means whose guest is kept.
fn so_far(ended: &Ended, context: &mut Context<'_>) -> Result<(), CommandError> {
    let (_, words, reasons) = in_words(ended);
    writeln!(context.err, "{words}")?;
    for reason in reasons {
        writeln!(context.err, "  {reason}")?;
    }
    writeln!(context.err, "The guest is kept; Ctrl-C ends the run.")?;
    Ok(())
}

/// Says what a person wants to know of an event.
fn say(
    event: &Event,
    serial: bool,
    is_asked: bool,
    timeline: &Timeline,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    match event {
        Event::Stage { stage: Stage::Executed, ms } => {
            writeln!(context.err, "QEMU starts after {} ms", timeline.without_build(*ms))?;
        }
        Event::Forward { host, guest: 22 } => {
            writeln!(context.err, "ssh -p {host} user@localhost")?;
        }
        Event::Forward { host, guest } => {
            writeln!(context.err, "localhost:{host} leads to port {guest} of the guest")?;
        }
        Event::Sign { sign: Sign::Report { function, outcome }, .. } => {
            for line in report::lines(function, outcome) {
                writeln!(context.out, "{}", plain(&line))?;
            }
        }
        // Who does not see the serial line sees from this that the guest moves.
        Event::Sign { sign: Sign::Reached { stage }, ms } if !serial => {
            writeln!(context.err, "guest: {stage} after {}.{} s", ms / 1000, ms % 1000 / 100)?;
        }
        Event::Sign { sign: Sign::DriverLoaded { path }, .. } => {
            writeln!(context.err, "guest: loaded {}", plain(path))?;
        }
        Event::Sign { sign: Sign::Tested { code, output }, .. } => {
            writeln!(context.err, "guest: the test ended with exit code {code}")?;
            for line in output.lines() {
                writeln!(context.out, "{}", plain(line))?;
            }
        }
        Event::Sign { sign: Sign::Host { line }, .. } => {
            writeln!(context.err, "host: {}", plain(line))?;
        }
        Event::Sign { sign: Sign::Debugger, .. } if is_asked => {
            writeln!(context.err, "The guest's kernel is in its debugger, and is asked why.")?;
        }
        Event::Sign { sign: Sign::Debugger, .. } => {
            writeln!(context.err, "The guest's kernel is in its debugger; Ctrl-C ends the run.")?;
        }
        Event::Stopping { how: "power-down", .. } => {
            writeln!(context.err, "The guest is to shut down; Ctrl-C does not wait for it.")?;
        }
        Event::Stopping { how, .. } => writeln!(context.err, "stopping the guest: {how}")?,
        Event::Stage { .. }
        | Event::Qemu { .. }
        | Event::Sign { .. }
        | Event::Places { .. }
        | Event::Concluded { .. } => {}
    }
    Ok(())
}
