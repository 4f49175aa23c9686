//! QEMU's control protocol (docs/interop/qmp-spec.txt of QEMU): lines of JSON over a socket.
//!
//! [`Connection`] frames messages and never blocks; [`Control`] is the handle by which any thread
//! asks the thread that looks after QEMU to pass a command on.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::{Value, json};

use crate::launch::Report;

/// The longest line that is believed, in bytes; the longest answers of ours have some ten thousand.
const LONGEST_LINE: usize = 4 << 20;
/// How long QEMU may take for a simple command, its own start included; a busy host is slow.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long QEMU may leave a command unread before it counts as hung.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// The control channel failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// It was closed, or cannot be read or written.
    #[error("lost QEMU's control channel")]
    Lost(#[source] io::Error),
    /// QEMU sent what is not its protocol.
    #[error("QEMU's control channel speaks another protocol: {0}")]
    Protocol(String),
    /// QEMU refused a command.
    #[error("QEMU refused `{command}`: {description}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's own words.
        description: String,
    },
    /// QEMU did not answer in time.
    #[error("QEMU did not answer `{command}` within {} s", limit.as_secs_f32())]
    Silent {
        /// The command.
        command: String,
        /// How long it had.
        limit: Duration,
    },
    /// QEMU has ended.
    #[error("QEMU has ended")]
    Ended,
}

/// A message from the other end.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// What the launcher says before it becomes QEMU.
    Launch(Report),
    /// QEMU's first message.
    Greeting,
    /// The answer to a command.
    Answer {
        /// The command's id.
        id: u64,
        /// What it returned, or QEMU's description of the error.
        result: Result<Value, String>,
    },
    /// Something happened.
    Event {
        /// Its name.
        name: String,
        /// What belongs to it.
        data: Value,
    },
}

/// The control channel, framed.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    next_id: u64,
}

impl Connection {
    /// Takes a connected socket.
    ///
    /// # Errors
    /// It cannot be made non-blocking.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, buffer: Vec::new(), next_id: 1 })
    }

    /// Sends a command and returns its id.
    ///
    /// # Errors
    /// The channel is lost, or QEMU does not read it.
    pub fn send(&mut self, command: &str, arguments: Option<&Value>) -> Result<u64, QmpError> {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = json!({"execute": command, "id": id});
        if let (Some(object), Some(arguments)) = (line.as_object_mut(), arguments) {
            object.insert("arguments".to_owned(), arguments.clone());
        }
        let line = format!("{line}\n");
        self.write(line.as_bytes()).map_err(QmpError::Lost)?;
        Ok(id)
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + WRITE_LIMIT;
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    wait(self.stream.as_fd(), PollFlags::OUT, left)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns the messages that have arrived, without waiting for more.
    ///
    /// # Errors
    /// The channel is lost or speaks another protocol; what arrived before comes first.
    pub fn receive(&mut self) -> Result<Vec<Message>, QmpError> {
        let mut chunk = [0; 16384];
        let lost = loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break Some(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break None,
                // A QEMU that ends with a command unread resets the connection.
                Err(error) => break Some(error),
            }
            if self.buffer.len() > LONGEST_LINE && !self.buffer.contains(&b'\n') {
                return Err(QmpError::Protocol("a line without end".to_owned()));
            }
        };
        let messages = self.whole_lines()?;
        match lost {
            Some(error) if messages.is_empty() => Err(QmpError::Lost(error)),
            _ => Ok(messages),
        }
    }

    fn whole_lines(&mut self) -> Result<Vec<Message>, QmpError> {
        let end = self.buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.buffer.drain(..end).collect();
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        lines.filter_map(|line| parse(line).transpose()).collect()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Parses a line; `None` for messages that nobody waits for.
fn parse(line: &[u8]) -> Result<Option<Message>, QmpError> {
    let value: Value = serde_json::from_slice(line).map_err(|_| {
        let shown: String = String::from_utf8_lossy(line).chars().take(80).collect();
        QmpError::Protocol(format!("`{shown}`"))
    })?;
    if let Some(report) = value.get("launch") {
        let report = serde_json::from_value(report.clone());
        return report.map(|report| Some(Message::Launch(report))).map_err(|error| {
            QmpError::Protocol(format!("the launcher's report is malformed: {error}"))
        });
    }
    if value.get("QMP").is_some() {
        return Ok(Some(Message::Greeting));
    }
    if let Some(name) = value.get("event").and_then(Value::as_str) {
        let data = value.get("data").cloned().unwrap_or_default();
        return Ok(Some(Message::Event { name: name.to_owned(), data }));
    }
    let Some(id) = value.get("id").and_then(Value::as_u64) else { return Ok(None) };
    let result = match value.get("return") {
        Some(returned) => Ok(returned.clone()),
        None => {
            let description = value.pointer("/error/desc").and_then(Value::as_str);
            Err(description.unwrap_or("no reason given").to_owned())
        }
    };
    Ok(Some(Message::Answer { id, result }))
}

/// Waits until a descriptor is ready or `limit` is over.
pub(crate) fn wait(fd: BorrowedFd<'_>, flags: PollFlags, limit: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
    match rustix::event::poll(&mut [PollFd::new(&fd, flags)], Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// A command that another thread wants passed on.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) command: String,
    pub(crate) arguments: Option<Value>,
    pub(crate) reply: Sender<Result<Value, QmpError>>,
}

/// The other end of [`Control`].
#[derive(Debug)]
pub(crate) struct Wishes {
    pub(crate) queue: Receiver<Wish>,
    pub(crate) bell: UnixStream,
}

/// A handle to a running QEMU, for any thread.
#[derive(Clone, Debug)]
pub struct Control {
    queue: Sender<Wish>,
    bell: Arc<UnixStream>,
}

impl Control {
    pub(crate) fn pair() -> io::Result<(Self, Wishes)> {
        let (queue, receiver) = mpsc::channel();
        let (bell, listener) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        listener.set_nonblocking(true)?;
        Ok((Self { queue, bell: Arc::new(bell) }, Wishes { queue: receiver, bell: listener }))
    }

    /// Has QEMU execute a command.
    ///
    /// # Errors
    /// QEMU refuses it, does not answer within `limit`, or has ended.
    pub fn execute(
        &self,
        command: &str,
        arguments: Option<Value>,
        limit: Duration,
    ) -> Result<Value, QmpError> {
        let (reply, answer) = mpsc::channel();
        let wish = Wish { command: command.to_owned(), arguments, reply };
        self.queue.send(wish).map_err(|_| QmpError::Ended)?;
        // A full socket rings already.
        drop((&*self.bell).write(b"!"));
        match answer.recv_timeout(limit) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => Err(QmpError::Ended),
            Err(RecvTimeoutError::Timeout) => {
                Err(QmpError::Silent { command: command.to_owned(), limit })
            }
        }
    }

    fn simple(&self, command: &str) -> Result<Value, QmpError> {
        self.execute(command, None, ANSWER_LIMIT)
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// As [`Control::execute`].
    pub fn power_down(&self) -> Result<(), QmpError> {
        self.simple("system_powerdown").map(drop)
    }

    /// Resets the machine.
    ///
    /// # Errors
    /// As [`Control::execute`].
    pub fn reset(&self) -> Result<(), QmpError> {
        self.simple("system_reset").map(drop)
    }

    /// Sends a non-maskable interrupt to the guest.
    ///
    /// # Errors
    /// As [`Control::execute`].
    pub fn inject_nmi(&self) -> Result<(), QmpError> {
        self.simple("inject-nmi").map(drop)
    }

    /// Ends QEMU.
    ///
    /// # Errors
    /// As [`Control::execute`].
    pub fn quit(&self) -> Result<(), QmpError> {
        self.simple("quit").map(drop)
    }

    /// Returns the machine's PCI functions, for [`crate::machine::Topology::check`].
    ///
    /// # Errors
    /// As [`Control::execute`].
    pub fn query_pci(&self) -> Result<Value, QmpError> {
        self.simple("query-pci")
    }

    /// Returns the state of the machine, such as `running` or `io-error`.
    ///
    /// # Errors
    /// As [`Control::execute`].
    pub fn query_status(&self) -> Result<String, QmpError> {
        let answer = self.simple("query-status")?;
        let status = answer.get("status").and_then(Value::as_str);
        let odd = || QmpError::Protocol("query-status without a status".to_owned());
        status.map(str::to_owned).ok_or_else(odd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Connection::new(ours).unwrap(), theirs)
    }

    #[test]
    fn messages_are_told_apart() {
        let (mut connection, mut qemu) = pair();
        qemu.write_all(
            b"{\"launch\": \"started\"}\r\n{\"QMP\": {\"version\": {}}}\r\n\
              {\"return\": {}, \"id\": 1}\r\n{\"return\": {}}\r\n\
              {\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 2}\r\n\
              {\"timestamp\": {}, \"event\": \"RESET\", \"data\": {\"guest\": true}}\r\n{\"ret",
        )
        .unwrap();
        assert_eq!(
            connection.receive().unwrap(),
            [
                Message::Launch(Report::Started),
                Message::Greeting,
                Message::Answer { id: 1, result: Ok(json!({})) },
                Message::Answer { id: 2, result: Err("no".to_owned()) },
                Message::Event { name: "RESET".to_owned(), data: json!({"guest": true}) },
            ]
        );
        qemu.write_all(b"urn\": 5, \"id\": 3}\n").unwrap();
        let answer = Message::Answer { id: 3, result: Ok(json!(5)) };
        assert_eq!(connection.receive().unwrap(), [answer]);
        assert_eq!(connection.receive().unwrap(), []);
        drop(qemu);
        assert!(matches!(connection.receive(), Err(QmpError::Lost(_))));
    }

    #[test]
    fn what_was_said_before_a_reset_is_heard() {
        let (mut connection, mut qemu) = pair();
        connection.send("quit", None).unwrap();
        qemu.write_all(b"{\"return\": {}, \"id\": 1}\n").unwrap();
        drop(qemu);
        assert_eq!(connection.receive().unwrap().len(), 1);
        assert!(matches!(connection.receive(), Err(QmpError::Lost(_))));
    }

    #[test]
    fn commands_are_lines_with_ids() {
        let (mut connection, mut qemu) = pair();
        assert_eq!(connection.send("quit", None).unwrap(), 1);
        assert_eq!(connection.send("device_del", Some(&json!({"id": "x"}))).unwrap(), 2);
        let mut bytes = vec![0; 256];
        let count = qemu.read(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines[0], json!({"execute": "quit", "id": 1}));
        assert_eq!(lines[1]["arguments"]["id"], "x");
    }

    #[test]
    fn another_protocol_is_refused() {
        let (mut connection, mut other) = pair();
        other.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
        assert!(matches!(connection.receive(), Err(QmpError::Protocol(_))));
    }

    #[test]
    fn a_line_without_end_is_not_collected_for_ever() {
        let (mut connection, mut other) = pair();
        let writer = std::thread::spawn(move || {
            let chunk = vec![b'x'; 1 << 16];
            while other.write_all(&chunk).is_ok() {}
        });
        let error = loop {
            match connection.receive() {
                Ok(messages) => assert!(messages.is_empty()),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, QmpError::Protocol(_)), "{error}");
        drop(connection);
        writer.join().unwrap();
    }

    #[test]
    fn a_wish_that_nobody_hears_is_told() {
        let (control, wishes) = Control::pair().unwrap();
        let limit = Duration::from_millis(10);
        let silent = control.execute("quit", None, limit).unwrap_err();
        assert!(matches!(silent, QmpError::Silent { .. }));
        drop(wishes);
        assert!(matches!(control.quit(), Err(QmpError::Ended)));
    }
}
