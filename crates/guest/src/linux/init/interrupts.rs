//! A function's interrupts.

use std::collections::BTreeMap;

use host::{ReadError, Sysroot};
use pci::{Address, Function};

use crate::linux::report::{Interrupt, InterruptKind};

/// Returns a function's interrupts that are in use: by messages, or else by its pin.
pub(super) fn of(host: &Sysroot, address: Address) -> Result<Vec<Interrupt>, ReadError> {
    let path = Function::path(address);
    let mut kinds = BTreeMap::new();
    for name in host.optional_names(format!("{path}/msi_irqs"))? {
        let kind = host.text(format!("{path}/msi_irqs/{name}"))?;
        let kind = if kind == "msix" { InterruptKind::MsiX } else { InterruptKind::Msi };
        kinds.extend(name.parse::<u32>().ok().map(|number| (number, kind)));
    }
    if kinds.is_empty()
        && let Some(number) = host.text(format!("{path}/irq"))?.parse().ok().filter(|n| *n != 0)
    {
        kinds.insert(number, InterruptKind::Intx);
    }
    Ok(parse(&host.text("/proc/interrupts")?, &kinds))
}

/// A line of `/proc/interrupts` (fs/proc/interrupts.c, kernel/irq/proc.c): the number, a count for
/// each processor, the controller, how it triggers, and the names of those who wait for it.
fn parse(text: &str, kinds: &BTreeMap<u32, InterruptKind>) -> Vec<Interrupt> {
    let interrupt = |line: &str| {
        let (number, rest) = line.split_once(':')?;
        let number: u32 = number.trim().parse().ok()?;
        let kind = *kinds.get(&number)?;
        let mut count = 0_u64;
        let mut words = rest.split_whitespace().peekable();
        while let Some(more) = words.peek().and_then(|word| word.parse::<u64>().ok()) {
            count = count.saturating_add(more);
            words.next();
        }
        let name = words.skip(2).collect::<Vec<_>>().join(" ");
        // Allocated, but nobody waits for it.
        (!name.is_empty()).then_some(Interrupt { number, kind, name, count })
    };
    text.lines().filter_map(interrupt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_over_the_processors() {
        let text = "\
            CPU0       CPU1
   0:         34          0   IO-APIC    2-edge      timer
  11:          2          3   IO-APIC   11-fasteoi   uhci_hcd:usb1, eth9
  24:         10          7  PCI-MSIX-0000:00:02.0    0-edge      eth0-rx-0
  25:          0          0  PCI-MSIX-0000:00:02.0    1-edge
 NMI:          0          0   Non-maskable interrupts
 ERR:          0
";
        let kinds = [
            (24, InterruptKind::MsiX),
            (25, InterruptKind::MsiX),
            (26, InterruptKind::MsiX),
            (11, InterruptKind::Intx),
        ];
        let found = parse(text, &BTreeMap::from(kinds));
        let found: Vec<_> = found.iter().map(|i| (i.number, i.count, i.name.as_str())).collect();
        assert_eq!(found, [(11, 5, "uhci_hcd:usb1, eth9"), (24, 17, "eth0-rx-0")]);
        assert!(parse("24: 99999999999999999999 x", &BTreeMap::from(kinds)).is_empty());
    }
}
