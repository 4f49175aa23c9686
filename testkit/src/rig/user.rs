//! A card that is prepared for a user, who then runs guests with it without root's rights.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;

use pci::Address;
use rustix::process::{Resource, Rlimit};

use super::command::{Ended, command};
use super::{Outcome, Rig, one, said};
use crate::image::{self, Then};

const YUI: u32 = 1000;
const MORI: u32 = 1001;
/// What a user may lock by default on most systems, in bytes: less than any guest needs.
const LITTLE: u64 = 8 << 20;
/// What the guest needs at most, in bytes.
const ENOUGH: u64 = 2 << 30;
const HOME: &str = "/tmp/home";

impl Rig<'_> {
    /// Runs the tool as a user who may lock `memory` bytes.
    fn as_user(&self, uid: u32, memory: u64, words: &str) -> Result<Ended, String> {
        let before = rustix::process::getrlimit(Resource::Memlock);
        let limit = Rlimit { current: Some(memory), maximum: Some(memory) };
        rustix::process::setrlimit(Resource::Memlock, limit).map_err(said)?;
        let output = command(words).uid(uid).gid(uid).env("HOME", HOME).output();
        rustix::process::setrlimit(Resource::Memlock, before).map_err(said)?;
        let ended = Ended::from(output.map_err(said)?);
        self.ok(format!("`kireji {words}` of user {uid} ends with {:?}", ended.code));
        Ok(ended)
    }
}

pub(super) fn runs_as_user(rig: &Rig<'_>, functions: &[Address]) -> Outcome {
    let address = one(functions)?;
    let before = rig.bindings(functions)?;
    std::fs::create_dir_all("/etc").map_err(said)?;
    let lines = format!("root:x:0:0::/:/bin/sh\nyui:x:{YUI}:{YUI}::{HOME}:/bin/sh\n");
    std::fs::write("/etc/passwd", lines).map_err(said)?;
    std::fs::create_dir_all(HOME).map_err(said)?;
    chown(HOME, Some(YUI), Some(YUI)).map_err(said)?;
    let image = format!("{HOME}/off.image");
    image::write(image.as_ref(), "hello from the guest\r\n", Then::PowerOff);
    let run = format!(
        "run {image} --device {address} --net none --memory 64 --cpus 1 --accel tcg --json"
    );

    let unknown = rig.expect(&format!("take {address} --for nobody-here"), 2)?;
    rig.says(&unknown.err, "there is no user nobody-here")?;
    rig.same("nothing has changed", rig.bindings(functions)?, before.clone())?;

    rig.expect(&format!("take {address}"), 0)?;
    let denied = rig.as_user(YUI, ENOUGH, &run)?;
    rig.same("its node is root's", denied.code, Some(13))?;
    rig.says(&denied.err, "--for USER")?;
    rig.expect(&format!("return {address}"), 0)?;

    let taken = rig.expect(&format!("take {address} --for yui"), 0)?;
    let node = taken.out.lines().find_map(|line| Some(line.split_once(" belongs to yui")?.0));
    let node = node.ok_or_else(|| format!("no node in: {}", taken.out))?.to_owned();
    let owner = rig.host.node(&node).map_err(said)?;
    rig.same("its node is the user's", (owner.uid, owner.gid), (YUI, YUI))?;
    let status = rig.expect("status", 0)?;
    rig.says(&status.out, "held for yui")?;

    let little = rig.as_user(YUI, LITTLE, &run)?;
    rig.same("memory that may not be locked", little.code, Some(13))?;
    rig.says(&little.err, "this user may lock 8 MiB")?;
    rig.says(&little.err, "/etc/security/limits.d")?;
    let other = rig.as_user(MORI, ENOUGH, &run)?;
    rig.same("another user", other.code, Some(13))?;
    rig.says(&other.err, "was taken for yui")?;

    let tested = rig.as_user(YUI, LITTLE, &format!("selftest {address}"))?;
    rig.says(&tested.out, "The card can be driven through VFIO.")?;
    let ran = rig.as_user(YUI, ENOUGH, &run)?;
    if ran.code != Some(0) {
        return Err(format!("the user's run: {}{}", ran.out, ran.err));
    }
    let log = rig.as_user(YUI, LITTLE, "log")?;
    rig.says(&log.out, "hello from the guest")?;
    let status = rig.expect("status", 0)?;
    rig.says(&status.out, "held for yui")?;
    rig.same("its driver", rig.driver(address)?, Some("vfio-pci".to_owned()))?;
    rig.expect(&format!("return {address}"), 0)?;
    rig.same("the first binding", rig.bindings(functions)?, before)?;
    rig.holds("its node is gone", !rig.host.exists(&node))
}
