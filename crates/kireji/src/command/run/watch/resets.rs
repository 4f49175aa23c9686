//! How cards are reset between one guest and the next, and which stay as they were left.

use host::{Measured, Sysroot};
use pci::facts::FunctionFacts;
use pci::{Address, Function, Host};
use vfio::take::{Held, Keeper, TakeError};

use crate::command::outcome;
use crate::{CommandError, Context};

use super::super::{Args, checks, leased};

/// Lets the kernel reset the cards that are held in the way that the run asks for only; those that
/// do not have it keep their own.
///
/// # Errors
/// No card is held, none has this way, or the kernel refuses.
pub(super) fn limit(args: &Args, held: &[Held], context: &Context<'_>) -> Result<(), CommandError> {
    let Some(reset) = args.reset else { return Ok(()) };
    if held.is_empty() {
        return Err(checks::none_to_limit());
    }
    let functions = held.iter().flat_map(|held| held.lease.before.iter());
    let functions: Vec<_> = functions.map(|(address, _)| *address).collect();
    checks::reset(context.host, args.reset, &functions)?;
    let keeper = Keeper::new(context.host, context.writer);
    for held in held {
        match keeper.limit_resets(held, reset.name()) {
            Ok(()) | Err(TakeError::NoSuchReset { .. }) => {}
            Err(error) => return Err(outcome::take_error(error)),
        }
    }
    Ok(())
}

/// Says which functions of the run, whose cards are taken, cannot be reset between guests.
///
/// # Errors
/// The host or the leases cannot be read.
pub(super) fn warn(args: &Args, context: &mut Context<'_>) -> Result<(), CommandError> {
    let (leased, _) = leased::split(args, context)?;
    let functions: Vec<_> = leased.into_iter().flat_map(|one| one.functions).collect();
    if functions.is_empty() {
        return Ok(());
    }
    let host = Host::read(context.host)?;
    for address in without_reset(context.host, &host, &functions) {
        writeln!(
            context.err,
            "WARNING: the kernel has no way to reset {address}: each guest may find what the one \
             before left in it"
        )?;
    }
    Ok(())
}

/// Those of `functions` that the kernel is known not to reset when one guest follows another.
///
/// Where a function has no reset of its own, VFIO resets its bus after the last function there was
/// closed, if all are on vfio-pci and it is not a root bus (drivers/vfio/pci/vfio_pci_core.c,
/// `vfio_pci_dev_set_try_reset`). No file tells whether that works, except of a function that is alone:
/// the kernel would list it as a way of the function's own.
fn without_reset(sysroot: &Sysroot, host: &Host, functions: &[Address]) -> Vec<Address> {
    let may_be_reset_with_others = |function: &Function| {
        let bus = || host.children(function.parent).map(|other| other.address);
        function.parent.is_some()
            && bus().count() > 1
            && bus().all(|address| functions.contains(&address))
    };
    let is_without = |function: &&Function| {
        let methods = FunctionFacts::read(sysroot, function).reset_methods;
        methods == Measured::Known(Vec::new()) && !may_be_reset_with_others(function)
    };
    let functions = functions.iter().filter_map(|address| host.function(*address));
    functions.filter(is_without).map(|function| function.address).collect()
}

#[cfg(test)]
mod tests {
    use testkit::tree::{Function, Tree};

    use super::*;

    /// A port with two functions, and a function on the root bus.
    fn found(release: &str, methods: &[(&str, &str)], given: &[&str]) -> Vec<String> {
        let mut tree = Tree::new();
        tree.write("/proc/sys/kernel/osrelease", release);
        tree.add(Function::new("0000:00:1c.0", 0x8086, 0xa110).class(0x06_0400));
        for address in ["0000:01:00.0", "0000:01:00.1"] {
            tree.add(Function::new(address, 0x8086, 0x1521).below("0000:00:1c.0"));
        }
        tree.add(Function::new("0000:00:04.0", 0x1234, 0x11e8));
        for (address, methods) in methods {
            tree.write(&format!("{}/reset_method", tree.device(address)), methods);
        }
        let sysroot = tree.sysroot();
        let given: Vec<Address> = given.iter().map(|text| text.parse().unwrap()).collect();
        let found = without_reset(&sysroot, &Host::read(&sysroot).unwrap(), &given);
        found.iter().map(Address::to_string).collect()
    }

    const BOTH: [&str; 2] = ["0000:01:00.0", "0000:01:00.1"];
    const NEW: &str = "6.1.0\n";

    #[test]
    fn a_function_without_a_way_is_named() {
        assert_eq!(found(NEW, &[], &["0000:00:04.0"]), ["0000:00:04.0"]);
        assert!(found(NEW, &[("0000:00:04.0", "pm\n")], &["0000:00:04.0"]).is_empty());
        // Neither does a file that lists none help.
        assert_eq!(found(NEW, &[("0000:00:04.0", "\n")], &["0000:00:04.0"]), ["0000:00:04.0"]);
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_not_claimed() {
        assert!(found("5.10.0\n", &[], &["0000:00:04.0"]).is_empty());
    }

    #[test]
    fn functions_that_share_a_bus_may_be_reset_if_all_are_given() {
        assert!(found(NEW, &[], &BOTH).is_empty());
        assert_eq!(found(NEW, &[], &BOTH[..1]), BOTH[..1]);
        assert_eq!(found(NEW, &[(BOTH[0], "flr\n")], &BOTH[1..]), BOTH[1..]);
    }
}
