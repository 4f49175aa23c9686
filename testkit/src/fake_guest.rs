//! A guest that is not there: a program in QEMU's place that speaks like Haiku's serial line.
//!
//! It answers on QEMU's control channel what kireji asks, and plays a [`Script`] on the serial
//! line: recorded logs, a kernel debugger with recorded answers, and every way in which a guest can
//! come to its end. A run of it takes milliseconds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The variable that names the file of the script.
const SCRIPT: &str = "FAKE_GUEST";
/// How long it waits for what does not come, so that none is left behind.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the debugger asks for a command with.
const PROMPT: &str = "kdebug> ";

/// What a fake guest does, step by step.
#[derive(Clone, Debug, Default)]
pub struct Script(Vec<Value>);

impl Script {
    /// Sends text over the serial line.
    #[must_use]
    pub fn say(self, text: &str) -> Self {
        self.step(json!({"say": text}))
    }

    /// Says, whenever it is asked, that this port of the loopback interface leads to a port of the
    /// guest.
    #[must_use]
    pub fn forward(self, host: u16, guest: u16) -> Self {
        let table =
            format!("  TCP[HOST_FORWARD]  12  127.0.0.1 {host}  10.0.2.15 {guest}  0  0\r\n");
        self.step(json!({"forward": table}))
    }

    /// Sends so many bytes of every value over the serial line, as fast as they are taken.
    #[must_use]
    pub fn flood(self, bytes: u64) -> Self {
        self.step(json!({"flood": bytes}))
    }

    /// Waits for a non-maskable interrupt.
    #[must_use]
    pub fn await_interrupt(self) -> Self {
        self.step(json!({"await": "inject-nmi"}))
    }

    /// Waits until kireji knows where the guest sees the card.
    #[must_use]
    pub fn await_places(self) -> Self {
        self.step(json!({"await_event": "places"}))
    }

    /// From now on shuts the machine down as soon as kireji has told its verdict, whatever else it
    /// does then.
    #[must_use]
    pub fn leave_after_verdict(self) -> Self {
        self.step(json!({"leave": "concluded"}))
    }

    /// Runs the test script that is in the guest's disk, whose command writes `output` and ends
    /// with `code`.
    #[must_use]
    pub fn test_script(self, code: i32, output: &str) -> Self {
        self.step(json!({"test": code, "output": output}))
    }

    /// Does not answer to the power button.
    #[must_use]
    pub fn deaf(self) -> Self {
        self.step(json!({"deaf": true}))
    }

    /// Lets time pass.
    #[must_use]
    pub fn wait(self, time: Duration) -> Self {
        self.step(json!({"wait": u64::try_from(time.as_millis()).unwrap_or(u64::MAX)}))
    }

    /// Prompts, and answers commands as in this recorded session.
    #[must_use]
    pub fn debugger(self, session: &str) -> Self {
        self.step(json!({"debugger": session}))
    }

    /// Shuts the machine down.
    #[must_use]
    pub fn shut_down(self) -> Self {
        self.step(json!({"shutdown": "guest-shutdown"}))
    }

    /// Resets a machine that may not reboot.
    #[must_use]
    pub fn reset(self) -> Self {
        self.step(json!({"shutdown": "guest-reset"}))
    }

    /// Resets a machine that goes on.
    #[must_use]
    pub fn reboot(self) -> Self {
        self.step(json!({"reboot": true}))
    }

    /// QEMU ends with this exit code, and these words on standard error.
    #[must_use]
    pub fn crash(self, code: i32, words: &str) -> Self {
        self.step(json!({"crash": code, "words": words}))
    }

    fn step(mut self, step: Value) -> Self {
        self.0.push(step);
        self
    }

    /// Writes it to a file, with what kireji is to know of the fake QEMU `program` beside it, and
    /// returns the command that runs `kireji` with it; arguments of `run` are still to be added.
    ///
    /// # Panics
    /// A file cannot be written.
    pub fn command(&self, kireji: &Path, program: &Path, directory: &Path) -> Command {
        self.command_of(&["run"], kireji, program, directory)
    }

    /// The same, of another command than `run`.
    ///
    /// # Panics
    /// A file cannot be written.
    pub fn command_of(
        &self,
        words: &[&str],
        kireji: &Path,
        program: &Path,
        directory: &Path,
    ) -> Command {
        let script = directory.join("script.json");
        std::fs::write(&script, Value::from(self.0.clone()).to_string()).expect("the script");
        let known = include_str!("../../crates/guest/tests/it/data/debian-12-qemu-7.2.json");
        let mut known: Value = serde_json::from_str(known).expect("capabilities");
        known["executable"] = json!(program);
        let capabilities = directory.join("capabilities.json");
        std::fs::write(&capabilities, known.to_string()).expect("the capabilities");
        let mut command = Command::new(kireji);
        command
            .env(SCRIPT, &script)
            .env("XDG_STATE_HOME", directory.join("state"))
            .env("XDG_CACHE_HOME", directory.join("cache"))
            .args(words)
            .arg("--qemu-caps")
            .arg(capabilities);
        command
    }
}

/// Builds the fake QEMU, once, beside the program that is tested and as that was, and returns its
/// path.
///
/// # Panics
/// It cannot be built.
pub fn program(kireji: &Path) -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let is_release = kireji.parent().is_some_and(|directory| directory.ends_with("release"));
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "kireji-testkit", "--bin", "fake-qemu"])
            .args(is_release.then_some("--release"))
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the fake QEMU cannot be built");
        kireji.with_file_name("fake-qemu")
    })
}

/// Plays the script, in QEMU's place: standard input is the control channel, and standard output
/// the serial line.
///
/// # Panics
/// There is no script, or a channel is gone.
pub fn run() -> i32 {
    let path = std::env::var_os(SCRIPT).expect("a script");
    let script: Value =
        serde_json::from_slice(&std::fs::read(path).expect("the script")).expect("JSON");
    let file = |fd: std::os::fd::BorrowedFd<'_>| {
        File::from(fd.try_clone_to_owned().expect("a channel of QEMU"))
    };
    let control = file(std::io::stdin().as_fd());
    let line = file(std::io::stdout().as_fd());
    let (sender, commands) = mpsc::channel();
    let mut guest = Guest { control: control.try_clone().expect("a channel"), line, commands };
    let steps = script.as_array().expect("steps").clone();
    let forwards: String = steps.iter().filter_map(|step| step["forward"].as_str()).collect();
    let is_deaf = steps.iter().any(|step| step["deaf"] == true);
    std::thread::spawn(move || answer(control, &sender, &forwards, is_deaf));
    guest.expect("cont");
    for step in &steps {
        if let Some(code) = guest.step(step) {
            return code;
        }
    }
    // It goes on until it is told to end.
    guest.expect("nothing that is ever said");
    0
}

/// Answers what kireji asks of QEMU, and passes each command on.
fn answer(mut control: File, commands: &Sender<String>, forwards: &str, is_deaf: bool) {
    let places = json!([{"bus": 0, "devices": [
        {"bus": 0, "slot": 2, "function": 0, "qdev_id": "dev1.0"}]}]);
    tell(&mut control, &json!({"QMP": {"version": {}, "capabilities": []}}));
    let mut lines = BufReader::new(control.try_clone().expect("the control channel"));
    let mut line = String::new();
    while matches!(lines.read_line(&mut line), Ok(count) if count > 0) {
        let command: Value = serde_json::from_str(&line).expect("a command");
        line.clear();
        let name = command["execute"].as_str().unwrap_or_default().to_owned();
        let result = match &*name {
            "query-pci" => places.clone(),
            "human-monitor-command" => json!(forwards),
            _ => json!({}),
        };
        tell(&mut control, &json!({"return": result, "id": command["id"]}));
        let reason = match &*name {
            "quit" => Some("host-qmp-quit"),
            "system_powerdown" if !is_deaf => Some("guest-shutdown"),
            _ => None,
        };
        if let Some(reason) = reason {
            shut_down(&mut control, reason);
            std::process::exit(0);
        }
        if commands.send(name).is_err() {
            return;
        }
    }
}

fn shut_down(control: &mut File, reason: &str) {
    let is_guests = reason.starts_with("guest");
    let data = json!({"guest": is_guests, "reason": reason});
    tell(control, &json!({"event": "SHUTDOWN", "data": data}));
}

/// Sends a message in one piece, for two threads speak. Nobody may listen any more.
fn tell(control: &mut File, message: &Value) {
    control.write_all(format!("{message}\n").as_bytes()).ok();
}

struct Guest {
    control: File,
    line: File,
    commands: Receiver<String>,
}

impl Guest {
    /// Waits for a command.
    fn expect(&self, wanted: &str) {
        while let Ok(command) = self.commands.recv_timeout(PATIENCE) {
            if command == wanted {
                return;
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.line.write_all(text.as_bytes()).expect("the serial line");
    }

    fn flood(&mut self, bytes: u64) {
        let noise = (0..1_u32 << 16).map(|n| n.wrapping_mul(n ^ 0x9e37).to_le_bytes()[2]);
        let block: Vec<u8> = noise.collect();
        let mut noise = std::io::repeat(0).take(bytes);
        let mut piece = vec![0; block.len()];
        while let Ok(count @ 1..) = noise.read(&mut piece) {
            self.line.write_all(&block[..count]).expect("the serial line");
        }
    }

    /// Takes a step; a number is the exit code.
    fn step(&mut self, step: &Value) -> Option<i32> {
        if let Some(text) = step["say"].as_str() {
            self.say(text);
        } else if let Some(bytes) = step["flood"].as_u64() {
            self.flood(bytes);
        } else if let Some(command) = step["await"].as_str() {
            self.expect(command);
        } else if let Some(event) = step["await_event"].as_str() {
            await_event(event);
        } else if let Some(event) = step["leave"].as_str() {
            let (event, mut control) = (event.to_owned(), self.control.try_clone().expect("it"));
            std::thread::spawn(move || {
                await_event(&event);
                shut_down(&mut control, "guest-shutdown");
                std::process::exit(0);
            });
        } else if let Some(time) = step["wait"].as_u64() {
            std::thread::sleep(Duration::from_millis(time));
        } else if let Some(session) = step["debugger"].as_str() {
            self.debugger(session);
        } else if let Some(code) = step["test"].as_i64() {
            let sent = run_test(code, step["output"].as_str().unwrap_or_default());
            self.say(&sent);
        } else if let Some(reason) = step["shutdown"].as_str() {
            shut_down(&mut self.control, reason);
            return Some(0);
        } else if step["reboot"] == true {
            let event = json!({"event": "RESET", "data": {"guest": true}});
            tell(&mut self.control, &event);
        } else if let Some(code) = step["crash"].as_i64() {
            eprintln!("{}", step["words"].as_str().unwrap_or_default());
            return i32::try_from(code).ok();
        }
        None
    }

    /// Is a debugger until nobody speaks to it any more.
    fn debugger(&mut self, session: &str) {
        let answers = answers(session);
        self.say(PROMPT);
        let mut command = Vec::new();
        loop {
            let mut byte = [0];
            match self.line.read(&mut byte) {
                Ok(count) if count > 0 => {}
                _ => return,
            }
            if !matches!(byte[0], b'\r' | b'\n') {
                command.push(byte[0]);
                continue;
            }
            let text = String::from_utf8_lossy(&command).into_owned();
            command.clear();
            let unknown = format!("Unknown command \"{text}\".\r\n");
            let answer = answers.get(text.trim()).cloned().unwrap_or(unknown);
            self.say(&format!("{text}\r\n{answer}{PROMPT}"));
        }
    }
}

/// The guest's disk, which is in the directory of the run.
fn overlay() -> PathBuf {
    let disk = std::env::args().find_map(|argument| {
        let (_, rest) = argument.split_once("filename=")?;
        rest.split(',').next().filter(|name| name.ends_with("overlay.qcow2")).map(PathBuf::from)
    });
    disk.expect("an overlay")
}

/// Waits until the run has recorded an event of this name.
fn await_event(name: &str) {
    let events = overlay().with_file_name("events.jsonl");
    let wanted = format!("\"event\":\"{name}\"");
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if std::fs::read_to_string(&events).is_ok_and(|told| told.contains(&wanted)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs the script of a test as the guest would, and returns what it sends.
fn run_test(code: i64, output: &str) -> String {
    let disk = std::fs::read(overlay()).expect("the overlay");
    // A small file lies in one piece.
    let text = String::from_utf8_lossy(&disk);
    let start = text.find("#!/bin/sh\n# Written by kireji").expect("the script");
    let script = text[start..].split('\0').next().expect("the script").to_owned();
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let command = format!("printf %s '{output}'\nexit {code}\n");
    std::fs::write(path("command"), command).expect("the command");
    std::fs::write(path("line"), "").expect("the line");
    let script = script
        .replace("/tmp/", &path(""))
        .replace("/boot/home/kireji-test.command", &path("command"))
        .replace("> /dev/dprintf", &format!(">> {}", path("line")));
    let ended = Command::new("/bin/sh").args(["-c", &script]).status().expect("a shell");
    assert!(ended.success(), "the script of the test");
    std::fs::read_to_string(path("line")).expect("the line")
}

/// The answers of a recorded session, by their commands.
fn answers(session: &str) -> BTreeMap<String, String> {
    let pieces = session.split(PROMPT).skip(1);
    let answer = |piece: &str| {
        let (command, answer) = piece.split_once('\n')?;
        Some((command.trim().to_owned(), answer.to_owned()))
    };
    pieces.filter_map(answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_cut_into_commands_and_answers() {
        let found = answers("boot\r\nkdebug> bt\r\na\r\nb\r\nkdebug> image\r\nc\r\nkdebug> ");
        let expected = [("bt", "a\r\nb\r\n"), ("image", "c\r\n")];
        let expected: BTreeMap<_, _> =
            expected.map(|(command, answer)| (command.to_owned(), answer.to_owned())).into();
        assert_eq!(found, expected);
    }
}
