//! What the next boot will do, read from what it will boot: every image of every installed kernel,
//! and every entry.

use std::error::Error;
use std::path::Path;

use host::{ReadError, Sysroot};
use serde::Serialize;

use crate::boot::{Boot, Entry, EntryKind, Kernel, Placer};
use crate::config::{Change, words};
use crate::generator::{self, Generator};
use crate::goal::{self, Goal};
use crate::image::{Image, Kind, Member, Uki};
use crate::reservation;
use crate::trial;

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
    let generator = match goal::generator(boot) {
        Ok(generator) => generator,
        Err(error) => {
            let outcome = Outcome::Unmeasured(error.to_string());
            let about = "every kernel".to_owned();
            claims.push(Claim { about, claim: "its initramfs can be judged", outcome });
            return Ok(claims);
        }
    };
    let mut seen: Vec<&Path> = Vec::new();
    for kernel in &boot.kernels {
        let about = format!("kernel {}", kernel.release);
        let images = images(boot, kernel);
        if images.is_empty() && !boot.entries.iter().any(|entry| is_unnamed(boot, entry)) {
            let outcome = Outcome::Fail("no initramfs of it was found".to_owned());
            claims.push(Claim { about, claim: "its initramfs is there", outcome });
            continue;
        }
        for subject in images {
            seen.push(subject.path);
            claims.extend(of_subject(host, &about, Some(kernel), subject, generator, boot, goal));
        }
    }
    // What says of no kernel that it is for it, the image itself does.
    for entry in boot.entries.iter().filter(|entry| is_unnamed(boot, entry)) {
        for subject in Subject::of(entry) {
            if !seen.contains(&subject.path) {
                seen.push(subject.path);
                let about = format!("entry `{}`", entry.title);
                claims.extend(of_subject(host, &about, None, subject, generator, boot, goal));
            }
        }
    }
    claims.extend(entries(boot, goal));
    if boot.placer == Placer::ProxmoxBootTool && boot.entries.is_empty() {
        let outcome = Outcome::Unmeasured("the partitions are not mounted".to_owned());
        let about = "every partition of proxmox-boot-tool".to_owned();
        claims.push(Claim { about, claim: "it has these images and parameters", outcome });
    }
    Ok(claims)
}

/// Whether the contents of a member of an image are needed to prove anything, whoever built it.
pub fn needs(member: &Member) -> bool {
    let is_list = || member.path.as_os_str() == reservation::PATH.trim_start_matches('/');
    let is_of = |generator: &&dyn Generator| generator.needs(&member.path);
    member.kind == Kind::File && (is_list() || generator::all().iter().any(is_of))
}

/// One file that holds an initramfs.
#[derive(Clone, Copy)]
struct Subject<'a> {
    path: &'a Path,
    is_uki: bool,
}

impl<'a> Subject<'a> {
    fn of(entry: &'a Entry) -> Vec<Self> {
        let is_uki = entry.kind == EntryKind::Uki;
        entry.images.iter().map(|path| Self { path, is_uki }).collect()
    }
}

/// Whether an entry boots something of which it does not say the kernel. What is never made again is
/// not looked into: it is a way back without the reservation.
fn is_unnamed(boot: &Boot, entry: &Entry) -> bool {
    !entry.is_rescue()
        && !entry.images.is_empty()
        && !boot.kernels.iter().any(|kernel| entry.boots(kernel))
}

/// The images of a kernel: its own file, and those of the entries that boot it.
fn images<'a>(boot: &'a Boot, kernel: &'a Kernel) -> Vec<Subject<'a>> {
    let own = kernel.image.iter().map(|path| Subject { path, is_uki: false });
    let entries = boot.entries.iter().filter(|entry| !entry.is_rescue() && entry.boots(kernel));
    let mut found: Vec<Subject<'_>> = Vec::new();
    for subject in own.chain(entries.flat_map(Subject::of)) {
        if !found.iter().any(|other| other.path == subject.path) {
            found.push(subject);
        }
    }
    found
}

fn of_subject(
    host: &Sysroot,
    about: &str,
    kernel: Option<&Kernel>,
    subject: Subject<'_>,
    generator: &dyn Generator,
    boot: &Boot,
    goal: &Goal,
) -> Vec<Claim> {
    let about = format!("{about}, {}", subject.path.display());
    let image = match open(host, subject, generator) {
        Ok(image) => image,
        Err(error) => {
            let outcome = Outcome::Unmeasured(crate::in_full(&*error));
            return vec![Claim { about, claim: "its initramfs can be read", outcome }];
        }
    };
    // Microcode comes before the initramfs, as an image of its own.
    if image.members().iter().all(|member| member.path.starts_with("kernel")) {
        return Vec::new();
    }
    let has_modules = |kernel: &&Kernel| {
        image.members().iter().any(|member| {
            member.path.components().any(|part| part.as_os_str() == kernel.release.as_str())
        })
    };
    let kernel = kernel.or_else(|| boot.kernels.iter().find(has_modules));
    of_image(host, &about, kernel, generator, &image, goal)
}

/// Opens an image, with the contents that the proof needs.
fn open(
    host: &Sysroot,
    subject: Subject<'_>,
    generator: &dyn Generator,
) -> Result<Image, Box<dyn Error>> {
    let list = reservation::PATH.trim_start_matches('/');
    let keep = |member: &Member| {
        member.kind == Kind::File
            && (member.path.as_os_str() == list || generator.needs(&member.path))
    };
    Ok(match subject.is_uki {
        true => Uki::open(host, subject.path)?.initramfs(host, keep)?,
        false => Image::open(host, subject.path, keep)?,
    })
}

fn of_image(
    host: &Sysroot,
    about: &str,
    kernel: Option<&Kernel>,
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

fn modules(host: &Sysroot, kernel: Option<&Kernel>, image: &Image) -> Outcome {
    let Some(kernel) = kernel else {
        return Outcome::Fail("it has no modules of an installed kernel".to_owned());
    };
    let needed = match goal::needed_modules(host, kernel) {
        Ok(needed) => needed,
        Err(error) => return Outcome::Unmeasured(crate::in_full(&error)),
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

/// The command lines: in a trial, that of the one entry for it.
fn entries(boot: &Boot, goal: &Goal) -> Vec<Claim> {
    let trial = goal.reservations.trial.as_deref();
    let Some(id) = trial.filter(|_| !goal.reservations.functions.is_empty()) else {
        let others = boot.entries.iter().filter(|entry| !trial::is_entry(entry));
        return others.filter_map(|entry| of_entry(entry, &goal.parameters)).collect();
    };
    let change = trial::parameters(id, &goal.parameters);
    let ours = boot.entries.iter().find(|entry| trial::is_entry(entry));
    vec![ours.and_then(|entry| of_entry(entry, &change)).unwrap_or_else(|| Claim {
        about: "the trial".to_owned(),
        claim: "its entry is there",
        outcome: Outcome::Fail("no entry kireji-trial was found".to_owned()),
    })]
}

fn of_entry(entry: &Entry, change: &Change) -> Option<Claim> {
    if change.is_empty() || entry.is_fallback() {
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
