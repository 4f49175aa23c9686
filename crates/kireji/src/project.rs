//! The project file `kireji.toml`: named targets, each with what `kireji run` is to do.
//!
//! A target becomes words of a command line, before those that a person writes, so that both mean
//! the same and the person's win. The file goes with the sources to other machines: it names a card
//! by its ids, or by an alias of [`LOCAL`], and never by an address.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use pci::{Address, Host, Ids};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{CommandError, Context, Exit};

/// The project file, in the current directory.
pub(crate) const FILE: &str = "kireji.toml";
/// What is true on this machine alone: the addresses of cards, by aliases.
pub(crate) const LOCAL: &str = "kireji.local.toml";
/// The largest of them, in bytes.
const LARGEST: u64 = 1 << 20;

/// A project.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Project {
    /// The target where none is named; with one target alone it is that.
    default: Option<String>,
    #[serde(default)]
    target: BTreeMap<String, Target>,
}

/// What `kireji run` is to do. Each field is the option of its name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Target {
    image: Option<PathBuf>,
    card: Vec<String>,
    emulate: Vec<String>,
    driver: Vec<String>,
    #[serde(rename = "as")]
    place: Option<String>,
    put: Vec<String>,
    build: Option<String>,
    haiku_tree: Option<String>,
    jam: Vec<String>,
    until: Option<String>,
    fail: Vec<String>,
    test: Option<String>,
    get: Vec<String>,
    state: Option<String>,
    disk_bus: Option<String>,
    firmware: Option<String>,
    net: Option<String>,
    display: Option<String>,
    forward: Vec<String>,
    memory: Option<u64>,
    cpus: Option<u16>,
    timeout: Option<u64>,
    idle_timeout: Option<u64>,
    /// Handed to QEMU as they are, once they are trusted.
    qemu_args: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Local {
    #[serde(default)]
    cards: BTreeMap<String, String>,
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, CommandError> {
    let wrong = |what: String| {
        Err(CommandError::new(Exit::Usage, format!("{} is wrong", path.display())).reason(what))
    };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if metadata.len() > LARGEST => return wrong("it is too large".to_owned()),
        _ => {}
    }
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return wrong(error.to_string()),
    };
    // Its message has the line, and marks the place in it.
    toml::from_str(&text).map(Some).or_else(|error| wrong(error.to_string().trim_end().to_owned()))
}

impl Project {
    /// Reads the project of a directory, if it has one.
    ///
    /// # Errors
    /// The file cannot be read, or is wrong.
    pub(crate) fn of(directory: &Path) -> Result<Option<Self>, CommandError> {
        read(&directory.join(FILE))
    }

    /// Whether it has a target of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.target.contains_key(name)
    }

    fn target(&self, name: Option<&str>) -> Result<(&str, &Target), CommandError> {
        let only = self.target.keys().next().filter(|_| self.target.len() == 1);
        let name = name.or(self.default.as_deref()).or(only.map(String::as_str));
        let names = || self.target.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let Some(name) = name else {
            let error = CommandError::new(Exit::Usage, format!("{FILE} has no default target"));
            return Err(error.hint(format!("name one of {}, or set `default`", names())));
        };
        self.target.get_key_value(name).map(|(name, target)| (name.as_str(), target)).ok_or_else(
            || {
                let message = format!("{FILE} has no target `{name}`");
                CommandError::new(Exit::Usage, message).hint(format!("it has {}", names()))
            },
        )
    }

    /// The words that a target stands for.
    ///
    /// # Errors
    /// There is no such target, a card is not there, or arguments for QEMU are not trusted.
    pub(crate) fn words(
        &self,
        name: Option<&str>,
        directory: &Path,
        context: &Context<'_>,
    ) -> Result<Vec<OsString>, CommandError> {
        let (name, target) = self.target(name)?;
        if !target.qemu_args.is_empty() && !self.is_trusted(directory, context) {
            let message = format!("the target `{name}` has arguments for QEMU that nobody trusted");
            let error = CommandError::new(Exit::Refused, message)
                .hint("`kireji trust` shows them, and trusts them as they are now");
            return Err(target.qemu_args.iter().cloned().fold(error, CommandError::reason));
        }
        let mut cards = Vec::new();
        for card in &target.card {
            cards.push(resolve(card, directory, context)?.to_string());
        }
        Ok(target.words(&cards))
    }

    /// All arguments for QEMU, by their targets.
    pub(crate) fn qemu_args(&self) -> Vec<(&str, &[String])> {
        self.target
            .iter()
            .filter(|(_, target)| !target.qemu_args.is_empty())
            .map(|(name, target)| (name.as_str(), &target.qemu_args[..]))
            .collect()
    }

    /// What stands for the arguments of this project, in this directory.
    fn seal(&self, directory: &Path) -> String {
        let mut sum = Sha256::new();
        let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        sum.update(directory.as_os_str().as_encoded_bytes());
        for (name, args) in self.qemu_args() {
            for part in std::iter::once(name).chain(args.iter().map(String::as_str)) {
                sum.update([0]);
                sum.update(part.len().to_le_bytes());
                sum.update(part);
            }
        }
        sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn trusted(context: &Context<'_>) -> PathBuf {
        context.vars.state.join("trusted")
    }

    fn is_trusted(&self, directory: &Path, context: &Context<'_>) -> bool {
        let seal = self.seal(directory);
        let known = std::fs::read_to_string(Self::trusted(context)).unwrap_or_default();
        known.lines().any(|line| line == seal)
    }

    /// Trusts the arguments as they are now.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(crate) fn trust(&self, directory: &Path, context: &Context<'_>) -> std::io::Result<()> {
        if self.is_trusted(directory, context) {
            return Ok(());
        }
        let path = Self::trusted(context);
        std::fs::create_dir_all(&context.vars.state)?;
        let mut known = std::fs::read_to_string(&path).unwrap_or_default();
        known.push_str(&self.seal(directory));
        known.push('\n');
        host::atomic::write(&path, known.as_bytes(), 0o600).map_err(|error| error.source)
    }
}

impl Target {
    fn words(&self, cards: &[String]) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut add = |option: &str, value: &dyn std::fmt::Display| {
            // In one word, for a value may begin with a dash.
            words.push(format!("--{option}={value}").into());
        };
        let lists = [
            ("device", cards),
            ("emulate", &self.emulate),
            ("driver", &self.driver),
            ("put", &self.put),
            ("jam", &self.jam),
            ("fail", &self.fail),
            ("get", &self.get),
            ("forward", &self.forward),
            ("extra-qemu-arg", &self.qemu_args),
        ];
        for (option, values) in lists {
            values.iter().for_each(|value| add(option, value));
        }
        let texts = [
            ("as", &self.place),
            ("build", &self.build),
            ("haiku-tree", &self.haiku_tree),
            ("until", &self.until),
            ("test", &self.test),
            ("state", &self.state),
            ("disk-bus", &self.disk_bus),
            ("firmware", &self.firmware),
            ("net", &self.net),
            ("display", &self.display),
        ];
        for (option, value) in texts {
            value.iter().for_each(|value| add(option, value));
        }
        let cpus = self.cpus.map(u64::from);
        let numbers = [
            ("memory", self.memory),
            ("cpus", cpus),
            ("timeout", self.timeout),
            ("idle-timeout", self.idle_timeout),
        ];
        for (option, value) in numbers {
            value.iter().for_each(|value| add(option, value));
        }
        words.extend(self.image.iter().map(|image| image.clone().into_os_string()));
        words
    }
}

/// The address of a card that is named by its ids or by a local alias.
fn resolve(card: &str, directory: &Path, context: &Context<'_>) -> Result<Address, CommandError> {
    let usage = |message: String| CommandError::new(Exit::Usage, message);
    let ids = card.split_once(':').and_then(|(vendor, device)| {
        let id = |text: &str| u16::from_str_radix(text, 16).ok().filter(|_| text.len() == 4);
        Some((id(vendor)?, id(device)?))
    });
    let Some((vendor, device)) = ids else {
        let local: Local = read(&directory.join(LOCAL))?.unwrap_or_default();
        let Some(address) = local.cards.get(card) else {
            let message = format!("`{card}` is neither ids such as 8086:10d3 nor an alias");
            return Err(usage(message).hint(format!(
                "an alias is a line of [cards] in {LOCAL}, such as `{card} = \"29:00.0\"`"
            )));
        };
        let named: pci::Named = address
            .parse()
            .map_err(|error| usage(format!("{LOCAL}: `{address}` is no address: {error}")))?;
        return Ok(named.address);
    };
    let host = Host::read(context.host)?;
    let found: Vec<_> = host
        .functions()
        .filter(|function| function.ids == Ids { vendor, device })
        .map(|function| function.address)
        .collect();
    match *found {
        [address] => Ok(address),
        [] => Err(usage(format!("this host has no card {card}"))
            .hint("`kireji list` shows those that it has")),
        _ => {
            let error = usage(format!("this host has {} functions {card}", found.len()));
            let error = found.iter().map(ToString::to_string).fold(error, CommandError::reason);
            Err(error.hint(format!("name one of them by an alias in {LOCAL}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(text: &str) -> Project {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_target_is_words_of_a_command_line() {
        let project = project(
            "[target.edu]\nimage = \"haiku.iso\"\nemulate = [\"edu\"]\ndriver = [\"a\", \"b\"]\n\
             until = \"-x\"\nmemory = 1024\n",
        );
        let (name, target) = project.target(None).unwrap();
        assert_eq!(name, "edu");
        let words = target.words(&["0000:29:00.0".into()]);
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(
            words,
            [
                "--device=0000:29:00.0",
                "--emulate=edu",
                "--driver=a",
                "--driver=b",
                "--until=-x",
                "--memory=1024",
                "haiku.iso",
            ]
        );
    }

    #[test]
    fn the_target_is_the_named_the_default_or_the_only_one() {
        let two = "[target.a]\n[target.b]\n";
        let error = project(two).target(None).unwrap_err();
        assert_eq!(error.to_string(), "kireji.toml has no default target");
        assert_eq!(project(two).target(Some("b")).unwrap().0, "b");
        assert!(project(two).target(Some("c")).is_err());
        assert_eq!(project(&format!("default = \"b\"\n{two}")).target(None).unwrap().0, "b");
        for wrong in ["[target.a]\ndevice = \"29:00.0\"\n", "[target.a]\nimage = 3\n"] {
            assert!(toml::from_str::<Project>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn trust_is_of_these_arguments_in_this_directory() {
        let with = |args: &str| project(&format!("[target.a]\nqemu-args = {args}\n"));
        let (here, there) = (Path::new("/nonexistent/a"), Path::new("/nonexistent/b"));
        let seal = with("[\"-a\", \"b\"]").seal(here);
        assert_eq!(with("[\"-a\", \"b\"]").seal(here), seal);
        assert_ne!(with("[\"-ab\"]").seal(here), seal);
        assert_ne!(with("[\"-a\", \"b\"]").seal(there), seal);
    }
}
