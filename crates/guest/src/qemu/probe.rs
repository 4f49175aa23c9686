//! Asking a QEMU binary what it can do.
//!
//! Two machines without anything in them answer over QMP (`qemu-qmp-ref`(7)): the first tells its
//! types, the second the properties of some of them. What QMP does not tell, which
//! back ends are built in *and* installed, the binary lists when asked for help.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use host::{Finished, Program, RunError, Runner};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Capabilities, QemuError, Version};

/// PCI devices that may take a network or block back end, and `vfio-pci`. Only these are asked for
/// their properties: QEMU 7.2 aborts when it is asked about a type that is built in but needs a
/// module which is not installed (`virtio-gpu-gl-pci`; "missing object type", qom/object.c).
const ASKED: [&str; 16] = [
    "e1000",
    "e1000-82544gc",
    "e1000-82545em",
    "e1000e",
    "i82550",
    "i82557b",
    "i82559er",
    "igb",
    "ne2k_pci",
    "nvme",
    "pcnet",
    "rtl8139",
    "tulip",
    "vfio-pci",
    "virtio-net-pci",
    "vmxnet3",
];

/// What is kept of standard error for a message, in characters.
const SHOWN: usize = 400;

/// Asks `executable` what it can do.
///
/// # Errors
/// It cannot be run, or is not QEMU.
pub fn probe(runner: &dyn Runner, executable: &Path) -> Result<Capabilities, QemuError> {
    let ask = |commands: &[(&str, Value)]| ask(runner, executable, commands);
    let implements = |interface: &str| json!({"implements": interface, "abstract": false});
    let types = "qom-list-types";
    let mut answers = ask(&[
        ("query-version", json!({})),
        ("query-machines", json!({})),
        (types, implements("device")),
        (types, implements("pci-express-device")),
        (types, implements("conventional-pci-device")),
        (types, implements("accel")),
        (types, implements("user-creatable")),
        ("query-commands", json!({})),
    ])?;
    let version: VersionAnswer = answers.take(0)?;
    let machines: Vec<Machine> = answers.take(1)?;
    let pci_express = answers.names(3)?;
    let pci_conventional = answers.names(4)?;
    let pci: BTreeSet<String> = pci_express.union(&pci_conventional).cloned().collect();
    let devices = answers.names(2)?;
    let other_devices = devices.iter().filter(|name| !pci.contains(*name)).cloned().collect();
    let commands = answers.names(7)?;

    let mut network_devices = BTreeSet::new();
    let mut drive_devices = BTreeSet::new();
    let mut vfio_properties = BTreeSet::new();
    let asked: Vec<&str> = ASKED.into_iter().filter(|name| pci.contains(*name)).collect();
    let questions: Vec<_> =
        asked.iter().map(|name| ("device-list-properties", json!({"typename": name}))).collect();
    let mut properties = ask(&questions)?;
    for (index, name) in asked.into_iter().enumerate() {
        let names = properties.names(index)?;
        if names.contains("netdev") {
            network_devices.insert(name.to_owned());
        }
        if names.contains("drive") {
            drive_devices.insert(name.to_owned());
        }
        if name == "vfio-pci" {
            vfio_properties = names;
        }
    }

    let mut displays = help(runner, executable, "-display")?;
    if commands.contains("query-vnc") {
        displays.insert("vnc".to_owned());
    }
    let accelerators = answers.names(5)?;
    Ok(Capabilities {
        executable: executable.to_owned(),
        version: version.qemu,
        machines: machines.into_iter().flat_map(|m| [Some(m.name), m.alias]).flatten().collect(),
        accelerators: accelerators
            .iter()
            .filter_map(|name| name.strip_suffix("-accel").map(str::to_owned))
            .collect(),
        objects: answers.names(6)?,
        netdevs: help(runner, executable, "-netdev")?,
        audiodevs: help(runner, executable, "-audiodev")?,
        other_devices,
        network_devices,
        drive_devices,
        vfio_properties,
        displays,
        pci_express,
        pci_conventional,
    })
}

#[derive(Deserialize)]
struct VersionAnswer {
    qemu: Version,
}

#[derive(Deserialize)]
struct Machine {
    name: String,
    alias: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Answers by the number of the question.
struct Answers<'a> {
    executable: &'a Path,
    answers: BTreeMap<usize, Result<Value, String>>,
}

impl Answers<'_> {
    fn take<T: DeserializeOwned>(&mut self, index: usize) -> Result<T, QemuError> {
        let answer = self.answers.remove(&index);
        let value = match answer {
            Some(Ok(value)) => value,
            Some(Err(what)) => return Err(self.odd(what)),
            None => return Err(self.odd(format!("no answer to question {index}"))),
        };
        serde_json::from_value(value).map_err(|error| self.odd(error.to_string()))
    }

    fn names(&mut self, index: usize) -> Result<BTreeSet<String>, QemuError> {
        let named: Vec<Named> = self.take(index)?;
        Ok(named.into_iter().map(|named| named.name).collect())
    }

    fn odd(&self, what: String) -> QemuError {
        QemuError::Answer { executable: self.executable.to_owned(), what }
    }
}

fn ask<'a>(
    runner: &dyn Runner,
    executable: &'a Path,
    commands: &[(&str, Value)],
) -> Result<Answers<'a>, QemuError> {
    let mut questions = json!({"execute": "qmp_capabilities"}).to_string();
    for (id, (command, arguments)) in commands.iter().enumerate() {
        let question = json!({"execute": command, "arguments": arguments, "id": id});
        questions.push('\n');
        questions.push_str(&question.to_string());
    }
    questions.push_str("\n{\"execute\": \"quit\"}\n");
    let args = ["-M", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S"];
    let program = Program::new(executable).args(args).args(["-qmp", "stdio"]).stdin(questions);
    let finished = run(runner, executable, &program)?;
    let mut answers = Answers { executable, answers: BTreeMap::new() };
    let text = String::from_utf8_lossy(&finished.stdout);
    for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(id) = line.get("id").and_then(Value::as_u64) else { continue };
        let Ok(id) = usize::try_from(id) else { continue };
        let answer = match (line.get("return"), line.pointer("/error/desc")) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(error)) => Err(error.as_str().unwrap_or_default().to_owned()),
            (None, None) => continue,
        };
        answers.answers.insert(id, answer);
    }
    Ok(answers)
}

/// Returns the kinds that `OPTION help` lists: its lines of one word.
fn help(
    runner: &dyn Runner,
    executable: &Path,
    option: &str,
) -> Result<BTreeSet<String>, QemuError> {
    let program = Program::new(executable).arg(option).arg("help");
    let finished = run(runner, executable, &program)?;
    let text = String::from_utf8_lossy(&finished.stdout);
    let words = text.lines().map(str::trim).filter(|line| !line.contains([' ', ':']));
    Ok(words.filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

fn run(runner: &dyn Runner, executable: &Path, program: &Program) -> Result<Finished, QemuError> {
    let executable = executable.to_owned();
    let finished = match runner.run(program) {
        Ok(finished) => finished,
        Err(RunError::Start { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(QemuError::Missing { name: executable.display().to_string() });
        }
        Err(source) => return Err(QemuError::Run { executable, source }),
    };
    if !finished.status.success() {
        let text = String::from_utf8_lossy(&finished.stderr);
        let end: String = text.trim().chars().rev().take(SHOWN).collect();
        let stderr =
            if end.is_empty() { finished.status.to_string() } else { end.chars().rev().collect() };
        return Err(QemuError::Failed { executable, stderr });
    }
    Ok(finished)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn finished(status: i32, stdout: &str, stderr: &str) -> Result<Finished, RunError> {
        Ok(Finished {
            status: ExitStatus::from_raw(status),
            stdout: stdout.as_bytes().to_vec(),
            stderr: stderr.as_bytes().to_vec(),
        })
    }

    /// Answers as QEMU 7.2 does, with a few types in place of its hundreds.
    pub(crate) fn recorded(program: &Program) -> Result<Finished, RunError> {
        let option = program.args.first().and_then(|arg| arg.to_str()).unwrap_or_default();
        match option {
            "-display" => {
                return finished(0, "Available display backend types:\nnone\ngtk\n", "");
            }
            "-netdev" => return finished(0, "Available netdev backend types:\nsocket\nuser\n", ""),
            "-audiodev" => return finished(0, "Available audio drivers:\nnone\nalsa\n", ""),
            _ => {}
        }
        let questions = String::from_utf8(program.stdin.clone()).unwrap();
        let mut out = "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\n\
                       {\"return\": {}}\n"
            .to_owned();
        for question in questions.lines() {
            let question: Value = serde_json::from_str(question).unwrap();
            let Some(id) = question.get("id") else { continue };
            let argument = |name: &str| question["arguments"][name].as_str().unwrap_or_default();
            let named = |names: &[&str]| {
                Value::Array(names.iter().map(|name| json!({"name": name})).collect())
            };
            let answer = match question["execute"].as_str().unwrap() {
                "query-version" => json!({"qemu": {"major": 7, "minor": 2, "micro": 22}}),
                "query-machines" => {
                    json!([{"name": "pc-q35-7.2", "alias": "q35"}, {"name": "none"}])
                }
                "query-commands" => named(&["quit", "query-vnc"]),
                "qom-list-types" => named(match argument("implements") {
                    "device" => &["nvme", "vfio-pci", "edu", "mch", "ide-hd"],
                    "pci-express-device" => &["nvme", "vfio-pci", "e1000e"],
                    "conventional-pci-device" => &["edu", "vfio-pci", "mch"],
                    "accel" => &["tcg-accel", "kvm-accel", "accel"],
                    _ => &["memory-backend-memfd", "input-linux"],
                }),
                _ => match argument("typename") {
                    "nvme" => named(&["drive", "serial"]),
                    "e1000e" => named(&["netdev", "mac"]),
                    "vfio-pci" => named(&["host", "x-vga"]),
                    other => panic!("asked about {other}"),
                },
            };
            out.push_str(&format!("{}\n", json!({"return": answer, "id": id})));
        }
        finished(0, &out, "")
    }

    #[derive(Debug)]
    struct Fake(fn(&Program) -> Result<Finished, RunError>);
    impl Runner for Fake {
        fn run(&self, program: &Program) -> Result<Finished, RunError> {
            self.0(program)
        }
    }

    #[test]
    fn sorts_what_the_binary_answers() {
        let found = probe(&Fake(recorded), Path::new("/usr/bin/qemu")).unwrap();
        assert_eq!(found.version.to_string(), "7.2.22");
        assert!(found.machines.contains("q35") && found.machines.contains("pc-q35-7.2"));
        let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(names(&found.accelerators), "kvm tcg");
        assert_eq!(names(&found.other_devices), "ide-hd");
        assert_eq!(names(&found.network_devices), "e1000e");
        assert_eq!(names(&found.drive_devices), "nvme");
        assert_eq!(names(&found.vfio_properties), "host x-vga");
        assert_eq!(names(&found.displays), "gtk none vnc");
        assert_eq!(names(&found.netdevs), "socket user");
        assert!(found.is_pci("edu") && !found.is_pci("ide-hd") && found.has_device("ide-hd"));
        assert!(!found.has_iommufd());
    }

    #[test]
    fn a_program_that_is_not_qemu_is_told_apart() {
        let error = |fake| probe(&Fake(fake), Path::new("/usr/bin/qemu")).unwrap_err();
        assert!(matches!(
            error(|_| finished(0, "hello\n", "")),
            QemuError::Answer { what, .. } if what == "no answer to question 0"
        ));
        assert!(matches!(
            error(|_| finished(256, "", "qemu: libfdt.so.1: cannot open\n")),
            QemuError::Failed { stderr, .. } if stderr == "qemu: libfdt.so.1: cannot open"
        ));
        assert!(matches!(
            error(|program| Err(RunError::Start {
                executable: program.executable.clone(),
                source: std::io::ErrorKind::NotFound.into(),
            })),
            QemuError::Missing { .. }
        ));
    }
}
