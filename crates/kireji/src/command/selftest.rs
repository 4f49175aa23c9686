//! `kireji selftest`: proof that a card can be driven through VFIO, without a guest.

use pci::{Address, Host, Named, RegionKind};
use serde::Serialize;
use vfio::selftest::{self, BarMapping, Options, Outcome, Report, Subject};
use vfio::take::{Keeper, Purpose};
use vfio::{Error, Interface, Interrupt};

use crate::signals::Signals;
use crate::{CommandError, Context, Exit};

use super::refuse::{self, Allowed};
use super::target::Target;
use super::{outcome, recover, take};

/// Arguments of `selftest`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The card (29:00), or a function of it (29:00.0)
    address: Named,
    /// Take the card first, and return it afterwards
    #[arg(long)]
    take: bool,
    /// Reset each function too, where that touches no other card
    #[arg(long)]
    reset: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    allowed: Allowed,
}

#[derive(Serialize)]
struct Document {
    passed: bool,
    functions: Vec<Report>,
}

/// Tests the card.
///
/// # Errors
/// It is not on vfio-pci, cannot be opened, or could not be taken or returned.
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    if !args.take {
        let functions = held_or_named(args, context)?;
        let reports = examine(args, &functions, context);
        return tell(args, reports, context);
    }
    super::need_root(context)?;
    recover::first(context)?;
    let host = Host::read(context.host)?;
    let functions = refuse::check(context, &host, &[args.address], &args.allowed)?;
    take::load_vfio(context)?;
    let keeper = Keeper::new(context.host, context.writer);
    // From here on a signal must not end the process before the card is back.
    let signals = Signals::catch()?;
    let held = keeper.take(&functions, Purpose::Run).map_err(outcome::take_error)?;
    let reports = examine(args, &functions, context);
    let unwell: Vec<_> = reports.iter().filter_map(Report::unwell).collect();
    let tested = tell(args, reports, context);
    let restored = keeper.give_back(&held, &unwell).map_err(outcome::take_error)?;
    for one in &restored {
        writeln!(context.err, "{}", outcome::restored_in_words(one))?;
    }
    match outcome::restored_exit(&restored) {
        Exit::Done if signals.came() => tested.and(Ok(Exit::Interrupted)),
        Exit::Done => tested,
        fault => tested.and(Ok(fault)),
    }
}

/// The functions to test: those of a card that was taken are known to any user, though what makes
/// up a card is not.
fn held_or_named(args: &Args, context: &Context<'_>) -> Result<Vec<Address>, CommandError> {
    let leases = Keeper::new(context.host, context.writer).leases();
    let leases = leases.map_err(outcome::lease_error)?;
    let address = args.address.address;
    match leases.iter().find(|held| held.lease.holds(address)) {
        Some(_) if args.allowed.function => Ok(vec![address]),
        Some(held) => Ok(held.lease.before.iter().map(|(address, _)| *address).collect()),
        None => {
            let host = Host::read(context.host)?;
            Ok(Target::find(&host, args.address, args.allowed.function)?.functions)
        }
    }
}

/// Tests the functions up to the first that does not open.
fn examine(args: &Args, functions: &[Address], context: &Context<'_>) -> Vec<Report> {
    let options = Options { reset: args.reset };
    let mut reports = Vec::new();
    for address in functions {
        let report = selftest::run(context.host, *address, options);
        let is_refused = report.refusal.is_some();
        reports.push(report);
        if is_refused {
            break;
        }
    }
    reports
}

fn tell(
    args: &Args,
    mut reports: Vec<Report>,
    context: &mut Context<'_>,
) -> Result<Exit, CommandError> {
    for report in &mut reports {
        if let Some(refusal) = report.refusal.take() {
            return Err(open_error(refusal, report.address, context));
        }
    }
    let passed = reports.iter().all(Report::passed);
    if args.json {
        super::print_json(context, Document { passed, functions: reports })?;
    } else {
        for report in &reports {
            write(report, context)?;
        }
        let verdict = if passed { "can be driven" } else { "cannot be driven" };
        writeln!(context.out, "The card {verdict} through VFIO.")?;
    }
    Ok(if passed { Exit::Done } else { Exit::No })
}

fn open_error(error: Error, address: Address, context: &Context<'_>) -> CommandError {
    let sudo = context.vars.sudo_line();
    let (exit, code, hints) = match &error {
        Error::NotOnVfio { .. } => (
            Exit::HostCannot,
            Some("E-NOT-ON-VFIO"),
            vec![format!("`kireji selftest {address} --take` takes it first and returns it")],
        ),
        Error::GroupNotViable { .. } => (
            Exit::HostCannot,
            Some("E-GROUP-NOT-VIABLE"),
            vec!["every function of the group must be on vfio-pci, or have no driver".to_owned()],
        ),
        Error::Busy { .. } => (
            Exit::Busy,
            Some("E-BUSY"),
            vec!["end the guest that has it, or `kireji status`".to_owned()],
        ),
        Error::NodeDenied { .. } => (Exit::Permission, None, vec![format!("run `{sudo}`")]),
        Error::InterruptRemapping { parameter, .. } => (
            Exit::HostCannot,
            Some("E-NO-INTERRUPT-REMAPPING"),
            vec![
                "switch interrupt remapping on in the firmware's setup, and see that the kernel's \
                 command line has no `intremap=off`"
                    .to_owned(),
                format!(
                    "or, where the guest is trusted as the host is: `echo Y | sudo tee {}`",
                    parameter.display()
                ),
            ],
        ),
        _ => (Exit::HostCannot, None, Vec::new()),
    };
    let error = CommandError::from_source(exit, error);
    let error = match code {
        Some(code) => error.code(code),
        None => error,
    };
    hints.into_iter().fold(error, CommandError::hint)
}

fn write(report: &Report, context: &mut Context<'_>) -> Result<(), CommandError> {
    let out = &mut *context.out;
    write!(out, "{}", report.address)?;
    if let (Some(choice), Some(group)) = (&report.interface, report.group) {
        write!(out, " through {}, IOMMU group {group}", interface(choice.interface))?;
    }
    writeln!(out)?;
    for check in &report.checks {
        let (word, why) = match &check.outcome {
            Outcome::Pass => ("pass", String::new()),
            Outcome::Fail(why) => ("FAIL", why.clone()),
            Outcome::Unmeasured(why) => ("unmeasured", why.clone()),
        };
        let mut line = format!("  {word:<10} {}", subject(check.what));
        for part in [detail(report, check.what), why] {
            if !part.is_empty() {
                line.push_str(": ");
                line.push_str(&part);
            }
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn subject(subject: Subject) -> String {
    match subject {
        Subject::Open => "the group is viable and the function opens".to_owned(),
        Subject::Config => "configuration space".to_owned(),
        Subject::Capabilities => "capabilities".to_owned(),
        Subject::BusMaster => "bus mastering is off".to_owned(),
        Subject::Bar(index) => format!("BAR {index}"),
        Subject::Interrupt(kind) => format!("interrupts by {}", interrupt(kind)),
        Subject::Dma => "DMA mapping".to_owned(),
        Subject::Reset => "reset".to_owned(),
    }
}

fn interrupt(kind: Interrupt) -> &'static str {
    match kind {
        Interrupt::Intx => "INTx",
        Interrupt::Msi => "MSI",
        Interrupt::Msix => "MSI-X",
        Interrupt::Error => "error event",
        Interrupt::Request => "request event",
    }
}

/// What was found beyond how the check came out.
fn detail(report: &Report, subject: Subject) -> String {
    match subject {
        Subject::Config => report.config.as_ref().map_or_else(String::new, |config| {
            let ids = config.ids.map_or_else(String::new, |ids| format!("{ids}, "));
            format!("{ids}{} bytes", config.size)
        }),
        Subject::Capabilities => report.config.as_ref().map_or_else(String::new, |config| {
            let lists = &config.capabilities;
            let standard = lists.standard.iter().map(|capability| capability.name());
            let extended = lists.extended.iter().map(|capability| capability.name());
            standard.chain(extended).collect::<Vec<_>>().join(", ")
        }),
        Subject::Bar(index) => bar(report, index),
        Subject::Interrupt(kind) => report
            .interrupts
            .iter()
            .find(|interrupts| interrupts.kind == kind)
            .map_or_else(String::new, |found| match found.info.count {
                1 => "1 vector".to_owned(),
                count => format!("{count} vectors"),
            }),
        Subject::Reset => report.reset.as_ref().map_or_else(String::new, |reset| {
            let methods = reset.methods.known().map(|methods| methods.join(", "));
            methods.unwrap_or_default()
        }),
        Subject::Open | Subject::BusMaster | Subject::Dma => String::new(),
    }
}

fn bar(report: &Report, index: u8) -> String {
    let Some(bar) = report.bars.iter().find(|bar| bar.index == index) else { return String::new() };
    let kind = match bar.kind {
        RegionKind::Io => "I/O ports",
        RegionKind::Memory32 => "32-bit memory",
        RegionKind::Memory64 => "64-bit memory",
        RegionKind::Rom => "ROM",
    };
    let mapping = match &bar.mapping {
        BarMapping::Mapped => "mapped".to_owned(),
        BarMapping::Not(why) | BarMapping::Failed(why) => format!("not mapped, {why}"),
    };
    let table = if bar.msix_table { ", holds the MSI-X table" } else { "" };
    format!("{kind}, {}{table}, {mapping}", super::show::size(bar.size))
}

fn interface(interface: Interface) -> &'static str {
    match interface {
        Interface::Group => "its group",
        Interface::Iommufd => "iommufd",
    }
}
