//! The reference guest: does passthrough work with this card at all?

use std::path::Path;

use guest::kernel::Kernel;
use guest::linux::report::{BlockRead, FunctionReport, Talk};
use guest::linux::{
    Boot, KernelImage, Nonce, Observer, Outcome, Request, Verdict, Wanted, prepare,
};
use guest::machine;
use guest::rundir::RunDirectory;
use pci::Function;

use crate::{CommandError, Context, Exit};

use super::Args;
use super::cards::Cards;

/// The largest serial log that a report is looked for in, in bytes; one holds a few kilobytes.
const LOG_LIMIT: u64 = 64 << 20;

/// A reference guest for the cards of a run.
pub(super) struct Reference {
    pub(super) boot: Boot,
    nonce: Nonce,
    functions: usize,
}

impl Reference {
    /// Puts the guest together: the kernel, and the cards' own drivers.
    pub(super) fn prepare(
        args: &Args,
        context: &Context<'_>,
        cards: &Cards,
        accelerator: machine::Accelerator,
    ) -> Result<Self, CommandError> {
        let kernel = match &args.kernel {
            Some(image) => Kernel::at(context.host, image),
            None => Kernel::running(context.host),
        };
        let kernel = kernel.map_err(|error| {
            let hint = error.hint();
            let error = CommandError::from_source(Exit::HostCannot, error);
            hint.into_iter().fold(error, CommandError::hint)
        })?;
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
            emulated: accelerator != machine::Accelerator::Kvm,
            nonce: &nonce,
        };
        let boot = prepare(context.host, request).map_err(|error| {
            let hint = error.hint();
            let error = CommandError::from_source(Exit::HostCannot, error);
            hint.into_iter().fold(error, CommandError::hint)
        })?;
        Ok(Self { boot, nonce, functions: functions.len() })
    }

    /// What starts in the machine, as a dry run shows it: nothing is written.
    pub(super) fn boot_of_dry_run(&self, directory: &Path) -> machine::Boot {
        machine::Boot::Kernel {
            kernel: match &self.boot.kernel {
                KernelImage::File(path) => path.clone(),
                KernelImage::Unpacked(_) => directory.join("kernel"),
            },
            initrd: directory.join("initramfs"),
            command_line: self.boot.command_line.clone(),
        }
    }

    /// Writes what QEMU loads, and returns what starts in the machine.
    pub(super) fn write(&self, run: &RunDirectory) -> Result<machine::Boot, CommandError> {
        let failed = |error: std::io::Error| {
            let exit = match error.kind() {
                std::io::ErrorKind::StorageFull => Exit::NoSpace,
                _ => Exit::HostCannot,
            };
            let path = run.path().join("initramfs");
            CommandError::from_source(exit, host::atomic::WriteError { path, source: error })
        };
        let boot = self.boot.write(run.path()).map_err(failed)?;
        if let machine::Boot::Kernel { kernel, initrd, .. } = &boot {
            for file in [kernel, initrd] {
                if file.starts_with(run.path()) {
                    run.hand_over(file).map_err(super::session::run_error)?;
                }
            }
        }
        Ok(boot)
    }

    /// Reads the report out of the serial log, tells it, and judges.
    pub(super) fn judge(
        &self,
        log: &Path,
        context: &mut Context<'_>,
    ) -> Result<(Exit, String), CommandError> {
        let serial = context.host.read_limited(log, LOG_LIMIT)?;
        let mut observer = Observer::new(self.nonce.clone(), self.functions);
        observer.feed(&serial);
        for report in observer.reports() {
            for line in lines(report, &observer.outcome(report)) {
                writeln!(context.out, "{line}")?;
            }
        }
        let said = |exit, words: &str| Ok((exit, words.to_owned()));
        match observer.verdict() {
            Verdict::Passed => said(Exit::Done, "The card works in the reference guest."),
            Verdict::Failed { functions } => {
                let error = CommandError::new(
                    Exit::DriverNotLoaded,
                    "the card does not work in the reference guest",
                );
                Err(functions.iter().fold(error, |error, (name, outcome)| {
                    error.reason(format!("{name}: {}", in_words(outcome)))
                }))
            }
            Verdict::NothingToShow => {
                said(Exit::Unproven, "The kernel has no driver for the card, so nothing is shown.")
            }
            Verdict::GaveUp { reason } => {
                Err(CommandError::new(Exit::BootFailed, "the reference guest gave up")
                    .reason(reason))
            }
            Verdict::Panicked { message } => {
                Err(CommandError::new(Exit::Panic, "the reference guest's kernel panicked")
                    .reason(message))
            }
            Verdict::Incomplete { damaged, .. } => {
                let error = CommandError::new(
                    Exit::BootFailed,
                    "the reference guest ended without a whole report",
                );
                let error = match damaged {
                    0 => error,
                    lines => error.reason(format!("{lines} lines of it were damaged")),
                };
                Err(error.hint("`kireji log` shows how far it came"))
            }
        }
    }
}

fn in_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Bound { driver } => format!("{driver} drives it"),
        Outcome::NoDriver => "the kernel has no driver for it".to_owned(),
        Outcome::NotBound { reason } => format!("no driver bound it: {reason}"),
        Outcome::Absent => "the guest did not see it".to_owned(),
    }
}

/// What is told of one function.
fn lines(report: &FunctionReport, outcome: &Outcome) -> Vec<String> {
    let mut lines = vec![format!("{} in the guest: {}", report.name, in_words(outcome))];
    let Some(seen) = &report.seen else { return lines };
    for interrupt in &seen.interrupts {
        let kind = interrupt.kind.name();
        lines.push(format!("  {kind} {}: {} times", interrupt.name, interrupt.count));
    }
    for network in &seen.networks {
        let talk = match &network.talk {
            Talk::NotTried => "not talked to".to_owned(),
            Talk::NoLink => "no link".to_owned(),
            Talk::NoAddress { .. } => "a link, and nobody who gives addresses".to_owned(),
            Talk::Address { address, peer, echoes_sent, echoes_received, .. } => {
                format!("{address}, {echoes_received} of {echoes_sent} echoes from {peer}")
            }
            Talk::Failed { reason } => reason.clone(),
        };
        lines.push(format!("  {} ({}): {talk}", network.interface, network.mac));
    }
    for block in &seen.blocks {
        let read = match &block.read {
            BlockRead::Read { bytes, sha256 } => {
                format!("{bytes} bytes read, SHA-256 {}", sha256.get(..16).unwrap_or(sha256))
            }
            BlockRead::Empty => "no medium".to_owned(),
            BlockRead::Failed { reason } => reason.clone(),
        };
        lines.push(format!("  {} of {} bytes: {read}", block.name, block.size));
    }
    lines.extend(seen.log.iter().map(|line| format!("  log: {line}")));
    lines
}
