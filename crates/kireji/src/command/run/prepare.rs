//! The guest of a run: Haiku from an image, or the reference guest.

use std::io;
use std::path::Path;

use guest::Guest;
use guest::guests::{
    Goal, HAIKU_MEMORY_MIB as MEMORY_MIB, Haiku, LEFTOVERS, Linux, PrepareError, Storage,
};
use guest::kernel::{Kernel, KernelError};
use guest::launch::{User, as_user};
use guest::linux::{BootError, Nonce, Request, Wanted};
use guest::machine::{Accelerator, DiskBus};
use guest::overlay::OverlayError;
use guest::rundir::{self, RunDirectory};
use haiku::image::{Image, ImageError};
use pci::Function;

use crate::{CommandError, Context, Exit};

use super::cards::Cards;
use super::checks::denied;
use super::files::Load;
use super::{Args, Bus, GuestKind, base, goal, login};

/// Finds out what the image is, if the user may read it whom QEMU will belong to.
pub(super) fn read_image(path: &Path, user: Option<&User>) -> Result<Image, CommandError> {
    let read = as_user(user, || Image::read(path)).map_err(|error| denied(error, user))?;
    read.map_err(|error| {
        let hint = error.hint();
        let exit = match &error {
            ImageError::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Exit::Permission
            }
            _ => Exit::Image,
        };
        CommandError::from_source(exit, error).hint(hint)
    })
}

/// Returns the guest that the arguments mean; nothing is written yet.
pub(super) fn guest(
    args: &Args,
    context: &mut Context<'_>,
    image: Option<Image>,
    cards: &Cards,
    accelerator: Accelerator,
    load: &Load,
) -> Result<Box<dyn Guest>, CommandError> {
    match (args.guest, image) {
        (GuestKind::Linux, _) => Ok(Box::new(linux(args, context, cards, accelerator)?)),
        (GuestKind::Haiku, Some(image)) => {
            let memory = args.memory.unwrap_or(MEMORY_MIB);
            let goal =
                goal::goal(args, load.drivers.clone(), load.test.clone(), accelerator, memory);
            let mut haiku = haiku(args, context, image, goal);
            haiku.base = base::of(args, &haiku, context)?;
            Ok(Box::new(haiku))
        }
        (GuestKind::Haiku, None) => Err(CommandError::new(Exit::Usage, "an image is missing")),
    }
}

fn haiku(args: &Args, context: &Context<'_>, image: Image, goal: Goal) -> Haiku {
    Haiku {
        path: args.image.clone().unwrap_or_default(),
        image,
        base: None,
        storage: match &args.state {
            _ if let Some(preparing) = &args.preparing => preparing.storage(),
            _ if args.persist => Storage::InPlace,
            Some(name) => {
                let directory = context.vars.state.join("overlays");
                Storage::Lasting { name: name.clone(), directory }
            }
            None => Storage::ThrowAway,
        },
        bus: match args.disk_bus {
            None | Some(Bus::Ahci) => DiskBus::Ahci,
            Some(Bus::Nvme) => DiskBus::Nvme,
            Some(Bus::Usb) => DiskBus::Usb,
        },
        login: login::why_not(args).is_none(),
        goal,
    }
}

fn linux(
    args: &Args,
    context: &Context<'_>,
    cards: &Cards,
    accelerator: Accelerator,
) -> Result<Linux, CommandError> {
    let kernel = match &args.kernel {
        Some(image) => Kernel::at(context.host, image),
        None => Kernel::running(context.host),
    };
    let failed = |error: BootError| {
        let hint = error.hint();
        let exit = match &error {
            BootError::NoFunction => Exit::Usage,
            BootError::Kernel(KernelError::Read(error)) if error.is_denied() => Exit::Permission,
            // A file that the user named.
            BootError::Kernel(KernelError::Read(_) | KernelError::NotKernel { .. })
                if args.kernel.is_some() =>
            {
                Exit::Usage
            }
            _ => Exit::HostCannot,
        };
        let error = CommandError::from_source(exit, error);
        hint.into_iter().fold(error, CommandError::hint)
    };
    let kernel = kernel.map_err(|error| failed(error.into()))?;
    let mut functions = Vec::new();
    for function in cards.cards.iter().flat_map(|card| &card.functions) {
        let path = format!("{}/modalias", Function::path(function.address));
        let modalias = context.host.text(path)?;
        functions.push(Wanted { name: function.address.to_string(), modalias });
    }
    let nonce = Nonce::random(context.host)?;
    let request = Request {
        kernel: &kernel,
        program: &context.vars.program,
        functions: &functions,
        network: args.dhcp,
        emulated: accelerator != Accelerator::Kvm,
        nonce: &nonce,
    };
    Linux::new(context.host, request).map_err(failed)
}

/// Makes the files that the guest starts from; they belong to whom the run belongs.
pub(super) fn files(guest: &dyn Guest, run: &RunDirectory) -> Result<(), CommandError> {
    let made = guest.prepare(run.path()).map_err(error)?;
    made.iter().try_for_each(|file| run.hand_over(file)).map_err(super::run_error)
}

/// The error of a guest whose files cannot be made.
pub(super) fn error(error: PrepareError) -> CommandError {
    match error {
        PrepareError::Overlay(error) => overlay_error(error),
        PrepareError::Write(error) => CommandError::from_source(Exit::of_io(&error.source), error),
    }
}

/// Removes what runs that were killed left of the kind that nobody wants.
pub(super) fn sweep(context: &mut Context<'_>) {
    let (host, base) = (context.host, context.vars.state.join("runs"));
    let sweep = || rundir::sweep(host, &base, &LEFTOVERS);
    // What cannot be removed is tried again by the next run.
    let Ok(Ok(swept)) = as_user(context.vars.user.as_ref(), sweep) else { return };
    for file in swept {
        drop(writeln!(context.err, "removed {}, which a killed run left", file.display()));
    }
}

/// Removes what nobody wants once the run has ended.
pub(super) fn clean_up(guest: &dyn Guest, run: &RunDirectory) {
    for file in guest.leftovers(run.path()) {
        // A file that cannot be removed takes room, and does no harm.
        drop(std::fs::remove_file(file));
    }
}

fn overlay_error(error: OverlayError) -> CommandError {
    let (exit, hint) = match &error {
        OverlayError::Full { .. } => (Exit::NoSpace, "free some space, or set XDG_STATE_HOME"),
        OverlayError::Busy { .. } => (Exit::Busy, "end the guest that has the image first"),
        OverlayError::Changed { .. } | OverlayError::OtherImage { .. } => {
            (Exit::Refused, "use another `--state` name for this image")
        }
        OverlayError::Name { .. } => (Exit::Usage, "letters, digits, `-`, `_` and `.` will do"),
        OverlayError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            (Exit::NoSpace, "free some space, or set XDG_STATE_HOME")
        }
        OverlayError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            (Exit::Permission, "check the image and its permissions")
        }
        OverlayError::Io { .. } | OverlayError::Unfit { .. } => {
            (Exit::Image, "check the image and its permissions")
        }
    };
    CommandError::from_source(exit, error).hint(hint)
}
