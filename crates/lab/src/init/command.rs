//! Runs a rig's command and sends what it writes through the channel.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Winsize};

use super::{CHANNEL, InitError, file_error};
use crate::channel::{self, FRAME_LIMIT, Message};
use crate::plan::Plan;

/// How often the command is asked whether it has ended while it writes nothing.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// The exit codes of env(1) for a command that cannot be found, and one that cannot be run.
const NOT_FOUND: i32 = 127;
const NOT_STARTED: i32 = 126;

/// Runs the command and sends its output and exit code.
pub fn run(plan: &Plan, channel: &mut File) -> Result<(), InitError> {
    let code = match prepared(plan).spawn() {
        Ok(mut child) => follow(&mut child, channel)?,
        Err(error) => cannot_start(plan, &error, channel)?,
    };
    send(channel, &Message::Exit(code))
}

/// Runs the command with the channel as its controlling terminal.
pub fn run_on_terminal(plan: &Plan, channel: &File, size: Winsize) -> Result<(), InitError> {
    let failed = |errno: Errno| file_error(CHANNEL)(errno);
    let mut settings = rustix::termios::tcgetattr(channel).map_err(failed)?;
    // What `stty sane` sets; the rest is as for raw bytes.
    use rustix::termios::{InputModes, LocalModes, OutputModes};
    settings.input_modes |= InputModes::ICRNL;
    settings.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    settings.local_modes |= LocalModes::ISIG
        | LocalModes::ICANON
        | LocalModes::IEXTEN
        | LocalModes::ECHO
        | LocalModes::ECHOE
        | LocalModes::ECHOK;
    rustix::termios::tcsetattr(channel, OptionalActions::Drain, &settings).map_err(failed)?;
    rustix::termios::tcsetwinsize(channel, size).map_err(failed)?;
    // The kernel starts the first process outside of any session.
    match rustix::process::setsid() {
        Ok(_) | Err(Errno::PERM) => {}
        Err(errno) => return Err(failed(errno)),
    }
    rustix::process::ioctl_tiocsctty(channel).map_err(failed)?;
    let end = || channel.try_clone().map(Stdio::from).map_err(file_error(CHANNEL));
    let mut command = prepared(plan);
    command.stdin(end()?).stdout(end()?).stderr(end()?);
    let mut child = command.spawn().map_err(InitError::Output)?;
    child.wait().map_err(InitError::Output)?;
    Ok(())
}

fn prepared(plan: &Plan) -> Command {
    let (program, arguments) = match plan.command.split_first() {
        Some((program, arguments)) => (program.as_str(), arguments),
        None => ("", &[][..]),
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(plan.environment.iter().cloned());
    command.current_dir("/root");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn cannot_start(plan: &Plan, error: &io::Error, channel: &mut File) -> Result<i32, InitError> {
    let program = plan.command.first().map_or("", String::as_str);
    let text = format!("cannot start {program} in the rig: {error}\n");
    send(channel, &Message::Stderr(text.into_bytes()))?;
    Ok(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTED })
}

/// Sends what the child writes until it has ended and its pipes are empty. A process that it left
/// behind may hold a pipe open; it is not waited for.
fn follow(child: &mut Child, channel: &mut File) -> Result<i32, InitError> {
    let mut stdout = child.stdout.take().map(|pipe| (pipe, Message::Stdout as Kind));
    let mut stderr = child.stderr.take().map(|pipe| (pipe, Message::Stderr as Kind));
    let mut ended: Option<ExitStatus> = None;
    loop {
        let timeout = if ended.is_some() { Timespec::default() } else { TICK };
        let [out, err] =
            readable([fd(&stdout), fd(&stderr)], &timeout).map_err(InitError::Output)?;
        if out {
            pass(&mut stdout, channel)?;
        }
        if err {
            pass(&mut stderr, channel)?;
        }
        match ended {
            Some(status) if !out && !err => return Ok(code(status)),
            Some(_) => {}
            None => ended = child.try_wait().map_err(InitError::Output)?,
        }
    }
}

type Kind = fn(Vec<u8>) -> Message;

fn fd<P: AsFd>(stream: &Option<(P, Kind)>) -> Option<BorrowedFd<'_>> {
    stream.as_ref().map(|(pipe, _)| pipe.as_fd())
}

fn readable(streams: [Option<BorrowedFd<'_>>; 2], timeout: &Timespec) -> io::Result<[bool; 2]> {
    let mut polled: Vec<PollFd<'_>> =
        streams.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    match rustix::event::poll(&mut polled, Some(timeout)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok([false, false]),
        Err(errno) => return Err(errno.into()),
    }
    let mut results = polled.iter().map(|fd| !fd.revents().is_empty());
    Ok(streams.map(|stream| stream.is_some() && results.next().unwrap_or_default()))
}

/// Sends what can be read now; at its end the stream is closed.
fn pass<P: Read>(stream: &mut Option<(P, Kind)>, channel: &mut File) -> Result<(), InitError> {
    let Some((pipe, kind)) = stream else { return Ok(()) };
    let mut buffer = vec![0; FRAME_LIMIT];
    let length = match pipe.read(&mut buffer) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
        Err(error) => return Err(InitError::Output(error)),
    };
    if length == 0 {
        *stream = None;
        return Ok(());
    }
    buffer.truncate(length);
    let message = kind(buffer);
    send(channel, &message)
}

fn send(channel: &mut impl Write, message: &Message) -> Result<(), InitError> {
    channel::write(channel, message).map_err(file_error(CHANNEL))
}

// As shells say it: 128 + n where signal n ended the command.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
