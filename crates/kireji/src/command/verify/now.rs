//! What is so in this boot: who has each reserved function and since when, whether its IOMMU
//! translates and its group can be given away, and whether this boot is the one that was proved.

use std::io::{ErrorKind, Read};
use std::path::PathBuf;

use host::{Measured, Sysroot};
use pci::Host;
use reserve::boot::Boot;
use reserve::config::words;
use reserve::goal::{self, Goal};
use reserve::proof::{Claim, Outcome};
use reserve::rescue;
use reserve::reservation::{Reservations, Reserved, Standing};
use rustix::fs::{Mode, OFlags};

use crate::{CommandError, Context};

/// How much of the kernel's log is read, in bytes; it keeps less than this.
const LOG_LIMIT: u64 = 16 << 20;

/// Who has each reserved function, and whether its group can be given away.
pub(super) fn functions(context: &Context<'_>, host: &Host, all: &Reservations) -> Vec<Claim> {
    let log = log(context.host);
    let mut claims = Vec::new();
    for reserved in &all.functions {
        let standing = reserved.standing(host, all);
        claims.push(owner(context.host, reserved, &standing, &log));
        if matches!(standing, Standing::There { .. }) {
            claims.push(group(context, host, reserved));
        }
    }
    claims
}

/// Who has a reserved function, and why not vfio-pci if not.
fn owner(host: &Sysroot, reserved: &Reserved, standing: &Standing, log: &Measured<Log>) -> Claim {
    let address = reserved.address;
    let said: Vec<_> = log
        .known()
        .into_iter()
        .flat_map(|log| &log.said)
        .filter(|said| said.text.starts_with(&format!("{address}: ")))
        .collect();
    let of_hook = match (said.last(), log) {
        (Some(said), _) => format!("the hook said {:.1} s after the start: {}", said.at, said.text),
        (None, Measured::Known(log)) if log.is_whole => {
            "the hook said nothing of it in this boot".to_owned()
        }
        (None, Measured::Known(_)) => {
            "the kernel's log has lost its start, and what the hook said".to_owned()
        }
        (None, Measured::Unmeasured { unmeasured }) => {
            format!("what the hook said is unmeasured: {unmeasured}")
        }
    };
    let outcome = match standing {
        Standing::There { driver: Some(driver) } if driver == "vfio-pci" => match said.last() {
            Some(said) => Outcome::Pass(format!(
                "vfio-pci, since {:.1} s after the start, by the hook in the initramfs",
                said.at
            )),
            None if log.known().is_some_and(|log| log.is_whole) => {
                Outcome::Pass(format!("vfio-pci, from somebody later: {of_hook}"))
            }
            None => Outcome::Pass(format!("vfio-pci; {of_hook}")),
        },
        Standing::There { driver: Some(driver) } => {
            let kind =
                if is_built_in(host, driver) { ", which is built into the kernel," } else { "" };
            Outcome::Fail(format!("{driver}{kind} has it; {of_hook}"))
        }
        Standing::There { driver: None } => Outcome::Fail(format!("no driver has it; {of_hook}")),
        other => Outcome::Fail(super::elsewhere(other)),
    };
    Claim { about: address.to_string(), claim: "vfio-pci has it", outcome }
}

/// Whether a driver is a part of the kernel: a module that was loaded has a state
/// (Documentation/ABI/testing/sysfs-module).
fn is_built_in(host: &Sysroot, driver: &str) -> bool {
    let link = host.link(format!("/sys/bus/pci/drivers/{driver}/module"));
    let module = link.ok().and_then(|target| Some(target.file_name()?.to_str()?.to_owned()));
    let module = module.unwrap_or_else(|| driver.replace('-', "_"));
    // Without a list of modules nothing follows.
    host.exists("/sys/module") && !host.exists(format!("/sys/module/{module}/initstate"))
}

/// Whether the IOMMU keeps the function's group apart, and VFIO would give it away.
fn group(context: &Context<'_>, host: &Host, reserved: &Reserved) -> Claim {
    let address = reserved.address;
    let claim = "its IOMMU group can be given away";
    let about = address.to_string();
    let Some(number) = host.function(address).and_then(|function| function.group) else {
        let why = "it is in no IOMMU group: the IOMMU does not translate for it";
        return Claim { about, claim, outcome: Outcome::Fail(why.to_owned()) };
    };
    let outcome = if context.host.is_live() && context.vars.is_root {
        match vfio::is_group_viable(context.host, address, number) {
            Ok(true) => Outcome::Pass(format!("group {number}, as VFIO says")),
            Ok(false) => Outcome::Fail(format!(
                "group {number}: VFIO says no; {}",
                held(host, number).unwrap_or_else(|| "who holds it is not seen".to_owned())
            )),
            // Whoever has it open was given it.
            Err(vfio::Error::Busy { .. }) => {
                Outcome::Pass(format!("group {number} is given away now"))
            }
            Err(error) => Outcome::Unmeasured(format!("group {number}: {error}")),
        }
    } else {
        match held(host, number) {
            Some(why) => Outcome::Fail(format!("group {number}: {why}")),
            None => Outcome::Pass(format!("group {number}, whose functions no host driver has")),
        }
    };
    Claim { about, claim, outcome }
}

/// The functions of a group that host drivers hold.
fn held(host: &Host, group: u32) -> Option<String> {
    let held = host.group(group).filter(|function| !function.class.is_bridge());
    let held: Vec<_> = held
        .filter_map(|function| {
            let driver = function.driver.as_deref().filter(|_| !function.is_given_away())?;
            Some(format!("{} is held by {driver}", function.address))
        })
        .collect();
    (!held.is_empty()).then(|| held.join(", "))
}

/// Whether this boot has what the next one was proved to have, and whether the files that the next
/// image is built from are still as they were written.
pub(super) fn boot(
    context: &Context<'_>,
    boot: &Boot,
    goal: &Goal,
) -> Result<Vec<Claim>, CommandError> {
    let mut claims = Vec::new();
    let mut add = |claim, outcome| {
        claims.push(Claim { about: "this boot".to_owned(), claim, outcome });
    };
    if goal.reservations.functions.is_empty() {
        return Ok(claims);
    }
    if rescue::is_off(context.host)? {
        let why = "it was started with kireji.off".to_owned();
        add("reservations hold in it", Outcome::Fail(why));
    }
    let line = context.host.optional_text("/proc/cmdline")?.unwrap_or_default();
    if let Some(id) = &goal.reservations.trial {
        let outcome = match words::value(&line, "kireji.trial") == Some(id.as_str()) {
            true => {
                Outcome::Pass(format!("kireji.trial={id}; `kireji verify --keep` makes it last"))
            }
            false => Outcome::Fail(format!("kireji.trial={id} is not on its command line")),
        };
        add("it is the trial that was reserved", outcome);
    }
    let present = words::split(&line);
    let has = |word: &String| present.iter().any(|other| words::is_same(other, word));
    let missing: Vec<_> = goal.parameters.add.iter().filter(|word| !has(word)).cloned().collect();
    if !goal.parameters.add.is_empty() {
        add(
            "its command line has what was added",
            match missing.is_empty() {
                true => Outcome::Pass(goal.parameters.add.join(" ")),
                false => Outcome::Fail(format!("no {}", missing.join(", "))),
            },
        );
    }
    // A capture has no times of its own.
    if context.host.is_live() {
        add("it began with the images that are there", images(context.host, boot));
    }
    let about = "the files of the reservation".to_owned();
    let outcome = match goal::plan(context.host, boot, goal) {
        Ok(plan) if plan.is_empty() => Outcome::Pass("nothing was changed since".to_owned()),
        Ok(plan) => {
            let changed = plan.files.iter().map(|file| file.path.display().to_string());
            let changed = changed.chain(plan.commands.iter().map(|one| format!("`{one}`")));
            let changed: Vec<_> = changed.collect();
            Outcome::Fail(format!("to be done again: {}", changed.join(", ")))
        }
        Err(error) => Outcome::Unmeasured(error.to_string()),
    };
    claims.push(Claim { about, claim: "they are as they were written", outcome });
    Ok(claims)
}

/// Whether this boot may have begun with other images than those that are there now.
fn images(host: &Sysroot, boot: &Boot) -> Outcome {
    let began = host.text("/proc/stat").ok().and_then(|text| began(&text));
    let Some(began) = began else {
        return Outcome::Unmeasured("/proc/stat does not say when it began".to_owned());
    };
    let running: Vec<_> = boot.kernels.iter().filter(|kernel| kernel.is_running).collect();
    let entries = boot.entries.iter().filter(|entry| !entry.is_fallback());
    let booted = entries.filter(|entry| running.iter().any(|kernel| entry.boots(kernel)));
    let mut images: Vec<_> = booted
        .flat_map(|entry| std::iter::once(&entry.kernel).chain(&entry.images))
        .chain(running.iter().filter_map(|kernel| kernel.image.as_ref()))
        .filter_map(|path| Some((path.clone(), host.node(path).ok()?.modified)))
        .collect();
    images.sort();
    images.dedup();
    since(&images, began)
}

/// Which images were written after a boot began, at a time in seconds since 1970.
fn since(images: &[(PathBuf, i64)], began: i64) -> Outcome {
    let listed = |is_newer: bool| {
        let images = images.iter().filter(|(_, written)| (*written > began) == is_newer);
        let names: Vec<_> = images.map(|(path, _)| path.display().to_string()).collect();
        names.join(", ")
    };
    match (&*listed(true), listed(false)) {
        ("", all) if all.is_empty() => Outcome::Unmeasured("none of them is known".to_owned()),
        ("", all) => Outcome::Pass(format!("none was written since: {all}")),
        (newer, _) => Outcome::Unmeasured(format!("written since: {newer}")),
    }
}

/// When a boot began, in seconds since 1970 (proc_stat(5)).
fn began(stat: &str) -> Option<i64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// What the kernel's log has of the hook.
struct Log {
    /// Whether it begins with its first record: later ones take the place of the oldest.
    is_whole: bool,
    said: Vec<Said>,
}

/// What the hook said.
#[derive(Debug, PartialEq)]
struct Said {
    /// When, in seconds since the start of the kernel.
    at: f64,
    text: String,
}

/// Reads what the hook said in this boot from the kernel's log: records of a head, `;` and a text,
/// each a line (Documentation/ABI/testing/dev-kmsg).
fn log(host: &Sysroot) -> Measured<Log> {
    const LOG: &str = "/dev/kmsg";
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(host.locate(LOG), flags, Mode::empty());
    let mut file = match opened {
        Ok(file) => std::fs::File::from(file).take(LOG_LIMIT),
        Err(errno) => return Measured::unmeasured(format!("{LOG}: {errno}")),
    };
    let (mut text, mut record) = (String::new(), vec![0; 16 << 10]);
    loop {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(count) => text.push_str(&String::from_utf8_lossy(&record[..count])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // Records were overwritten before they were read.
            Err(error)
                if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {}
            Err(error) => return Measured::unmeasured(format!("{LOG}: {error}")),
        }
    }
    let is_whole = number(&text) == Some(0);
    Measured::Known(Log { is_whole, said: text.lines().filter_map(said).collect() })
}

/// The number of a record, the first being 0.
fn number(record: &str) -> Option<u64> {
    record.split(',').nth(1)?.parse().ok()
}

fn said(line: &str) -> Option<Said> {
    let (head, text) = line.split_once(';')?;
    let text = text.strip_prefix("kireji: ")?.to_owned();
    let microseconds: u32 =
        head.split(',').nth(2)?.parse::<u64>().ok()?.min(u64::from(u32::MAX)).try_into().ok()?;
    Some(Said { at: f64::from(microseconds) / 1e6, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_is_heard_in_the_kernels_log() {
        let found = said("6,433,1234567,-;kireji: 0000:01:00.0: vfio-pci has it");
        let text = "0000:01:00.0: vfio-pci has it".to_owned();
        assert_eq!(found, Some(Said { at: 1.234_567, text }));
        assert_eq!(said("6,433,1234567,-;e1000e: kireji: x"), None);
        assert_eq!(said(" SUBSYSTEM=pci"), None);
        assert_eq!(number("6,0,0,-;Linux version 6.12\n6,1,5,-;x\n"), Some(0));
        assert_eq!(number(""), None);
    }

    #[test]
    fn images_that_were_written_since_the_boot_are_not_those_it_began_with() {
        assert_eq!(began("cpu 1 2\nbtime 1700000000\nprocesses 5\n"), Some(1_700_000_000));
        assert_eq!(began("btime x\n"), None);
        let (kernel, image) = (("/boot/vmlinuz".into(), 5), ("/boot/initrd".into(), 9));
        let both = [kernel.clone(), image.clone()];
        let text = |images: &[_], began| match since(images, began) {
            Outcome::Pass(what) => format!("PASS {what}"),
            Outcome::Unmeasured(why) => why,
            Outcome::Fail(why) => panic!("{why}"),
        };
        assert_eq!(text(&both, 9), "PASS none was written since: /boot/vmlinuz, /boot/initrd");
        assert_eq!(text(&both, 8), "written since: /boot/initrd");
        assert_eq!(text(&[], 8), "none of them is known");
    }
}
