//! QEMU from its start to its end.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use guest::Guest;
use guest::guests::Sign;
use guest::launch::{Launch, User};
use guest::machine::{Machine, NewFile, Note};
use guest::process::{Event, Launcher, Patience, Qemu, Stage, Supervision};
use guest::rundir::{End, Meta, RunDirectory, RunError, timestamp};
use guest::serial::{Show, Shown};
use host::Owner;

use crate::shown::{Filter, escaped, plain};
use crate::signals::Signals;
use crate::{CommandError, Context, Exit};

use super::{Args, limit, report, verdict, window};

/// A run that is ready to start.
pub(super) struct Session<'a> {
    pub(super) args: &'a Args,
    pub(super) run: &'a RunDirectory,
    pub(super) machine: Machine,
    pub(super) user: Option<User>,
    pub(super) requested: Instant,
    pub(super) guest: &'a dyn Guest,
    /// Where signals that end the run show.
    pub(super) signals: &'a Signals,
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
        RunError::Io { source, .. } => match source.kind() {
            std::io::ErrorKind::StorageFull => Exit::NoSpace,
            std::io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::HostCannot,
        },
        _ => Exit::HostCannot,
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

/// Makes the directory that keeps what the run leaves.
pub(super) fn directory(
    args: &Args,
    context: &Context<'_>,
    guest: &dyn Guest,
    user: Option<&User>,
) -> Result<RunDirectory, CommandError> {
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
    RunDirectory::create(&context.vars.state.join("runs"), now, &meta, user).map_err(run_error)
}

impl Session<'_> {
    /// What QEMU gets of another environment than this process has: under sudo, the user's.
    fn environment(&self, context: &Context<'_>) -> window::Environment {
        let kept = |name: &str| std::env::var(name).ok();
        let user = self.user.as_ref();
        user.map_or_else(Default::default, |user| window::environment(context.host, user, &kept))
    }

    /// Starts QEMU, follows it to its end, and says how it ended.
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<Exit, CommandError> {
        let Self { args, run, machine, guest, .. } = &self;
        let wants = guest.wants();
        for file in &machine.files {
            make(file)?;
            let (NewFile::Copy { to: path, .. } | NewFile::Zeros { path, .. }) = file;
            run.hand_over(path).map_err(run_error)?;
        }
        run.write_arguments(&machine.executable, &machine.arguments).map_err(run_error)?;
        writeln!(context.err, "run {}", run.path().display())?;
        // Should the card take the host down with it, this is what is left.
        run.sync().map_err(run_error)?;

        let launch = Launch {
            parent: std::process::id(),
            locked_memory: machine.locked_memory,
            open: machine.descriptors.iter().map(|d| (d.path.clone(), d.number)).collect(),
            user: self.user.clone(),
            environment: self.environment(context),
        };
        let shown = !args.quiet && !args.json && wants.serial;
        let show = shown.then(show);
        let qemu = Qemu::start(machine, &launcher(context), &launch, run, show, self.requested)
            .map_err(|error| CommandError::from_source(Exit::Internal, error))?;
        let mut observer = guest.observer();
        let rules = Supervision {
            stop: Some(self.signals.as_fd()),
            limit: limit(args),
            patience: Patience { power_down: wants.power_down, ..Patience::default() },
            observer: Some(&mut *observer),
        };
        let mut failure = None;
        let outcome = qemu
            .supervise(rules, &mut |event| {
                let told = tell(&event, args, wants.serial, run, context);
                // A run goes on without its narration; its end tells of the first failure.
                failure = failure.take().or(told.err());
            })
            .map_err(|error| {
                CommandError::from_source(Exit::Internal, error).hint("QEMU was killed")
            })?;
        let judged = verdict::judge(&outcome, &*observer);
        let (exit, words) = match &judged {
            Ok((exit, words)) => (*exit, words.clone()),
            Err(error) => (error.exit(), verdict::sentence(&error.to_string())),
        };
        let ended = timestamp(context.clock.now());
        let end = End { ended, outcome: words.clone(), exit_code: exit as u8 };
        run.end(&end).map_err(run_error)?;
        if let Some(error) = outcome.serial.error {
            writeln!(context.err, "WARNING: the serial log is not whole: {error}")?;
        }
        if let Some(error) = failure.filter(|error| !error.is_broken_pipe()) {
            return Err(error);
        }
        let (exit, words) = judged?;
        writeln!(context.err, "{words}")?;
        Ok(exit)
    }
}

fn make(file: &NewFile) -> Result<(), CommandError> {
    let failed = |path: &Path, source: std::io::Error| {
        let exit = match source.kind() {
            std::io::ErrorKind::StorageFull => Exit::NoSpace,
            _ => Exit::HostCannot,
        };
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
fn show() -> Show {
    let mut filter = Filter::default();
    // Where standard output is no terminal, this takes the styles out too.
    let mut out = anstream::stdout();
    Box::new(move |shown| {
        // Nobody reading is no reason to end the guest; the file has it all.
        drop(match shown {
            Shown::Bytes(bytes) => out.write_all(&filter.feed(bytes)).and_then(|()| out.flush()),
            Shown::LeftOut(bytes) => {
                let reset = out.write_all(filter.reset());
                reset.and_then(|()| writeln!(out, "\n[{bytes} bytes left out here, see the log]"))
            }
            Shown::End => out.write_all(filter.reset()).and_then(|()| out.flush()),
        });
    })
}

fn tell(
    event: &Event,
    args: &Args,
    serial: bool,
    run: &RunDirectory,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    run.event(event).map_err(run_error)?;
    if args.json {
        writeln!(context.out, "{}", escaped(&serde_json::to_string(event)?))?;
        return Ok(());
    }
    match event {
        Event::Stage { stage: Stage::Executed, ms } => {
            writeln!(context.err, "QEMU starts after {ms} ms")?;
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
        Event::Sign { sign: Sign::Debugger, .. } => {
            writeln!(context.err, "The guest's kernel is in its debugger; Ctrl-C ends the run.")?;
        }
        Event::Stopping { how: "power-down", .. } => {
            writeln!(context.err, "The guest is to shut down; Ctrl-C does not wait for it.")?;
        }
        Event::Stopping { how, .. } => writeln!(context.err, "stopping the guest: {how}")?,
        Event::Stage { .. } | Event::Qemu { .. } | Event::Sign { .. } => {}
    }
    Ok(())
}
