//! Cards of a run that were taken before: they stay taken after it.

use host::Sysroot;
use pci::{Address, Named};
use rustix::fs::{Access, AtFlags, CWD};
use rustix::process::Resource;
use vfio::take::{Held, Keeper, State};

use crate::command::{outcome, refuse};
use crate::{CommandError, Context, Exit};

use super::Args;

/// A card that somebody has taken, and what the run gets of it.
pub(super) struct Leased {
    pub(super) held: Held,
    pub(super) functions: Vec<Address>,
}

/// Divides the cards that were named into those that were taken before and the others.
///
/// What would be lost was judged when a card was taken; it is not asked again.
pub(super) fn split(
    args: &Args,
    context: &Context<'_>,
) -> Result<(Vec<Leased>, Vec<Named>), CommandError> {
    let keeper = Keeper::new(context.host, context.writer);
    let leases = keeper.leases().map_err(outcome::lease_error)?;
    let mut leased: Vec<Leased> = Vec::new();
    let mut others = Vec::new();
    for named in &args.device {
        let address = named.address;
        let Some(held) = leases.iter().find(|held| held.lease.holds(address)) else {
            others.push(*named);
            continue;
        };
        may_use(held, context)?;
        let functions = match args.allowed.function {
            true => vec![address],
            false => held.lease.before.iter().map(|(address, _)| *address).collect(),
        };
        match leased.iter_mut().find(|one| one.held == *held) {
            Some(one) => one.functions.extend(functions),
            None => leased.push(Leased { held: held.clone(), functions }),
        }
    }
    for one in &mut leased {
        one.functions.sort_unstable();
        one.functions.dedup();
    }
    Ok((leased, others))
}

fn may_use(held: &Held, context: &Context<'_>) -> Result<(), CommandError> {
    if held.state != State::Held {
        return Err(outcome::taken(held.lease.card, &held.state));
    }
    let uid = rustix::process::geteuid().as_raw();
    match &held.lease.user {
        Some(user) if !context.vars.is_root && user.uid != uid => {
            let message = format!("{} was taken for {user}", held.lease.card);
            return Err(CommandError::new(Exit::Permission, message)
                .hint(format!("run `{}`", context.vars.sudo_line())));
        }
        _ => {}
    }
    refuse::users(context, held)
}

/// Refuses a run of a user who may not open the nodes of the cards.
pub(super) fn may_open(context: &Context<'_>, functions: &[Address]) -> Result<(), CommandError> {
    let failed = |error| CommandError::from_source(Exit::HostCannot, error);
    for function in functions {
        for node in needed(context.host, *function).map_err(failed)? {
            let access = Access::READ_OK | Access::WRITE_OK;
            let path = context.host.locate(&node);
            if rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS).is_ok() {
                continue;
            }
            return Err(CommandError::new(
                Exit::Permission,
                format!("{function} is driven through {node}, which this user may not open"),
            )
            .hint(format!("run `{}`", context.vars.sudo_line()))
            .hint(format!(
                "`sudo kireji take {function} --for USER` gives it to a user; return it first, if \
                 it is taken"
            )));
        }
    }
    Ok(())
}

/// Refuses a run whose memory the user may not lock: VFIO locks all of the guest's, and only root
/// may raise the hard limit (getrlimit(2), `RLIMIT_MEMLOCK`).
pub(super) fn may_lock(context: &Context<'_>, needed: Option<u64>) -> Result<(), CommandError> {
    let hard = rustix::process::getrlimit(Resource::Memlock).maximum;
    match (needed, hard) {
        (Some(needed), Some(hard)) if !context.vars.is_root && hard < needed => {
            Err(too_little(needed, hard).hint(format!("or run `{}`", context.vars.sudo_line())))
        }
        _ => Ok(()),
    }
}

fn too_little(needed: u64, hard: u64) -> CommandError {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    CommandError::new(
        Exit::Permission,
        format!(
            "the guest needs {} MiB of locked memory, and this user may lock {} MiB",
            mib(needed),
            hard >> 20
        ),
    )
    .code("E-LOCKED-MEMORY")
    .hint(format!(
        "put `USER hard memlock {}` into a file in /etc/security/limits.d and log in again",
        needed.div_ceil(1024)
    ))
    .hint("or give the guest less with `--memory`")
}

/// The nodes that QEMU opens for a function: with the group interface, the kernel has a node for
/// containers; without it, each function has one of its own, and the IOMMU has one.
fn needed(host: &Sysroot, function: Address) -> Result<Vec<String>, host::ReadError> {
    let (container, iommu) = ("/dev/vfio/vfio", "/dev/iommu");
    let nodes = vfio::take::nodes(host, &[function])?;
    let is_own = |node: &String| node.starts_with("/dev/vfio/devices/");
    let by_group = host.exists(container);
    let nodes = nodes.into_iter().filter(|node| is_own(node) != by_group);
    Ok(nodes.chain([if by_group { container } else { iommu }.to_owned()]).collect())
}
