//! From arguments to a request for a machine.

use std::path::Path;

use guest::Guest;
use guest::guests::Wants;
use guest::kvm::Kvm;
use guest::machine::{Accelerator, Display, FirmwareKind, Forward, Network, PlanError, Request};
use guest::qemu::{Cache, Capabilities};

use crate::{CommandError, Context, Exit};

use super::cards::Cards;
use super::qemu::with_runner;
use super::{Accel, Args, FirmwareChoice, Net, gdb};

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
    let user = context.vars.user.as_ref();
    let kvm =
        with_runner(context, |runner| cache.kvm(context.host, runner, &qemu.executable, user));
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
    let network = network(args, &wants)?;
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
        extra: args.extra_qemu_arg.iter().cloned().chain(gdb::arguments(args.gdb)).collect(),
        directory: directory.to_owned(),
    })
}

/// Returns the guest's network: one that it has a use for, or that was asked for, and not beside a
/// card that is one itself unless it was asked for.
fn network(args: &Args, wants: &Wants) -> Result<Network, CommandError> {
    let usage = |message: &str| Err(CommandError::new(Exit::Usage, message));
    match args.net {
        _ if !args.forward.is_empty() && !wants.network => {
            return usage("`--forward` needs a guest that listens, and this one does not");
        }
        Some(Net::None) if !args.forward.is_empty() => {
            return usage("`--forward` needs a network, and `--net none` leaves none");
        }
        Some(Net::None) => return Ok(Network::None),
        None if !wants.network => return Ok(Network::None),
        Some(Net::User) | None => {}
    }
    let mut forwards = args.forward.clone();
    if let Some(guest) = wants.ssh
        && forwards.iter().all(|forward| forward.guest != guest)
    {
        forwards.push(Forward { host: 0, guest });
    }
    Ok(match args.net {
        None if args.forward.is_empty() => Network::Default { forwards },
        _ => Network::User { forwards },
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_network_is_what_the_guest_has_a_use_for_or_what_was_asked_for() {
        let haiku = Wants {
            memory_mib: 1,
            cpus: 1,
            counted_clock: false,
            may_reboot: true,
            screen: true,
            serial: true,
            network: true,
            ssh: Some(22),
            power_down: None,
        };
        let linux = Wants { network: false, ssh: None, ..haiku };
        let forward = |host, guest| Forward { host, guest };
        let ssh = forward(0, 22);
        for (wants, line, expected) in [
            (haiku, "", Ok(Network::Default { forwards: vec![ssh] })),
            (haiku, "--net user", Ok(Network::User { forwards: vec![ssh] })),
            (haiku, "--net none", Ok(Network::None)),
            (haiku, "--forward 8080:80", {
                Ok(Network::User { forwards: vec![forward(8080, 80), ssh] })
            }),
            (haiku, "--forward 2222:22", Ok(Network::User { forwards: vec![forward(2222, 22)] })),
            (haiku, "--net none --forward 2222:22", Err("leaves none")),
            (linux, "", Ok(Network::None)),
            (linux, "--net user", Ok(Network::User { forwards: vec![] })),
            (linux, "--forward 8080:80", Err("a guest that listens")),
        ] {
            let words = ["run", "image"].into_iter().chain(line.split_whitespace());
            let args = Line::parse_from(words).args;
            match (network(&args, &wants), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{line}"),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{line}"),
                (found, _) => panic!("{line}: {found:?}"),
            }
        }
    }
}
