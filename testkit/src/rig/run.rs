//! `kireji run` inside a rig: a guest with the card, and what is left when something dies.

use std::process::{Child, Stdio};
use std::time::Instant;

use pci::Address;
use rustix::process::{Pid, Signal, kill_process};
use vfio::take::Binding;

use super::command::command;
use super::moments::Moments;
use super::{Outcome, Rig, one, said};
use crate::image::{self, Then};

pub(super) fn words(address: Address, image: &str) -> String {
    format!("run {image} --device {address} --net none --memory 64 --cpus 1 --accel tcg --json")
}

pub(super) fn image(name: &str, then: Then) -> String {
    let path = format!("/tmp/{name}.image");
    image::write(path.as_ref(), "hello from the guest\r\n", then);
    path
}

impl Rig<'_> {
    fn binding_of(&self, address: Address) -> Result<Binding, String> {
        Binding::read(&self.host, address).map_err(said)
    }

    /// The process whose command is QEMU, if there is one.
    fn qemu(&self) -> Result<Option<Pid>, String> {
        for name in self.host.names("/proc").map_err(said)? {
            let Some(pid) = name.parse().ok().and_then(Pid::from_raw) else { continue };
            let command = self.host.text(format!("/proc/{name}/comm")).unwrap_or_default();
            let state = self.host.text(format!("/proc/{name}/stat")).unwrap_or_default();
            let line = self.host.text(format!("/proc/{name}/cmdline")).unwrap_or_default();
            // The lab starts QEMU through a loader, whose name it then has; and kireji has QEMU's
            // arguments among its own until it becomes QEMU.
            let is_qemu = line.contains("vfio-pci,host=") && command != "kireji";
            if is_qemu && !state.contains(") Z ") {
                return Ok(Some(pid));
            }
        }
        Ok(None)
    }

    /// Starts a run of a guest that halts, and waits until its QEMU has the card open.
    fn started(&self, address: Address) -> Result<(Child, Pid), String> {
        let child = command(&words(address, &image("halt", Then::Halt)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(said)?;
        let qemu = self.wait_for("QEMU runs", || self.qemu())?;
        self.wait_for("QEMU has the card open", || {
            let directory = format!("/proc/{}/fd", qemu.as_raw_nonzero());
            let names = self.host.names(&directory).unwrap_or_default();
            let opened = names.iter().any(|name| {
                let target = self.host.link(format!("{directory}/{name}"));
                target.is_ok_and(|target| target.to_string_lossy().contains("vfio-device"))
            });
            Ok(opened.then_some(()))
        })?;
        Ok((child, qemu))
    }
}

/// A guest runs with the card, powers off, and the card is back on its driver.
pub(super) fn runs_and_returns(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.binding_of(address)?;
    let line = words(address, &image("off", Then::PowerOff));
    let ended = rig.expect(&line, 0)?;
    rig.says(&ended.err, "is back on")?;
    rig.same("its binding", rig.binding_of(address)?, before)?;
    let log = rig.expect("log", 0)?;
    rig.says(&log.out, "hello from the guest")?;
    let runs = rig.expect("runs", 0)?;
    rig.says(&runs.out, "The guest shut down.")
}

/// The guest lets the card read memory that is not there: the kernel's word for it is the verdict.
pub(super) fn tells_a_fault(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.binding_of(address)?;
    let line = words(address, &image("fault", Then::WrongDma));
    let ended = rig.expect(&format!("{line} --until never"), 27)?;
    let why = "the card's access to 0x8000000, which is no memory of the guest's";
    rig.says(&ended.err, why)?;
    rig.says(&ended.err, "because the host's kernel said: DMAR: [DMA Read")?;
    rig.says(&ended.out, r#""sign":"host""#)?;
    rig.same("its binding", rig.binding_of(address)?, before)
}

/// QEMU is killed: the run says so, and the card is back.
pub(super) fn survives_qemus_death(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.binding_of(address)?;
    let (mut run, qemu) = rig.started(address)?;
    let busy = rig.expect(&format!("take {address}"), 12)?;
    rig.says(&busy.err, "E-")?;
    kill_process(qemu, Signal::KILL).map_err(said)?;
    let code = run.wait().map_err(said)?.code();
    rig.same("the exit code of the run", code, Some(29))?;
    rig.same("its binding", rig.binding_of(address)?, before)
}

/// kireji is killed while the guest runs: QEMU does not outlive it, and `recover` restores.
pub(super) fn survives_its_own_death(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.binding_of(address)?;
    let (mut run, _) = rig.started(address)?;
    run.kill().map_err(said)?;
    run.wait().map_err(said)?;
    rig.settles("QEMU is gone too", || Ok(rig.qemu()?.is_none()))?;
    let runs = rig.expect("runs", 0)?;
    rig.says(&runs.out, "kireji was killed")?;
    let recovered = rig.recovered()?;
    rig.says(&recovered.out, "is back on")?;
    rig.same("its binding", rig.binding_of(address)?, before)
}

/// Ctrl-C stops the guest and returns the card.
pub(super) fn stops_on_a_signal(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.binding_of(address)?;
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (mut run, _) = rig.started(address)?;
        let pid = i32::try_from(run.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
        kill_process(pid, signal).map_err(said)?;
        let code = run.wait().map_err(said)?.code();
        rig.same("the exit code of the run", code, Some(130))?;
        rig.same("its binding", rig.binding_of(address)?, before.clone())?;
    }
    Ok(())
}

/// How often a run is killed at a random moment; a start takes seconds here.
const KILLS: u32 = 12;

/// kireji and QEMU in turn are killed at a random moment of a run; each time the card comes back.
pub(super) fn survives_random_kills(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.binding_of(address)?;
    let started = Instant::now();
    let (mut run, _) = rig.started(address)?;
    let whole = started.elapsed();
    run.kill().map_err(said)?;
    run.wait().map_err(said)?;
    rig.recovered()?;
    let mut moments = Moments::new(whole.subsec_nanos());
    rig.ok(format!("the card is open after {} ms; {moments}", whole.as_millis()));

    let line = words(address, &image("halt", Then::Halt));
    let mut midway = 0;
    for kill in 0..KILLS {
        let child = command(&line).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut run = child.map_err(said)?;
        // Odd ones kill QEMU, some time after it is there.
        if kill % 2 == 0 {
            std::thread::sleep(moments.within(whole));
            run.kill().map_err(said)?;
        } else {
            let qemu = rig.wait_for("QEMU runs", || rig.qemu())?;
            std::thread::sleep(moments.within(whole / 4));
            kill_process(qemu, Signal::KILL).map_err(said)?;
        }
        run.wait().map_err(said)?;
        midway += u32::from(rig.binding_of(address)? != before);
        rig.recovered()?;
        rig.same(
            &format!("its binding after kill {kill}"),
            rig.binding_of(address)?,
            before.clone(),
        )?;
    }
    rig.ok(format!("{KILLS} kills, {midway} of them with the card away"));
    rig.holds("some kills fell into the work", midway > 0)
}
