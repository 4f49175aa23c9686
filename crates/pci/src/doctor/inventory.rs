//! Which cards could be given away, best first.

use ::host::Measured;
use serde::Serialize;

use super::finding::{Finding, Readiness, Status, readiness};
use super::{CardCase, check_card, free_slots};
use crate::facts::{Devices, Facts};
use crate::refusal::{Code, Options, Target, judge, select};
use crate::uses::Uses;
use crate::{Address, Class, Host};

/// A card that somebody may want to give away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Its address.
    pub card: Address,
    /// The functions that would be given away.
    pub functions: Vec<Address>,
    /// Whether the card could be given away, as far as it depends on the card.
    pub readiness: Readiness,
    /// What stands against it, each as its code and in words.
    pub against: Vec<(Code, String)>,
    /// What it would cost beyond that: no reset, a driver that has to let go.
    pub drawbacks: Vec<Code>,
}

/// Returns every card of a host with its verdict, the best first. What makes up PCI itself is no
/// candidate, nor are functions that serve the chipset.
pub fn inventory(host: &Host, facts: &Facts, devices: &Devices, uses: &Uses) -> Vec<Candidate> {
    let slots = free_slots(host, devices);
    let mut candidates = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for function in host.functions() {
        if seen.contains(&function.address) || !is_wanted(function.class) {
            continue;
        }
        let card = match host.card(function.address) {
            Measured::Known(card) => card,
            Measured::Unmeasured { unmeasured } => {
                let why = (Code::Unmeasured, unmeasured);
                candidates.push(Candidate {
                    card: function.address,
                    functions: vec![function.address],
                    readiness: Readiness::Unknown,
                    against: vec![why],
                    drawbacks: Vec::new(),
                });
                continue;
            }
        };
        seen.extend(card.functions.iter().copied());
        let selection = select(host, &[Target::Card(function.address)], false);
        let verdict = judge(host, &selection, uses, None, &Options::default());
        let case = CardCase {
            host,
            facts,
            devices,
            slots: &slots,
            selection: &selection,
            uses,
            verdict: &verdict,
        };
        let findings = check_card(&case);
        let of = |finding: &&Finding| finding.status != Status::Pass;
        candidates.push(Candidate {
            card: card.address(),
            functions: selection.functions.clone(),
            readiness: readiness(&findings),
            against: findings
                .iter()
                .filter(of)
                .filter(|finding| finding.decides)
                .map(|finding| (finding.code, finding.says.clone()))
                .collect(),
            drawbacks: findings
                .iter()
                .filter(|finding| finding.status == Status::Fail && !finding.decides)
                .map(|finding| finding.code)
                .collect(),
        });
    }
    candidates.sort_by_cached_key(|candidate| {
        let busy = candidate
            .functions
            .iter()
            .filter_map(|address| host.function(*address))
            .filter(|function| function.driver.is_some() && !function.is_given_away())
            .count();
        (
            candidate.readiness,
            candidate.against.len(),
            candidate.drawbacks.len(),
            busy,
            candidate.card,
        )
    });
    candidates
}

/// Whether anybody would give such a function away: no bridges, IOMMUs, memory controllers,
/// system peripherals or processors.
fn is_wanted(class: Class) -> bool {
    !matches!(class.base(), 0x05 | 0x06 | 0x08 | 0x0b | 0x11) && !class.is_iommu()
}
