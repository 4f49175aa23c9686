//! What the reference guest saw of a function, in lines.

use guest::linux::Outcome;
use guest::linux::report::{BlockRead, FunctionReport, Talk};

/// What is told of one function.
pub(super) fn lines(report: &FunctionReport, outcome: &Outcome) -> Vec<String> {
    let mut lines = vec![format!("{} in the guest: {outcome}", report.name)];
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
