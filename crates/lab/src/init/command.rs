//! Runs a rig's command and sends what it writes through the channel.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Winsize};

use super::{CHANNEL, InitError, file_error};
use crate::channel::{self, FRAME_LIMIT, InputDecoder, Message, WINDOW};
use crate::plan::Plan;

/// How often the command is asked whether it has ended while it writes nothing.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// The exit codes of env(1) for a command that cannot be found, and one that cannot be run.
const NOT_FOUND: i32 = 127;
const NOT_STARTED: i32 = 126;

/// Runs the command and sends its output and exit code.
pub fn run(plan: &Plan, channel: &mut File) -> Result<(), InitError> {
    let code = match prepared(plan).spawn() {
        Ok(mut child) => {
            send(channel, &Message::Room(WINDOW))?;
            follow(&mut child, channel)?
        }
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
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn cannot_start(plan: &Plan, error: &io::Error, channel: &mut File) -> Result<i32, InitError> {
    let program = plan.command.first().map_or("", String::as_str);
    let text = format!("cannot start {program} in the rig: {error}\n");
    send(channel, &Message::Stderr(text.into_bytes()))?;
    Ok(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTED })
}

/// Sends what the child writes until it has ended and its pipes are empty, and gives it what comes
/// for it. A process that it left behind may hold a pipe open; it is not waited for.
fn follow(child: &mut Child, channel: &mut File) -> Result<i32, InitError> {
    let mut stdout = child.stdout.take().map(|pipe| (pipe, Message::Stdout as Kind));
    let mut stderr = child.stderr.take().map(|pipe| (pipe, Message::Stderr as Kind));
    let mut stdin = Feed::of(child.stdin.take())?;
    let mut ended: Option<ExitStatus> = None;
    loop {
        let timeout = if ended.is_some() { Timespec::default() } else { TICK };
        let input = stdin.is_open().then(|| channel.as_fd());
        let polled = [
            (fd(&stdout), PollFlags::IN),
            (fd(&stderr), PollFlags::IN),
            (input, PollFlags::IN),
            (stdin.waits_for(), PollFlags::OUT),
        ];
        let [out, err, input, takes] = ready(polled, &timeout).map_err(InitError::Output)?;
        if input {
            stdin.receive(channel)?;
        }
        if takes {
            stdin.write(channel)?;
        }
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

/// The child's standard input. What waits for it here is at most what was allowed to come.
struct Feed {
    pipe: Option<ChildStdin>,
    decoder: InputDecoder,
    waiting: Vec<u8>,
    /// Bytes of the channel that have been taken, of which the outside is not told yet.
    taken: u32,
    ended: bool,
}

impl Feed {
    fn of(pipe: Option<ChildStdin>) -> Result<Self, InitError> {
        if let Some(pipe) = &pipe {
            // The child may never read, and is to be followed all the same.
            rustix::io::ioctl_fionbio(pipe, true)
                .map_err(|errno| InitError::Output(errno.into()))?;
        }
        let (decoder, waiting) = (InputDecoder::default(), Vec::new());
        Ok(Self { pipe, decoder, waiting, taken: 0, ended: false })
    }

    /// Whether more may come.
    fn is_open(&self) -> bool {
        !self.ended
    }

    /// The pipe, while something waits for it.
    fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().filter(|_| !self.waiting.is_empty()).map(AsFd::as_fd)
    }

    fn receive(&mut self, channel: &mut File) -> Result<(), InitError> {
        let mut buffer = [0; FRAME_LIMIT];
        let length = match channel.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(file_error(CHANNEL)(error)),
        };
        self.decoder.feed(&buffer[..length]);
        while let Some((piece, bytes)) = self.decoder.next_piece() {
            self.ended |= piece.is_empty();
            self.taken = self.taken.saturating_add(bytes);
            self.waiting.extend(piece);
        }
        if self.ended && self.waiting.is_empty() {
            self.pipe = None;
        }
        Ok(())
    }

    fn write(&mut self, channel: &mut File) -> Result<(), InitError> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        match pipe.write(&self.waiting) {
            Ok(length) => drop(self.waiting.drain(..length)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(());
            }
            // The child reads no more. Nothing more is asked for.
            Err(_) => {
                self.pipe = None;
                return Ok(());
            }
        }
        if !self.waiting.is_empty() {
            return Ok(());
        }
        if self.ended {
            self.pipe = None;
            return Ok(());
        }
        send(channel, &Message::Room(std::mem::take(&mut self.taken)))
    }
}

type Kind = fn(Vec<u8>) -> Message;

fn fd<P: AsFd>(stream: &Option<(P, Kind)>) -> Option<BorrowedFd<'_>> {
    stream.as_ref().map(|(pipe, _)| pipe.as_fd())
}

/// Waits for one of the streams, and returns which are ready.
fn ready<const N: usize>(
    streams: [(Option<BorrowedFd<'_>>, PollFlags); N],
    timeout: &Timespec,
) -> io::Result<[bool; N]> {
    let one = |(fd, flags): &(Option<_>, _)| fd.map(|fd| PollFd::from_borrowed_fd(fd, *flags));
    let mut polled: Vec<PollFd<'_>> = streams.iter().filter_map(one).collect();
    match rustix::event::poll(&mut polled, Some(timeout)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok([false; N]),
        Err(errno) => return Err(errno.into()),
    }
    let mut results = polled.iter().map(|fd| !fd.revents().is_empty());
    Ok(streams.map(|(fd, _)| fd.is_some() && results.next().unwrap_or_default()))
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
