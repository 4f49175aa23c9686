//! `kireji take`: a card goes from its driver to vfio-pci.

use host::{Program, Sysroot};
use pci::{Host, Named};
use vfio::take::{Binding, Keeper, Purpose, Recipient, VFIO_PCI};

use crate::signals::Signals;
use crate::{CommandError, Context, Exit, user};

use super::refuse::{self, Allowed};
use super::{outcome, recover};

/// Arguments of `take`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The card (29:00), or a function of it (29:00.0)
    #[arg(required = true)]
    addresses: Vec<Named>,
    /// Prepare the card for runs of this user without root's rights
    #[arg(long = "for", value_name = "USER")]
    user: Option<String>,
    #[command(flatten)]
    allowed: Allowed,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Takes the card.
///
/// # Errors
/// Something would be lost, the card is busy, or the kernel refused.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    if !args.dry_run {
        super::need_root(context)?;
        recover::first(context)?;
    }
    let user = args.user.as_deref().map(|name| recipient(name, context)).transpose()?;
    let host = Host::read(context.host)?;
    let functions = refuse::check(context, &host, &args.addresses, &args.allowed)?;
    if args.dry_run {
        for address in &functions {
            let driver = host.function(*address).and_then(|function| function.driver.as_deref());
            let driver = driver.unwrap_or("no driver");
            match Binding::read(context.host, *address)?.is_vfio() {
                true => writeln!(context.out, "{address} would stay on {driver}")?,
                false => writeln!(context.out, "{address} would go from {driver} to vfio-pci")?,
            }
        }
        if let Some(user) = &user {
            writeln!(context.out, "their device nodes would be given to {user}")?;
        }
        return Ok(Exit::Done);
    }
    load_vfio(context)?;
    let keeper = Keeper::new(context.host, context.writer);
    let signals = Signals::catch()?;
    let held =
        keeper.take_for(&functions, Purpose::Hold, user.as_ref()).map_err(outcome::take_error)?;
    if signals.came() {
        let restored = keeper.give_back(&held, &[]).map_err(outcome::take_error)?;
        for one in &restored {
            writeln!(context.err, "interrupted: {}", outcome::restored_in_words(one))?;
        }
        return Ok(Exit::Interrupted);
    }
    for (address, before) in &held.lease.before {
        let driver = before.driver.as_deref().unwrap_or("no driver");
        match before.is_vfio() {
            true => writeln!(context.out, "{address} stays on {driver}")?,
            false => writeln!(context.out, "{address} went from {driver} to vfio-pci")?,
        }
    }
    if let Some(user) = &user {
        for node in vfio::take::nodes(context.host, &functions)? {
            writeln!(context.out, "{node} belongs to {user} until the card is returned")?;
        }
    }
    writeln!(context.err, "return it with `kireji return {}`", held.lease.card)?;
    Ok(Exit::Done)
}

fn recipient(name: &str, context: &Context<'_>) -> Result<Recipient, CommandError> {
    user::find(context.host, context.runner, name).ok_or_else(|| {
        CommandError::new(Exit::Usage, format!("there is no user {name}"))
            .code("E-NO-USER")
            .hint("`getent passwd` lists the users of this host")
    })
}

/// Loads vfio-pci, unless it is there.
pub(super) fn load_vfio(context: &Context<'_>) -> Result<(), CommandError> {
    if is_known(context.host) {
        return Ok(());
    }
    let cannot = || {
        CommandError::new(Exit::HostCannot, "the kernel has no driver vfio-pci")
            .code("E-NO-VFIO-PCI")
            .hint("install the package with all modules of the running kernel")
    };
    let done = context
        .runner
        .run(&Program::new("modprobe").arg(VFIO_PCI))
        .map_err(|error| CommandError::from_source(Exit::HostCannot, error))?;
    if done.status.success() && is_known(context.host) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(said.trim().lines().fold(cannot(), |error, line| error.hint(format!("modprobe: {line}"))))
}

fn is_known(host: &Sysroot) -> bool {
    host.exists(format!("/sys/bus/pci/drivers/{VFIO_PCI}"))
}
