//! What decides for several functions: their own facts, their groups, the bridges above them.

use std::collections::BTreeMap;

use ::host::{Measured, Sysroot};
use serde::Serialize;

use super::{FunctionFacts, Group, why};
use crate::config::{Acs, CapabilityWalk};
use crate::{Address, Function, Host};

/// What decides for several functions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Devices {
    /// The functions.
    pub functions: BTreeMap<Address, FunctionFacts>,
    /// Their groups.
    pub groups: BTreeMap<u32, Group>,
    /// The access control services of the bridges above them; `None` where a bridge has none.
    pub bridges: BTreeMap<Address, Measured<Option<Acs>>>,
}

impl Devices {
    /// Reads what decides for `functions`, each group and bridge once.
    pub fn read<'a>(
        sysroot: &Sysroot,
        host: &Host,
        functions: impl IntoIterator<Item = &'a Function>,
    ) -> Self {
        let mut devices = Self::default();
        for function in functions {
            let facts = FunctionFacts::read(sysroot, function);
            devices.functions.insert(function.address, facts);
            if let Some(group) = function.group {
                devices.groups.entry(group).or_insert_with(|| Group::read(sysroot, group));
            }
            for bridge in host.above(function.address) {
                // What is above a known bridge is known too.
                if devices.bridges.contains_key(&bridge) {
                    break;
                }
                devices.add_bridge(sysroot, host, bridge);
            }
        }
        devices
    }

    /// Reads the access control services of more bridges.
    pub fn add_bridge(&mut self, sysroot: &Sysroot, host: &Host, bridge: Address) {
        if let Some(function) = host.function(bridge) {
            self.bridges.entry(bridge).or_insert_with(|| acs(sysroot, function));
        }
    }
}

fn acs(sysroot: &Sysroot, bridge: &Function) -> Measured<Option<Acs>> {
    let config = match bridge.config(sysroot) {
        Ok(Some(config)) => config,
        Ok(None) => return Measured::unmeasured("the bridge sleeps, and reading would wake it"),
        Err(error) => return Measured::unmeasured(why(&error)),
    };
    let lists = config.capabilities();
    match (config.acs(), lists.standard_walk, lists.extended_walk) {
        (Some(acs), _, _) => Measured::Known(Some(acs)),
        (None, CapabilityWalk::Whole, CapabilityWalk::Whole) => Measured::Known(None),
        _ => {
            let path = Function::path(bridge.address);
            Measured::unmeasured(format!("{path}/config can be read whole by root only"))
        }
    }
}
