//! Refusals for the sake of the network.

use ::host::Measured;

use super::{Case, Code, Refusal, unmeasured_fact};
use crate::Address;
use crate::uses::{Interface, NetworkPurpose, NetworkUse};

pub(super) fn refusals(case: &Case) -> Vec<Refusal> {
    let network = match &case.uses.network {
        Measured::Known(network) => network,
        Measured::Unmeasured { unmeasured } => {
            let controllers = case.taken().filter(|function| function.class.is_network());
            return controllers
                .map(|function| {
                    unmeasured_fact(function.address, "what depends on its network", unmeasured)
                })
                .collect();
        }
    };
    let mut refusals = Vec::new();
    for interface in &network.interfaces {
        let Some(function) = case.lost_with(&interface.functions) else { continue };
        refusals.extend(interface_refusals(function, interface));
        // What cannot be placed may depend on any interface that is up.
        if interface.is_up {
            refusals.extend(network.unplaced.iter().map(|purpose| {
                let fact = format!("whether {} carries {}", interface.name, in_words(purpose));
                unmeasured_fact(function, &fact, "no route or address tells")
            }));
        }
    }
    refusals
}

fn interface_refusals(function: Address, interface: &Interface) -> Vec<Refusal> {
    let depends = |one: &NetworkUse| {
        let code = match one.purpose {
            NetworkPurpose::DefaultRoute | NetworkPurpose::OtherDefaultRoute { .. } => {
                Code::NicDefaultRoute
            }
            NetworkPurpose::Session { .. } => Code::NicSession,
            NetworkPurpose::Storage { .. } => Code::NicStorage,
        };
        let way = one.way.join(" → ");
        Refusal::new(code, function, format!("{function} → {way} → {}", in_words(&one.purpose)))
    };
    let refusals: Vec<_> = interface.uses.iter().map(depends).collect();
    // Whoever allows the graver loss allows this one with it.
    if !refusals.is_empty() || !interface.is_up {
        return refusals;
    }
    let name = &interface.name;
    let reason = match interface.above.first() {
        Some(way) => format!("{function} → {}, which is up", way.join(" → ")),
        None => format!("{function} → {name}, which is up"),
    };
    vec![Refusal::new(Code::NicUp, function, reason)]
}

pub(crate) fn in_words(purpose: &NetworkPurpose) -> String {
    match purpose {
        NetworkPurpose::DefaultRoute => "the default route".to_owned(),
        NetworkPurpose::OtherDefaultRoute { of } => {
            format!("the default route of {of}")
        }
        NetworkPurpose::Session { address } => format!("this session ({address})"),
        NetworkPurpose::Storage { what, server } => format!("{what} from {server}"),
    }
}
