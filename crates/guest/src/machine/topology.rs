//! Which PCI function sits where in a machine: as planned, and as QEMU says.

use std::collections::BTreeMap;
use std::fmt;

use haiku::loading::Place;
use pci::Address;
use serde_json::Value;

/// What the names of cards begin with, the host's and those in their place; a machine's own parts
/// have other names.
pub(super) const CARD: &str = "dev";

/// The root bus of a q35 machine.
pub(super) const ROOT_BUS: &str = "pcie.0";

/// A PCI function of a machine, as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its name in QEMU.
    pub id: String,
    /// The bus that it sits on: `pcie.0`, or the name of the bridge above.
    pub bus: String,
    /// Device number.
    pub device: u8,
    /// Function number.
    pub function: u8,
    /// The function of the host that it is.
    pub host: Option<Address>,
}

/// The functions of a machine that were asked for; the machine has others of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology(pub(super) Vec<Placed>);

/// A planned function is not where it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{id} should be at {expected}, and is {}", found.as_deref().unwrap_or("missing"))]
pub struct Misplaced {
    /// The function's name in QEMU.
    pub id: String,
    /// Where it should be.
    pub expected: String,
    /// Where it is.
    pub found: Option<String>,
}

impl Topology {
    /// The planned functions, in the order of the command line.
    pub fn functions(&self) -> &[Placed] {
        &self.0
    }

    /// Compares the plan with QEMU's answer to `query-pci`. Functions behind bridges are in that
    /// answer once the firmware has numbered the buses.
    ///
    /// # Errors
    /// A planned function is missing or sits elsewhere.
    pub fn check(&self, query_pci: &Value) -> Result<(), Misplaced> {
        let found = Found::read(query_pci);
        for placed in &self.0 {
            let expected = position(&placed.bus, placed.device, placed.function);
            let actual = found.get(&placed.id).map(|f| position(&f.bus, f.device, f.function));
            if actual.as_ref() != Some(&expected) {
                return Err(Misplaced { id: placed.id.clone(), expected, found: actual });
            }
        }
        Ok(())
    }

    /// Returns where the guest sees the functions of cards, the host's and those in their place,
    /// from QEMU's answer to `query-pci`.
    pub fn places(&self, query_pci: &Value) -> Vec<Place> {
        let found = Found::read(query_pci);
        let place = |placed: &Placed| {
            let Found { bus_number: bus, device, function, .. } = *found.get(&placed.id)?;
            Some(Place { bus, device, function })
        };
        self.0.iter().filter(|placed| placed.id.starts_with(CARD)).filter_map(place).collect()
    }

    /// Returns the addresses at which the guest sees the host's functions, from QEMU's answer to
    /// `query-pci`.
    pub fn guest_addresses(&self, query_pci: &Value) -> BTreeMap<Address, Address> {
        let found = Found::read(query_pci);
        let pair = |placed: &Placed| {
            let there = found.get(&placed.id)?;
            let guest = Address::new(0, there.bus_number, there.device, there.function)?;
            Some((guest, placed.host?))
        };
        self.0.iter().filter_map(pair).collect()
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for placed in &self.0 {
            let at = position(&placed.bus, placed.device, placed.function);
            write!(f, "{} at {at}", placed.id)?;
            match placed.host {
                Some(address) => writeln!(f, ": {address}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

fn position(bus: &str, device: u8, function: u8) -> String {
    format!("{bus} {device:02x}.{function}")
}

struct Found {
    bus: String,
    bus_number: u8,
    device: u8,
    function: u8,
}

impl Found {
    /// Reads the answer, by names; functions that QEMU made on its own have none.
    fn read(query_pci: &Value) -> BTreeMap<String, Self> {
        let mut found = BTreeMap::new();
        let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned();
        let roots = list(Some(query_pci)).unwrap_or_default();
        let mut pending: Vec<(String, Vec<Value>)> = roots
            .iter()
            .filter_map(|bus| Some((ROOT_BUS.to_owned(), list(bus.get("devices"))?)))
            .collect();
        while let Some((bus, devices)) = pending.pop() {
            for device in devices {
                let number = |name: &str| {
                    device.get(name).and_then(Value::as_u64).and_then(|n| u8::try_from(n).ok())
                };
                let id = device.get("qdev_id").and_then(Value::as_str).unwrap_or_default();
                if let Some(below) = list(device.pointer("/pci_bridge/devices")) {
                    pending.push((id.to_owned(), below));
                }
                let (Some(bus_number), Some(slot), Some(function)) =
                    (number("bus"), number("slot"), number("function"))
                else {
                    continue;
                };
                if !id.is_empty() {
                    let place = Self { bus: bus.clone(), bus_number, device: slot, function };
                    found.insert(id.to_owned(), place);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer() -> Value {
        json!([{"bus": 0, "devices": [
            {"bus": 0, "slot": 0, "function": 0, "qdev_id": ""},
            {"bus": 0, "slot": 5, "function": 0, "qdev_id": "port1", "pci_bridge": {
                "bus": {"secondary": 1},
                "devices": [{"bus": 1, "slot": 0, "function": 1, "qdev_id": "dev1.1"}]}}]}])
    }

    fn planned(bus: &str, function: u8) -> Topology {
        Topology(vec![Placed {
            id: "dev1.1".into(),
            bus: bus.into(),
            device: 0,
            function,
            host: Some("29:00.1".parse().unwrap()),
        }])
    }

    #[test]
    fn a_function_behind_a_port_is_found_by_name() {
        let plan = planned("port1", 1);
        plan.check(&answer()).unwrap();
        let seen = plan.guest_addresses(&answer());
        let pairs: Vec<_> = seen.iter().map(|(guest, host)| format!("{guest} {host}")).collect();
        assert_eq!(pairs, ["0000:01:00.1 0000:29:00.1"]);
        let place = Place { bus: 1, device: 0, function: 1 };
        assert_eq!(plan.places(&answer()), [place]);
        let own = Topology(vec![Placed { id: "port1".into(), ..plan.0[0].clone() }]);
        assert_eq!(own.places(&answer()), []);
    }

    #[test]
    fn a_function_elsewhere_or_nowhere_is_named() {
        assert_eq!(
            planned("pcie.0", 1).check(&answer()).unwrap_err().to_string(),
            "dev1.1 should be at pcie.0 00.1, and is port1 00.1"
        );
        assert_eq!(
            planned("port1", 0).check(&json!([])).unwrap_err().to_string(),
            "dev1.1 should be at port1 00.0, and is missing"
        );
        assert!(planned("port1", 0).check(&json!({"odd": 1})).is_err());
    }
}
