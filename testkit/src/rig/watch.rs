//! `kireji run --watch` inside a rig: real cards over several guests.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};

use pci::Address;
use rustix::process::{Pid, Signal, kill_process};

use super::command::command;
use super::{Outcome, Rig, said};
use crate::image;

const IMAGE: &str = "/tmp/watch.image";
/// What is put into the guest, and changes.
const NOTE: &str = "/tmp/watch-note";
/// What the command says.
const LOG: &str = "/tmp/watch-log";

/// Ends the command, if a check before its end failed.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        // It has ended if all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn log() -> Result<String, String> {
    fs::read_to_string(LOG).map_err(said)
}

impl Rig<'_> {
    /// Waits for the guest with this number, which begins with 1.
    fn guest_starts(&self, number: usize) -> Outcome {
        let starts = || Ok(log()?.matches("QEMU starts after").count() == number);
        self.settles(&format!("guest {number} starts"), starts)
            .map_err(|error| format!("{error}: {}", log().unwrap_or_else(|error| error)))
    }
}

/// Two guests get the same cards one after the other; the cards are taken before the first and given
/// back after the last, each once. Of the second card, which the kernel cannot reset, it says so.
pub(super) fn holds(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let [resettable, other] = *functions else { return Err("this takes two functions".to_owned()) };
    let before = rig.bindings(functions)?;
    image::volume(Path::new("/bin/kireji"), IMAGE.as_ref(), "12M");
    fs::write(NOTE, "one").map_err(said)?;
    let line = format!(
        "run {IMAGE} --device {resettable} --device {other} --watch --put {NOTE}:home/note \
         --until never --net none --memory 64 --cpus 1 --accel tcg"
    );
    let both = File::create(LOG).map_err(said)?;
    let err = both.try_clone().map_err(said)?;
    let child = command(&line).stdin(Stdio::null()).stdout(both).stderr(err).spawn();
    let mut watching = Watching(child.map_err(said)?);
    rig.guest_starts(1)?;
    let during = rig.bindings(functions)?;
    rig.holds("both are on vfio-pci", during.iter().all(vfio::take::Binding::is_vfio))?;
    fs::write(NOTE, "number two").map_err(said)?;
    rig.guest_starts(2)?;
    rig.same("the second guest has the same", rig.bindings(functions)?, during)?;

    let pid = i32::try_from(watching.0.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
    kill_process(pid, Signal::INT).map_err(said)?;
    let code = watching.0.wait().map_err(said)?.code();
    rig.same("the exit code", code, Some(130))?;
    rig.same("all are as they were", rig.bindings(functions)?, before)?;
    let log = log()?;
    let count = |text: String| log.matches(&text).count();
    rig.same("one is back once", count(format!("{resettable} is back on ")), 1)?;
    rig.same("the other too", count(format!("{other} has no driver again")), 1)?;
    let warning = |address| count(format!("no way to reset {address}"));
    rig.same("the warnings", (warning(resettable), warning(other)), (0, 1))
}
