//! What the next boot will do, read from what it will boot: every image of every installed kernel,
//! and every entry.

use std::error::Error;

use host::{ReadError, Sysroot};
use serde::Serialize;

use crate::boot::{Boot, Entry, EntryKind, Kernel};
use crate::config::{Change, words};
use crate::generator::{self, Generator};
use crate::goal::{self, Goal};
use crate::image::{Image, Kind, Member, Uki};
use crate::reservation;

/// One thing that must be so, and whether it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// The kernel or the entry that it is about.
    pub about: String,
    /// What must be so.
    pub claim: &'static str,
    /// What shows it, or what is wrong.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Whether a claim holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "why", rename_all = "lowercase")]
pub enum Outcome {
    /// It does, as this shows.
    Pass(String),
    /// It does not.
    Fail(String),
    /// That could not be read.
    Unmeasured(String),
}

impl From<Result<String, String>> for Outcome {
    fn from(result: Result<String, String>) -> Self {
        match result {
            Ok(what) => Self::Pass(what),
            Err(why) => Self::Fail(why),
        }
    }
}

/// Whether all claims hold.
pub fn is_proved(claims: &[Claim]) -> bool {
    !claims.is_empty() && claims.iter().all(|claim| matches!(claim.outcome, Outcome::Pass(_)))
}

/// Proves that what this host boots has what `goal` says; and for a goal without reservations, that
/// it has nothing of ours.
///
/// # Errors
/// A file of the host cannot be read.
pub fn prove(host: &Sysroot, boot: &Boot, goal: &Goal) -> Result<Vec<Claim>, ReadError> {
    let mut claims = Vec::new();
    let generator = goal::generator(boot);
    for kernel in &boot.kernels {
        let about = format!("kernel {}", kernel.release);
        let generator = match &generator {
            Ok(generator) => *generator,
            Err(error) => {
                let outcome = Outcome::Unmeasured(error.to_string());
                claims.push(Claim { about, claim: "its initramfs can be judged", outcome });
                continue;
            }
        };
        match open(host, boot, kernel, generator) {
            Some((name, Ok(image))) => {
                let about = format!("{about}, {name}");
                claims.extend(of_image(host, &about, kernel, generator, &image, goal));
            }
            Some((name, Err(error))) => {
                let outcome = Outcome::Unmeasured(format!("{name}: {}", in_full(&*error)));
                claims.push(Claim { about, claim: "its initramfs can be read", outcome });
            }
            None => {
                let outcome = Outcome::Fail("no initramfs of it was found".to_owned());
                claims.push(Claim { about, claim: "its initramfs is there", outcome });
            }
        }
    }
    claims.extend(boot.entries.iter().filter_map(|entry| of_entry(entry, &goal.parameters)));
    Ok(claims)
}

/// Whether the contents of a member of an image are needed to prove anything, whoever built it.
pub fn needs(member: &Member) -> bool {
    let is_list = || member.path.as_os_str() == reservation::PATH.trim_start_matches('/');
    let is_of = |generator: &&dyn Generator| generator.needs(&member.path);
    member.kind == Kind::File && (is_list() || generator::all().iter().any(is_of))
}

type Opened = Result<Image, Box<dyn Error>>;

/// Opens the image of a kernel: its own file, or its unified kernel image.
fn open(
    host: &Sysroot,
    boot: &Boot,
    kernel: &Kernel,
    generator: &dyn Generator,
) -> Option<(String, Opened)> {
    let list = reservation::PATH.trim_start_matches('/');
    let keep = |member: &Member| {
        member.kind == Kind::File
            && (member.path.as_os_str() == list || generator.needs(&member.path))
    };
    if let Some(path) = &kernel.image {
        let image = Image::open(host, path, keep).map_err(Box::<dyn Error>::from);
        return Some((path.display().to_string(), image));
    }
    let is_of = |entry: &&Entry| {
        let read = || Uki::open(host, &entry.source).ok()?.text(host, ".uname").ok()?;
        entry.kind == EntryKind::Uki && read().as_deref() == Some(kernel.release.as_str())
    };
    let entry = boot.entries.iter().find(is_of)?;
    let image = Uki::open(host, &entry.source).and_then(|uki| uki.initramfs(host, keep));
    Some((entry.source.display().to_string(), image.map_err(Box::<dyn Error>::from)))
}

fn of_image(
    host: &Sysroot,
    about: &str,
    kernel: &Kernel,
    generator: &dyn Generator,
    image: &Image,
    goal: &Goal,
) -> Vec<Claim> {
    let claim = |claim, outcome: Outcome| Claim { about: about.to_owned(), claim, outcome };
    let list = image.contents(reservation::PATH);
    let Some(text) = goal.reservations.text() else {
        let outcome = match (list, generator.hook(image)) {
            (None, Err(_)) => Outcome::Pass("it has neither the list nor the hook".to_owned()),
            (Some(_), _) => Outcome::Fail(format!("it still has {}", reservation::PATH)),
            (None, Ok(hook)) => Outcome::Fail(format!("it still has {hook}")),
        };
        return vec![claim("nothing is reserved", outcome)];
    };
    let list = match list {
        Some(bytes) if bytes == text.as_bytes() => Ok(reservation::PATH.to_owned()),
        Some(_) => Err(format!("{} is another one than on the host", reservation::PATH)),
        None => Err(format!("there is no {}", reservation::PATH)),
    };
    vec![
        claim("the hook runs before udev", generator.hook(image).into()),
        claim("the list of reservations is the one of the host", list.into()),
        claim("vfio-pci can be loaded", modules(host, kernel, image)),
    ]
}

fn modules(host: &Sysroot, kernel: &Kernel, image: &Image) -> Outcome {
    let needed = match goal::needed_modules(host, kernel) {
        Ok(needed) => needed,
        Err(error) => return Outcome::Unmeasured(in_full(&error)),
    };
    if needed.is_empty() {
        return Outcome::Pass("vfio-pci is built into the kernel".to_owned());
    }
    let missing: Vec<_> = needed
        .iter()
        .filter(|name| !generator::has_module(image, kernel, name))
        .map(String::as_str)
        .collect();
    match missing.is_empty() {
        true => Outcome::Pass(needed.join(", ")),
        false => Outcome::Fail(format!("it has no {}", missing.join(", "))),
    }
}

fn of_entry(entry: &Entry, change: &Change) -> Option<Claim> {
    if change.is_empty() {
        return None;
    }
    let present = words::split(&entry.options);
    let has = |word: &String| present.iter().any(|other| words::is_same(other, word));
    let missing = change.add.iter().filter(|word| !has(word)).map(|word| format!("no {word}"));
    let left = change.remove.iter().filter(|word| has(word)).map(|word| format!("still {word}"));
    let wrong: Vec<_> = missing.chain(left).collect();
    let outcome = match wrong.is_empty() {
        true => Outcome::Pass(entry.options.clone()),
        false => Outcome::Fail(wrong.join(", ")),
    };
    let about = format!("entry `{}` of {}", entry.title, entry.source.display());
    Some(Claim { about, claim: "its parameters are right", outcome })
}

/// An error with its causes, in one line.
fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
