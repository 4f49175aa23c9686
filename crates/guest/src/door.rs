//! The door to a run that goes on: a socket in its directory, by which another process has QEMU do
//! what the person at it wants.
//!
//! One line of JSON is an order, one line the answer, then the connection ends. Who may open it is
//! who may enter the run's directory: its owner (mode 0700) and root.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, unlinkat};
use serde::{Deserialize, Serialize};

use crate::qmp::{Control, QmpError};
use crate::rundir::{RunDirectory, RunError};

/// The socket's name in the run's directory.
const NAME: &str = "control";
/// What is read of an order or an answer at most, in bytes.
const LIMIT: u64 = 4096;
/// How long one that has the door open may keep others waiting without a word.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer may take: longer than QEMU has for the command.
const ANSWER: Duration = Duration::from_secs(30);

/// What QEMU is to do with a running guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Reset the machine, as its button does.
    Reset,
    /// Send a non-maskable interrupt, by which a kernel that hangs enters its debugger.
    Nmi,
    /// Press the power button.
    Shutdown,
    /// End QEMU at once.
    Quit,
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    order: Order,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    error: Option<String>,
}

/// An order could not be given, or was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Nobody looks after the run any more.
    #[error("run {} does not go on", run.display())]
    Over {
        /// The run's directory.
        run: PathBuf,
    },
    /// The order could not be passed on.
    #[error("cannot reach run {}", run.display())]
    Unreachable {
        /// The run's directory.
        run: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// It arrived, and was not carried out.
    #[error("QEMU does not do it: {0}")]
    Refused(String),
}

/// The open door of a run. It is shut when this is dropped.
#[derive(Debug)]
pub struct Door {
    directory: File,
    /// Closed to end the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Opens the door of a run. `may_reboot` says whether the machine starts again after a reset;
    /// one that ends instead is not reset.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(run: &RunDirectory, control: Control, may_reboot: bool) -> Result<Self, RunError> {
        let path = run.path().join(NAME);
        let failed = |source| RunError::Io { verb: "create", path: path.clone(), source };
        let directory = File::open(run.path()).map_err(failed)?;
        let listener = UnixListener::bind(within(&directory)).map_err(failed)?;
        let (stop, stopped) = UnixStream::pair().map_err(failed)?;
        run.hand_over(&path)?;
        let thread = std::thread::Builder::new()
            .name("door".to_owned())
            .spawn(move || {
                while wait(&listener, &stopped) {
                    if let Ok((visitor, _)) = listener.accept() {
                        // Who leaves before the answer has no need of it.
                        drop(serve(&visitor, &control, may_reboot));
                    }
                }
            })
            .map_err(failed)?;
        Ok(Self { directory, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        // Of a directory that is gone, nothing is left to remove.
        let _ = unlinkat(&self.directory, NAME, AtFlags::empty());
    }
}

/// The socket by way of its directory: a socket's own path may have 107 bytes at most (unix(7)).
fn within(directory: &File) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(NAME)
}

/// Waits for a visitor; false when the door is to be shut.
fn wait(listener: &UnixListener, stopped: &UnixStream) -> bool {
    let mut waits = [
        PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
    ];
    match poll(&mut waits, None) {
        Ok(_) => waits[1].revents().is_empty(),
        Err(errno) => errno == rustix::io::Errno::INTR,
    }
}

fn serve(visitor: &UnixStream, control: &Control, may_reboot: bool) -> io::Result<()> {
    visitor.set_read_timeout(Some(PATIENCE))?;
    visitor.set_write_timeout(Some(PATIENCE))?;
    let done = match serde_json::from_slice::<Request>(&line(visitor)?) {
        Ok(Request { order }) => obey(order, control, may_reboot),
        Err(error) => Err(error.to_string()),
    };
    say(visitor, &Answer { error: done.err() })
}

fn obey(order: Order, control: &Control, may_reboot: bool) -> Result<(), String> {
    let done = match order {
        Order::Reset if !may_reboot => return Err("this run would end with a reset".to_owned()),
        Order::Reset => control.reset(),
        Order::Nmi => control.inject_nmi(),
        Order::Shutdown => control.power_down(),
        Order::Quit => control.quit(),
    };
    match done {
        // It may be gone before it can answer.
        Err(QmpError::Ended) if order == Order::Quit => Ok(()),
        done => done.map_err(|error| error.to_string()),
    }
}

fn line(from: &UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(from.take(LIMIT)).read_until(b'\n', &mut line)?;
    Ok(line)
}

fn say(to: &UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    (&*to).write_all(&line)
}

/// Gives an order to the run whose directory this is, and waits until it is carried out.
///
/// # Errors
/// The run does not go on, cannot be reached, or QEMU refuses.
pub fn order(run: &Path, order: Order) -> Result<(), DoorError> {
    let asked = || {
        let directory = File::open(run)?;
        let door = UnixStream::connect(within(&directory))?;
        door.set_read_timeout(Some(ANSWER))?;
        door.set_write_timeout(Some(PATIENCE))?;
        say(&door, &Request { order })?;
        serde_json::from_slice::<Answer>(&line(&door)?).map_err(io::Error::from)
    };
    match asked() {
        Ok(Answer { error: None }) => Ok(()),
        Ok(Answer { error: Some(error) }) => Err(DoorError::Refused(error)),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                DoorError::Over { run: run.to_owned() }
            }
            _ => DoorError::Unreachable { run: run.to_owned(), source: error },
        }),
    }
}
