//! The project file `kireji.toml`: named targets, each with what `kireji run` is to do.
//!
//! A target becomes words of a command line, before those that a person writes, so that both mean
//! the same and the person's win. The file goes with the sources to other machines: it names a card
//! by its ids, or by an alias of [`LOCAL`], and never by an address.

mod target;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use guest::launch::as_user;
use pci::{Address, Host, Ids};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::command::image::host_failed;
use crate::{CommandError, Context, Exit};

use target::{Doubtful, Target};

/// The project file, in the current directory or the nearest one above that has it.
pub(crate) const FILE: &str = "kireji.toml";
/// What is true on this machine alone: the addresses of cards, by aliases.
pub(crate) const LOCAL: &str = "kireji.local.toml";
/// The largest of them, in bytes.
const LARGEST: u64 = 1 << 20;

/// A project.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Project {
    /// The directory that it is in, from which its paths begin.
    #[serde(skip)]
    pub(crate) directory: PathBuf,
    /// The target where none is named; with one target alone it is that.
    default: Option<String>,
    #[serde(default)]
    target: BTreeMap<String, Target>,
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
    /// Reads the project that a directory belongs to, if there is one.
    ///
    /// A file above the directory counts only if it is the user's own or root's, for it names programs
    /// to run: in `/tmp` anybody may leave one.
    ///
    /// # Errors
    /// The file is somebody else's, cannot be read, or is wrong.
    pub(crate) fn find(start: &Path, context: &Context<'_>) -> Result<Option<Self>, CommandError> {
        for directory in start.ancestors() {
            let path = directory.join(FILE);
            if let Ok(metadata) = std::fs::metadata(&path)
                && directory != start
                && !is_trustworthy(metadata.uid(), context)
            {
                let message = format!("{} belongs to another user", path.display());
                let hint = "what it says is done where it is: `cd` to it, if you mean it";
                return Err(CommandError::new(Exit::Refused, message).hint(hint));
            }
            if let Some(project) = read::<Self>(&path)? {
                return Ok(Some(Self { directory: directory.to_owned(), ..project }));
            }
        }
        Ok(None)
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
        context: &Context<'_>,
    ) -> Result<Vec<OsString>, CommandError> {
        let (name, target) = self.target(name)?;
        let doubtful = target.doubtful();
        if !doubtful.is_empty() && !self.is_trusted(context) {
            let message = format!("the target `{name}` has what nobody trusted");
            let error = CommandError::new(Exit::Refused, message)
                .hint("`kireji trust` shows it, and trusts it as it is now");
            let all = doubtful.iter().map(ToString::to_string);
            return Err(all.fold(error, CommandError::reason));
        }
        let mut cards = Vec::new();
        for card in &target.card {
            cards.push(resolve(card, &self.directory, context)?.to_string());
        }
        Ok(target.words(&cards, &self.directory))
    }

    /// All that is to be trusted before it is done, by the targets.
    pub(crate) fn doubtful(&self) -> Vec<(&str, Vec<Doubtful<'_>>)> {
        let all = self.target.iter().map(|(name, target)| (name.as_str(), target.doubtful()));
        all.filter(|(_, doubtful)| !doubtful.is_empty()).collect()
    }

    /// What stands for all of that in this project, in its directory.
    fn seal(&self) -> String {
        let mut sum = Sha256::new();
        let directory = &self.directory;
        let directory = directory.canonicalize().unwrap_or_else(|_| directory.clone());
        sum.update(directory.as_os_str().as_encoded_bytes());
        for (name, doubtful) in self.doubtful() {
            for Doubtful { key, value } in doubtful {
                for part in [name, key, value] {
                    sum.update([0]);
                    sum.update(part.len().to_le_bytes());
                    sum.update(part);
                }
            }
        }
        sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn trusted(context: &Context<'_>) -> PathBuf {
        context.vars.state.join("trusted")
    }

    fn is_trusted(&self, context: &Context<'_>) -> bool {
        let seal = self.seal();
        let known = std::fs::read_to_string(Self::trusted(context)).unwrap_or_default();
        known.lines().any(|line| line == seal)
    }

    /// Trusts it as it is now.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(crate) fn trust(&self, context: &Context<'_>) -> Result<(), CommandError> {
        if self.is_trusted(context) {
            return Ok(());
        }
        let (path, directory) = (Self::trusted(context), &context.vars.state);
        context.vars.check_home(directory)?;
        let keep = || {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            let mut known = std::fs::read_to_string(&path).unwrap_or_default();
            known.push_str(&self.seal());
            known.push('\n');
            host::atomic::write(&path, known.as_bytes(), 0o600).map_err(|error| error.source)
        };
        as_user(context.vars.user.as_ref(), keep)
            .flatten()
            .map_err(|error| host_failed("write", &path, error))
    }
}

/// Whether a file of this user's may say what is to be run.
fn is_trustworthy(uid: u32, context: &Context<'_>) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let sudo = context.vars.user.as_ref().map(|user| user.uid);
    uid == 0 || uid == own || sudo == Some(uid)
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
        let seal = |keys: &str, directory: &str| {
            let project = project(&format!("[target.a]\n{keys}\n"));
            Project { directory: directory.into(), ..project }.seal()
        };
        let (here, there) = ("/nonexistent/a", "/nonexistent/b");
        let both = seal("qemu-args = [\"-a\", \"b\"]", here);
        assert_eq!(seal("memory = 1\nqemu-args = [\"-a\", \"b\"]", here), both);
        assert_ne!(seal("qemu-args = [\"-ab\"]", here), both);
        assert_ne!(seal("qemu-args = [\"-a\", \"b\"]", there), both);
        let allowed = seal("allow = [\"x\"]", here);
        assert_ne!(seal("qemu-args = [\"x\"]", here), allowed);
        assert_ne!(seal("allow = [\"x\"]\nwith-group = true", here), allowed);
    }
}
