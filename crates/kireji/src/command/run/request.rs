//! From arguments to a request for a machine.

use std::path::Path;

use guest::Guest;
use guest::kvm::Kvm;
use guest::machine::{Accelerator, Display, FirmwareKind, Network, PlanError, Request};
use guest::qemu::{Cache, Capabilities};

use crate::{CommandError, Context, Exit};

use super::cards::Cards;
use super::{Accel, Args, FirmwareChoice, Net, session};

/// Decides what runs the guest's processors.
pub(super) fn accelerator(
    args: &Args,
    context: &mut Context<'_>,
    cache: &Cache,
    qemu: &Capabilities,
) -> Result<Accelerator, CommandError> {
    let wanted = match args.accel {
        Accel::Tcg => return Ok(Accelerator::Tcg),
        // What QEMU was said to be able to do was said for a test; there is no binary to try.
        Accel::Auto if args.qemu_caps.is_some() => return Ok(Accelerator::Tcg),
        wanted => wanted,
    };
    let launcher = session::launcher(context);
    let user = context.vars.user.as_ref().map(|user| (&launcher, user));
    let kvm = cache.kvm(context.host, context.runner, &qemu.executable, user);
    let kvm = kvm.unwrap_or_else(|error| Kvm::Broken(error.to_string()));
    let why = match kvm {
        Kvm::Usable => return Ok(Accelerator::Kvm),
        Kvm::Absent => "there is no /dev/kvm: switch virtualisation on in the firmware".to_owned(),
        Kvm::Denied => "/dev/kvm may not be opened: join the group kvm".to_owned(),
        Kvm::Broken(why) => format!("/dev/kvm does not work: {why}"),
    };
    if wanted == Accel::Kvm {
        return Err(CommandError::new(Exit::HostCannot, "KVM cannot be used").hint(why));
    }
    writeln!(context.err, "WARNING: the guest runs many times slower, without KVM: {why}")?;
    Ok(Accelerator::Tcg)
}

/// Returns the request that the arguments mean.
pub(super) fn request(
    args: &Args,
    directory: &Path,
    guest: &dyn Guest,
    cards: &Cards,
    accelerator: Accelerator,
) -> Result<Request, CommandError> {
    let wants = guest.wants();
    let network = match (args.net, args.forward.is_empty()) {
        (Some(Net::None), false) => {
            let message = "`--forward` needs a network, and `--net none` leaves none";
            return Err(CommandError::new(Exit::Usage, message));
        }
        (Some(Net::None), true) => Network::None,
        (None, true) => Network::Default,
        (Some(Net::User), _) | (None, false) => Network::User { forwards: args.forward.clone() },
    };
    Ok(Request {
        name: "kireji".to_owned(),
        boot: guest.boot(directory),
        memory_mib: args.memory.unwrap_or(wants.memory_mib),
        cpus: args.cpus.unwrap_or(wants.cpus),
        accelerator: match accelerator {
            Accelerator::Tcg if wants.counted_clock => Accelerator::TcgCounted,
            other => other,
        },
        firmware: args.firmware.map(|choice| match choice {
            FirmwareChoice::Bios => FirmwareKind::Bios,
            FirmwareChoice::Uefi => FirmwareKind::Uefi,
        }),
        cards: cards.cards.clone(),
        emulated: args.emulate.clone(),
        display: match args.display.as_deref() {
            None if !wants.screen => Display::None,
            None | Some("auto") => Display::Auto,
            Some("none") => Display::None,
            Some(name) => Display::Named(name.to_owned()),
        },
        primary_display: args.primary_display,
        network,
        sound: args.sound,
        inputs: args.input.clone(),
        usb: args.usb.clone(),
        may_reboot: wants.may_reboot,
        extra: args.extra_qemu_arg.clone(),
        directory: directory.to_owned(),
    })
}

/// The exit code of a request that cannot be fulfilled.
pub(super) fn exit(error: &PlanError) -> Exit {
    match error {
        PlanError::Unfit { .. } | PlanError::UnknownModel { .. } | PlanError::NoUefi => Exit::Qemu,
        PlanError::CannotBoot { .. } => Exit::Image,
        _ => Exit::Usage,
    }
}
