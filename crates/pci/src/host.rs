//! All functions of a host, and how they hang together.

use std::collections::BTreeMap;

use ::host::{Measured, ReadError, Sysroot};

use crate::config::{Express, PortKind};
use crate::function::DEVICES;
use crate::{Address, Function};

/// Where sysfs lists the physical slots that a hot-plug or slot driver knows.
const SLOTS: &str = "/sys/bus/pci/slots";

/// The PCI functions of a host.
#[derive(Clone, Debug, Default)]
pub struct Host {
    functions: BTreeMap<Address, Function>,
    /// What is directly below each bridge, by address; on the root buses for `None`.
    children: BTreeMap<Option<Address>, Vec<Address>>,
    groups: BTreeMap<u32, Vec<Address>>,
    virtual_functions: BTreeMap<Address, Vec<Address>>,
    /// What each PCI-to-PCI bridge is; `None` for one of conventional PCI.
    bridges: BTreeMap<Address, Measured<Option<Express>>>,
    /// Name of the slot of each device that is known to sit in one.
    slots: BTreeMap<Address, String>,
}

impl Host {
    /// Reads all functions.
    ///
    /// A function that vanishes while it is read is left out. A host without PCI has none.
    ///
    /// # Errors
    /// Sysfs cannot be read.
    pub fn read(host: &Sysroot) -> Result<Self, ReadError> {
        let mut all = Self::default();
        let names = host.optional_names(DEVICES)?;
        let devices = match host.directory(DEVICES) {
            Err(error) if error.is_absent() => return Ok(all),
            other => other?,
        };
        for address in names.iter().filter_map(|name| Address::of_sysfs(name)) {
            match Function::read_in(host, &devices, address) {
                Ok(function) => {
                    all.add(host, function);
                }
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
        }
        for name in host.optional_names(SLOTS)? {
            let text = host.optional_text(format!("{SLOTS}/{name}/address"))?;
            // The kernel writes domain, bus and device (drivers/pci/slot.c, address_read_file).
            if let Some(Ok(named)) = text.map(|text| text.parse::<crate::Named>()) {
                all.slots.insert(named.address, name);
            }
        }
        Ok(all)
    }

    fn add(&mut self, host: &Sysroot, function: Function) {
        if function.class.is_pci_bridge() {
            self.bridges.insert(function.address, read_bridge(host, &function));
        }
        let address = function.address;
        self.children.entry(function.parent).or_default().push(address);
        if let Some(group) = function.group {
            self.groups.entry(group).or_default().push(address);
        }
        if let Some(physical) = function.physical {
            self.virtual_functions.entry(physical).or_default().push(address);
        }
        self.functions.insert(address, function);
    }

    /// Returns all functions, by address.
    pub fn functions(&self) -> impl Iterator<Item = &Function> {
        self.functions.values()
    }

    /// Returns one function.
    pub fn function(&self, address: Address) -> Option<&Function> {
        self.functions.get(&address)
    }

    /// Returns the functions of an IOMMU group, by address.
    pub fn group(&self, number: u32) -> impl Iterator<Item = &Function> {
        let members = self.groups.get(&number).into_iter().flatten();
        members.filter_map(|address| self.function(*address))
    }

    /// Returns the functions directly below a bridge, by address; those of the root buses for
    /// `None`.
    pub fn children(&self, bridge: Option<Address>) -> impl Iterator<Item = &Function> {
        let children = self.children.get(&bridge).into_iter().flatten();
        children.filter_map(|address| self.function(*address))
    }

    /// Returns the virtual functions of a physical one, by address.
    pub fn virtual_functions(&self, physical: Address) -> &[Address] {
        self.virtual_functions.get(&physical).map_or(&[], Vec::as_slice)
    }

    /// Returns the bridges above a function, the nearest first.
    pub fn above(&self, address: Address) -> impl Iterator<Item = Address> {
        let parent = |address: &Address| self.functions.get(address)?.parent;
        // A captured tree may be inconsistent; no real path is longer than there are buses.
        std::iter::successors(parent(&address), parent).take(256)
    }

    /// Returns what a bridge is: `None` for one of conventional PCI or for no bridge.
    pub fn express(&self, bridge: Address) -> Measured<Option<Express>> {
        self.bridges.get(&bridge).cloned().unwrap_or(Measured::Known(None))
    }

    /// Returns the name of the physical slot that the bus directly below `bridge` is known to
    /// lead to.
    pub(crate) fn slot_below(&self, bridge: Address) -> Option<&str> {
        let below = self.children(Some(bridge)).next()?;
        let device = below.address.with_function(0)?;
        self.slots.get(&device).map(String::as_str)
    }

    /// Whether the function sits on a link of PCI Express: directly below a port.
    pub fn is_below_port(&self, address: Address) -> Measured<bool> {
        let Some(parent) = self.function(address).and_then(|function| function.parent) else {
            return Measured::Known(false);
        };
        self.express(parent).map(|express| {
            express.is_some_and(|express| {
                matches!(express.kind, PortKind::RootPort | PortKind::DownstreamPort)
            })
        })
    }
}

fn read_bridge(host: &Sysroot, function: &Function) -> Measured<Option<Express>> {
    let config = match function.config(host) {
        Ok(Some(config)) => config,
        Ok(None) => return Measured::unmeasured("the bridge sleeps, and reading would wake it"),
        Err(error) => return Measured::unmeasured(error.to_string()),
    };
    let lists = config.capabilities();
    match (config.express(), lists.standard_walk) {
        (Some(express), _) => Measured::Known(Some(express)),
        (None, crate::config::CapabilityWalk::Whole) => Measured::Known(None),
        _ => Measured::unmeasured("the bridge's capabilities can be read by root only"),
    }
}
