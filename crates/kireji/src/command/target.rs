//! The card or function that a command is about.

use host::Measured;
use pci::{Address, Card, Host, Named};

use crate::{CommandError, Exit};

/// What the user named.
#[derive(Debug)]
pub struct Target {
    /// The functions that are meant, bridges left out, by address.
    pub functions: Vec<Address>,
    /// The card that they belong to.
    pub card: Card,
}

impl Target {
    /// Finds the card that `named` is part of, or the single function if `single`.
    pub fn find(host: &Host, named: Named, single: bool) -> Result<Self, CommandError> {
        let address = named.address;
        let Some(function) = host.function(address) else {
            return Err(super::refuse::no_function(address));
        };
        let card = match host.card(address) {
            Measured::Known(card) => card,
            Measured::Unmeasured { unmeasured } if !single => {
                return Err(CommandError::new(
                    Exit::Permission,
                    format!("which functions make up the card of {address} is unmeasured"),
                )
                .code("E-UNMEASURED")
                .hint(unmeasured));
            }
            Measured::Unmeasured { .. } => Card { functions: vec![address], slot: None },
        };
        let functions = if single || function.class.is_bridge() {
            vec![address]
        } else {
            let endpoint = |address: &Address| {
                host.function(*address).is_some_and(|function| !function.class.is_bridge())
            };
            card.functions.iter().copied().filter(endpoint).collect()
        };
        Ok(Self { functions, card })
    }
}
