//! A shell in a rig, for a person at a terminal.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use host::{Runner, Sysroot};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios};

use crate::channel::{Decoder, Message};
use crate::plan::Terminal;
use crate::run::{Input, LabError, Request, Session};

/// The key that ends the shell from outside, even when the rig hangs: Ctrl-].
pub const END_KEY: u8 = 0x1d;

/// What a terminal that does not know its size is taken for.
const USUAL_SIZE: Terminal = Terminal { rows: 24, columns: 80 };

/// Boots the rig and gives the person at `terminal` a shell in it, until the shell or the person
/// ends it. The request's command is the shell. The terminal is raw meanwhile, and set back at the
/// end whatever happens.
///
/// # Errors
/// `terminal` is none, the lab has no busybox to be the shell, or the rig failed.
pub fn shell(
    host: &Sysroot,
    runner: &dyn Runner,
    request: Request<'_>,
    terminal: BorrowedFd<'_>,
    output: &mut dyn Write,
) -> Result<(), LabError> {
    let settings =
        rustix::termios::tcgetattr(terminal).map_err(|errno| LabError::NoTerminal(errno.into()))?;
    if request.tools.busybox.is_none() {
        return Err(LabError::NoShell);
    }
    let size = match rustix::termios::tcgetwinsize(terminal) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            Terminal { rows: size.ws_row, columns: size.ws_col }
        }
        _ => USUAL_SIZE,
    };
    let mut session = Session::start(host, runner, request, Some(size))?;
    let ended = talk(&mut session, request, terminal, settings, output);
    ended.map_err(|error| session.explain(error))
}

fn talk(
    session: &mut Session,
    request: Request<'_>,
    terminal: BorrowedFd<'_>,
    settings: Termios,
    output: &mut dyn Write,
) -> Result<(), LabError> {
    let Some(mut from_rig) = session.qemu.output() else {
        return Err(LabError::Channel(io::ErrorKind::NotConnected.into()));
    };
    let mut decoder = Decoder::default();
    let mut started = false;
    while !started {
        let mut nothing = Input::new(None);
        session.receive(&mut from_rig, &mut decoder, request.cancel, &mut nothing)?;
        // What follows the start is the shell's, and no message.
        while let Some(message) = decoder.next_message()? {
            match message {
                Message::Started => {
                    started = true;
                    break;
                }
                Message::Failed(reason) => return Err(LabError::Inside { reason }),
                _ => {}
            }
        }
    }
    pass(&decoder.into_rest(), output)?;
    let _raw = Raw::set(terminal, settings)?;
    loop {
        let mut polled = vec![
            PollFd::new(&from_rig, PollFlags::IN),
            PollFd::from_borrowed_fd(terminal, PollFlags::IN),
        ];
        polled.extend(request.cancel.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match rustix::event::poll(&mut polled, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(LabError::Channel(errno.into())),
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready.get(2) == Some(&true) {
            return Err(LabError::Cancelled);
        }
        let mut buffer = [0; 4096];
        if ready[0] {
            match from_rig.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => pass(&buffer[..length], output)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LabError::Channel(error)),
            }
        }
        if ready[1] {
            let length = match rustix::io::read(terminal.as_fd(), &mut buffer[..]) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(LabError::NoTerminal(errno.into())),
            };
            if buffer[..length].contains(&END_KEY) {
                return Ok(());
            }
            session.qemu.input().write_all(&buffer[..length]).map_err(LabError::Channel)?;
        }
    }
}

fn pass(bytes: &[u8], output: &mut dyn Write) -> Result<(), LabError> {
    output.write_all(bytes).and_then(|()| output.flush()).map_err(LabError::Output)
}

/// A terminal in raw mode; set back when this value goes away.
struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    fn set(terminal: BorrowedFd<'a>, before: Termios) -> Result<Self, LabError> {
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(terminal, OptionalActions::Flush, &raw)
            .map_err(|errno| LabError::NoTerminal(errno.into()))?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // A terminal that has gone away needs no settings.
        let _ = rustix::termios::tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}
