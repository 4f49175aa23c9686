//! Taking and returning cards with the tool itself, crashes included.
//!
//! What `testkit::fake_kernel` claims of the kernel is tried here on the real one.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use host::{Measured, SystemRunner};
use pci::{Address, Function};
use rustix::process::{Pid, Signal, kill_process_group};
use vfio::Device;
use vfio::take::{
    Binding, DirectWriter, HelperWriter, Keeper, Order, Purpose, SysfsWriter, WriteFailure,
};

use super::command::{Ended, command};
use super::moments::Moments;
use super::{Outcome, Rig, one, said};

const VFIO_PCI: &str = "vfio-pci";

impl Rig<'_> {
    fn binding(&self, address: Address) -> Result<Binding, String> {
        Binding::read(&self.host, address).map_err(said)
    }

    pub(super) fn bindings(&self, functions: &[Address]) -> Result<Vec<Binding>, String> {
        functions.iter().map(|address| self.binding(*address)).collect()
    }
}

/// A card goes and comes back, and a second command meanwhile is told that it is busy.
pub(super) fn comes_back(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let before = rig.bindings(functions)?;
    let given = before.iter().any(|binding| binding.vfio != Measured::Known(false));
    rig.holds("no host driver gives a card to VFIO", !given)?;
    for address in functions {
        rig.expect(&format!("take {address}"), 0)?;
        let registered = rig.host.optional_names(format!("{}/vfio-dev", Function::path(*address)));
        rig.holds("the kernel shows that VFIO has it", !registered.map_err(said)?.is_empty())?;
        let taken = Binding {
            driver: Some(VFIO_PCI.to_owned()),
            driver_override: Some(VFIO_PCI.to_owned()),
            resets: rig.binding(*address)?.resets,
            vfio: Measured::Known(true),
        };
        rig.same("its binding", rig.binding(*address)?, taken)?;
        let again = rig.expect(&format!("take {address}"), 12)?;
        rig.says(&again.err, "E-BUSY")?;
        let status = rig.expect("status", 0)?;
        rig.says(&status.out, &address.to_string())?;
    }
    for address in functions {
        rig.expect(&format!("return {address}"), 0)?;
    }
    rig.same("the first drivers and overrides", rig.bindings(functions)?, before)?;
    let ended = rig.expect(&format!("return {}", functions[0]), 11)?;
    rig.says(&ended.err, "E-NOT-HELD")
}

/// A disk that is not mounted and holds something is refused, until its own loss is allowed.
pub(super) fn disk_data(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.binding(address)?;
    let refused = rig.expect(&format!("take {address}"), 10)?;
    rig.says(&refused.err, "E-DISK-DATA")?;
    rig.same("nothing has changed", rig.binding(address)?, before.clone())?;
    let serial = refused.err.split("serial ").nth(1).and_then(|rest| rest.split([',', ')']).next());
    let serial = serial.ok_or_else(|| format!("no serial number in: {}", refused.err))?;
    let other = rig.expect(&format!("take {address} --allow data-loss=another"), 10)?;
    rig.says(&other.err, "E-DISK-DATA")?;
    rig.expect(&format!("take {address} --allow data-loss={serial}"), 0)?;
    rig.expect(&format!("return {address}"), 0)?;
    rig.same("its binding", rig.binding(address)?, before)
}

/// A bind that the kernel refuses (error 22, in silence) is seen and rolled back.
pub(super) fn rolls_back(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.binding(address)?;
    rig.holds("it has a driver at first", before.driver.is_some())?;
    let refused = rig.expect(&format!("take {address}"), 10)?;
    rig.says(&refused.err, "E-NO-IOMMU")?;
    let failed = rig.expect(&format!("take {address} --allow E-NO-IOMMU-GROUP"), 11)?;
    rig.says(&failed.err, "vfio-pci did not bind")?;
    rig.same("driver and override are the first", rig.binding(address)?, before)?;
    let status = rig.expect("status", 0)?;
    rig.says(&status.out, "No card is held.")
}

/// `drivers_probe` reports success where no driver can bind.
pub(super) fn probe_is_silent(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.binding(address)?;
    let path = Function::path(address);
    let write = |path: &str, value: &str| std::fs::write(path, value).map_err(said);
    write(&format!("{path}/driver_override"), "no-such-driver\n")?;
    if before.driver.is_some() {
        write(&format!("{path}/driver/unbind"), &address.to_string())?;
    }
    write("/sys/bus/pci/drivers_probe", &address.to_string())?;
    rig.ok("the write succeeded");
    rig.same("no driver bound", rig.binding(address)?.driver, None)?;
    write(&format!("{path}/driver_override"), "\n")?;
    write("/sys/bus/pci/drivers_probe", &address.to_string())?;
    rig.same("an empty line clears the override", rig.binding(address)?, before)
}

/// Of twins only the named one moves.
pub(super) fn twins(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let [first, second] = functions else { return Err("this takes two functions".to_owned()) };
    let read = |address| Function::read(&rig.host, address).map_err(said);
    rig.same("their ids", read(*first)?.ids, read(*second)?.ids)?;
    let before = rig.bindings(functions)?;
    rig.expect(&format!("take {first}"), 0)?;
    rig.same("the other one's binding", rig.binding(*second)?, before[1].clone())?;
    rig.expect(&format!("return {first}"), 0)?;
    rig.same("both bindings", rig.bindings(functions)?, before)
}

/// A card whose group holds another one is refused by the other one's name.
pub(super) fn shared(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let [first, second] = functions else { return Err("this takes two functions".to_owned()) };
    let before = rig.bindings(functions)?;
    let refused = rig.expect(&format!("take {first} --function"), 10)?;
    rig.says(&refused.err, "E-GROUP-SHARED")?;
    rig.says(&refused.err, &second.to_string())?;
    rig.same("nothing has changed", rig.bindings(functions)?, before)
}

/// Who has the card open while it is to be returned is named; then a write to `unbind` would hang,
/// and does, where only the helper process suffers.
pub(super) fn user_is_named(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.binding(address)?;
    rig.expect(&format!("take {address}"), 0)?;
    let device = Device::open(&rig.host, address).map_err(said)?;
    let refused = rig.expect(&format!("return {address}"), 12)?;
    rig.says(&refused.err, &std::process::id().to_string())?;

    let helper = HelperWriter {
        runner: &SystemRunner,
        executable: PathBuf::from("/bin/kireji"),
        args: vec![
            "internal".to_owned(),
            "write-sysfs".to_owned(),
            format!("--parent={}", std::process::id()),
        ],
        limit: Duration::from_secs(2),
    };
    let path = format!("{}/driver/unbind", Function::path(address));
    match helper.write(&Order { path: &path, value: &address.to_string(), lock: None }) {
        Err(WriteFailure::Hung { .. }) => rig.ok("an unbind of a device in use hangs"),
        other => return Err(format!("the unbind of a device in use: {other:?}")),
    }
    drop(device);
    rig.settles("closed, the unbind ends", || Ok(rig.binding(address)?.driver.is_none()))?;
    rig.expect(&format!("return {address}"), 0)?;
    rig.same("its binding", rig.binding(address)?, before)
}

/// Takes a card for a run, and dies with it.
pub(super) fn abandon(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let writer = DirectWriter(&rig.host);
    Keeper::new(&rig.host, &writer).take(functions, Purpose::Run).map_err(said)?;
    Ok(())
}

/// kireji is killed while its helper is in the kernel. The helper's card is busy until its write
/// has ended, other cards are not, and what it did late is undone.
pub(super) fn late_write(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let [address, other] = functions else { return Err("this takes two functions".to_owned()) };
    let before = rig.bindings(functions)?;
    let itself = std::env::current_exe().map_err(said)?;
    let abandoned = Command::new(itself).args(["abandon", &address.to_string()]).status();
    rig.holds("a card is left behind", abandoned.map_err(said)?.success())?;
    let device = Device::open(&rig.host, *address).map_err(said)?;
    // The unbind of a device that is open does not end.
    let mut killed = command("recover").stdout(Stdio::null()).spawn().map_err(said)?;
    let lock = format!("/run/kireji/leases/{address}.helper");
    let is_at_work =
        || Ok(rig.host.optional_text(&lock).map_err(said)?.unwrap_or_default().contains("unbind"));
    rig.settles("its helper is at work", is_at_work)?;
    // What is left for it to do is to enter the kernel.
    std::thread::sleep(Duration::from_millis(500));
    killed.kill().map_err(said)?;
    killed.wait().map_err(said)?;

    let status = rig.expect("status", 0)?;
    rig.says(&status.out, "still writes")?;
    let busy = rig.expect("recover", 12)?;
    rig.says(&busy.err, "still writes")?;
    rig.says(&busy.err, "/driver/unbind")?;
    let refused = rig.expect(&format!("return {address}"), 12)?;
    rig.says(&refused.err, "reboot, do not retry")?;
    let passed = rig.expect(&format!("take {other}"), 0)?;
    rig.says(&passed.err, "could not be recovered")?;
    rig.expect(&format!("return {other}"), 0)?;

    let recovery = command("recover").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let recovery = recovery.map_err(said)?;
    std::thread::sleep(Duration::from_millis(500));
    drop(device);
    let ended = Ended::from(recovery.wait_with_output().map_err(said)?);
    if ended.code != Some(0) {
        return Err(format!("recover: {:?} {}", ended.code, ended.err));
    }
    rig.says(&ended.out, "is back on")?;
    rig.same("the first drivers and overrides", rig.bindings(functions)?, before)?;
    let status = rig.expect("status", 0)?;
    rig.says(&status.out, "No card is held.")
}

/// A write that hangs is given up after half a minute, and the card left alone until it ends.
pub(super) fn hung_and_ended(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.binding(address)?;
    let itself = std::env::current_exe().map_err(said)?;
    let abandoned = Command::new(itself).args(["abandon", &address.to_string()]).status();
    rig.holds("a card is left behind", abandoned.map_err(said)?.success())?;
    let device = Device::open(&rig.host, address).map_err(said)?;
    let hung = rig.expect("recover", 11)?;
    rig.says(&hung.err, "E-HUNG")?;
    let status = rig.expect("status", 0)?;
    rig.says(&status.out, "a write hangs in the kernel")?;
    for word in ["take", "return"] {
        let refused = rig.expect(&format!("{word} {address}"), 12)?;
        rig.says(&refused.err, "E-VFIO-IN-USE")?;
    }
    drop(device);
    rig.settles("closed, the write ends", || {
        Ok(rig.kireji("status")?.out.contains("left behind by process"))
    })?;
    rig.expect("recover", 0)?;
    rig.same("its binding", rig.binding(address)?, before)
}

impl Rig<'_> {
    /// Takes a card and returns it, and tells how long the taking took.
    fn time_of_a_take(&self, address: Address) -> Result<Duration, String> {
        let started = Instant::now();
        self.expect(&format!("take {address}"), 0)?;
        let whole = started.elapsed();
        self.expect(&format!("return {address}"), 0)?;
        Ok(whole)
    }

    /// Runs the tool, which has to succeed, without a word; for what is done many times.
    fn quietly(&self, words: &str) -> Outcome {
        let ended = self.kireji(words)?;
        match ended.code {
            Some(0) => Ok(()),
            code => Err(format!("`kireji {words}` ended with {code:?}: {}", ended.err)),
        }
    }
}

/// How often the tool is killed, at a random moment of a command.
const KILLS: u32 = 100;

/// Killed a hundred times while it takes and returns, the card is back each time after `recover`.
pub(super) fn survives_kills(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.binding(address)?;
    let whole = rig.time_of_a_take(address)?;
    let mut moments = Moments::new(whole.subsec_nanos());
    rig.ok(format!("a take lasts {} ms; {moments}", whole.as_millis()));
    let (mut early, mut midway) = (0, 0);
    for kill in 0..KILLS {
        // Odd ones kill a return.
        let word = if kill % 2 == 0 { "take" } else { "return" };
        if word == "return" {
            rig.quietly(&format!("take {address}"))?;
        }
        let moment = moments.within(whole);
        let mut child = command(&format!("{word} {address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(said)?;
        std::thread::sleep(moment);
        child.kill().map_err(said)?;
        child.wait().map_err(said)?;
        let recovered = rig.recovered().map_err(|error| format!("after kill {kill}: {error}"))?;
        match recovered.out.contains("Nothing to recover") {
            true => early += 1,
            false => midway += 1,
        }
        if rig.binding(address)? != before {
            // Killed after its last step, a take counts; before its first, so does the lease.
            let returned = rig.kireji(&format!("return {address}"))?;
            if returned.code != Some(0) {
                return Err(format!("return after kill {kill}: {}", returned.err));
            }
        }
        let now = rig.binding(address)?;
        if now != before {
            return Err(format!("after kill {kill} of a {word} at {moment:?}: {now:?}"));
        }
    }
    rig.ok(format!("{KILLS} kills, {midway} of them midway, {early} before or after the work"));
    rig.holds("some kills fell into the work", midway > 0)
}

/// How often the tool is interrupted, at a random moment of a command.
const INTERRUPTIONS: u32 = 20;

/// Ctrl-C, which the terminal sends to helpers too, leaves a card that is taken or one that is back,
/// and no lease that has to be recovered.
pub(super) fn is_interrupted(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.binding(address)?;
    let whole = rig.time_of_a_take(address)?;
    let mut ends = BTreeMap::new();
    for round in 0..INTERRUPTIONS {
        let word = if round % 2 == 0 { "take" } else { "return" };
        if word == "return" {
            rig.quietly(&format!("take {address}"))?;
        }
        let child = command(&format!("{word} {address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(said)?;
        let moment = whole * round / INTERRUPTIONS;
        std::thread::sleep(moment);
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
        // It may have ended.
        let _ = kill_process_group(group, Signal::INT);
        let Ended { code, err, .. } = child.wait_with_output().map_err(said)?.into();
        *ends.entry((word, code)).or_insert(0_u32) += 1;
        let status = rig.kireji("status")?.out;
        let now = rig.binding(address)?;
        let ended =
            format!("{word} interrupted after {moment:?} ended with {code:?}: {err}{now:?}");
        if status.contains("No card is held.") {
            if now != before {
                return Err(format!("{ended}, {status}"));
            }
            continue;
        }
        let returned = rig.kireji(&format!("return {address}"))?;
        if !status.contains("held until") || returned.code != Some(0) {
            return Err(format!("{ended}, {status}{}", returned.err));
        }
    }
    rig.ok(format!("{INTERRUPTIONS} interruptions: {ends:?}"));
    rig.same("its binding", rig.binding(address)?, before)
}
