//! The cards of the host, and QEMU's own devices in their place.

use std::collections::BTreeMap;
use std::path::Path;

use pci::Address;

use super::arguments::Properties;
use super::builder::{Builder, FIRST_PORT, LAST_PORT, Need};
use super::topology::CARD;
use super::{
    Boot, Card, Descriptor, Emulated, Function, Network, NewFile, Note, PlanError, RomFile,
};
use crate::qemu::Capabilities;

/// Device numbers behind the bridge for conventional cards; 0 is its own hot-plug controller's.
const BEHIND_BRIDGE: std::ops::RangeInclusive<u8> = 1..=31;
/// Descriptors that QEMU is given begin well above those that it opens first.
const FIRST_DESCRIPTOR: i32 = 20;
/// Size of the disk behind an emulated controller, in bytes.
const EMULATED_DISK: u64 = 64 << 20;

impl Builder<'_> {
    /// The cards and what is emulated in place of cards.
    pub(super) fn devices(&mut self) -> Result<(), PlanError> {
        let mut number = 0;
        for card in &self.request.cards {
            for functions in by_device(card) {
                number += 1;
                self.card(number, card.express, &functions);
            }
        }
        for device in &self.request.emulated {
            number += 1;
            self.emulated(number, device)?;
        }
        Ok(())
    }

    fn card(&mut self, number: usize, express: bool, functions: &[&Function]) {
        if !self.qemu.has_device("vfio-pci") {
            self.lacks(Need::Device("vfio-pci".into()), None);
        }
        let (bus, device) = if express { (self.port(), 0) } else { self.behind_bridge() };
        let lone = functions.iter().all(|function| function.address.function() != 0);
        for (index, function) in functions.iter().enumerate() {
            let place = if lone && index == 0 { 0 } else { function.address.function() };
            if place != function.address.function() {
                self.note(Note::Moved { address: function.address });
            }
            let loads = matches!(self.request.boot, Boot::Disk(_));
            if function.class.is_storage() && loads {
                self.note(Note::OtherBootDisks(function.address));
            }
            let mut properties = self.vfio(function);
            match &function.rom_file {
                Some(RomFile::Hidden) => properties = properties.with("rombar", "0"),
                Some(RomFile::File(path)) => properties = properties.with("romfile", path),
                None => {}
            }
            if self.legacy_vga == Some(function.address) {
                properties = properties.with("x-vga", "on");
            }
            if place == 0 && functions.len() > 1 {
                properties = properties.with("multifunction", "on");
            }
            let id = format!("{CARD}{number}.{place}");
            self.place(&id, properties, &bus, device, place, Some(function.address));
        }
    }

    /// The start of a passed function's properties: through iommufd where QEMU and the kernel have
    /// it, by descriptors, so that QEMU needs no rights of its own; else through its group.
    fn vfio(&mut self, function: &Function) -> Properties {
        let properties = Properties::new("vfio-pci");
        let Some(path) = function.character_device.as_ref().filter(|_| self.by_descriptor()) else {
            return properties.with("host", function.address.to_string());
        };
        if self.descriptors.is_empty() {
            let number = self.descriptor(Path::new("/dev/iommu"));
            let object = Properties::new("iommufd").with("id", "iommufd0").with("fd", number);
            self.arguments.option("-object", object);
        }
        let number = self.descriptor(path);
        properties.with("iommufd", "iommufd0").with("fd", number)
    }

    /// All functions go the same way: a container of groups and an iommufd cannot share mappings.
    fn by_descriptor(&self) -> bool {
        let mut functions = self.request.cards.iter().flat_map(|card| &card.functions);
        self.qemu.has_iommufd() && functions.all(|f| f.character_device.is_some())
    }

    fn descriptor(&mut self, path: &Path) -> String {
        let count = i32::try_from(self.descriptors.len()).unwrap_or(i32::MAX);
        let number = FIRST_DESCRIPTOR.saturating_add(count);
        self.descriptors.push(Descriptor { path: path.to_owned(), number });
        number.to_string()
    }

    fn emulated(&mut self, number: usize, device: &Emulated) -> Result<(), PlanError> {
        let (qemu, model) = (self.qemu, &device.model);
        if !qemu.is_pci(model) {
            return Err(PlanError::UnknownModel {
                model: model.clone(),
                version: qemu.version,
                similar: similar(model, qemu),
            });
        }
        let mut properties = Properties::new(model);
        let given = |name: &str| device.properties.iter().any(|(key, _)| key == name);
        if qemu.network_devices.contains(model) && !given("netdev") && self.has_network() {
            let id = if self.network_taken { format!("net{number}") } else { "net0".to_owned() };
            if self.network_taken {
                let netdev = Properties::new("user").with("id", &id);
                self.arguments.option("-netdev", netdev);
            }
            self.network_taken = true;
            properties = properties.with("netdev", &id);
        }
        if qemu.drive_devices.contains(model) && !given("drive") {
            let path = self.request.directory.join(format!("disk{number}"));
            let node = format!("disk{number}");
            self.arguments.option(
                "-blockdev",
                Properties::of("driver", "raw")
                    .with("node-name", &node)
                    .with("file.driver", "file")
                    .with("file.filename", &path),
            );
            properties = properties.with("drive", &node);
            if model == "nvme" && !given("serial") {
                properties = properties.with("serial", &node);
            }
            self.files.push(NewFile::Zeros { path, size: EMULATED_DISK });
        }
        for (name, value) in &device.properties {
            properties = properties.with(name, value);
        }
        let express = qemu.pci_express.contains(model);
        let (bus, place) = if express { (self.port(), 0) } else { self.behind_bridge() };
        self.place(&format!("{CARD}{number}.0"), properties, &bus, place, 0, None);
        Ok(())
    }

    fn has_network(&self) -> bool {
        let card = || self.request.cards.iter().flat_map(|card| &card.functions);
        match self.request.network {
            Network::None => false,
            Network::User { .. } => true,
            Network::Default { .. } => !card().any(|function| function.class.is_network()),
        }
    }

    /// Adds a root port and returns the bus below it.
    pub(super) fn port(&mut self) -> String {
        let number = (self.next_port + 1).saturating_sub(FIRST_PORT).to_string();
        let name = format!("port{number}");
        if self.next_port > LAST_PORT {
            self.is_full = true;
            return name;
        }
        let properties = [("chassis", number.as_str()), ("slot", number.as_str())];
        self.on_root_bus(&name, "pcie-root-port", &properties, self.next_port);
        self.next_port += 1;
        name
    }

    /// Returns the bus for conventional cards and a free device number there. The bridge sits
    /// behind a root port, as a bridge from PCI Express does in hardware.
    fn behind_bridge(&mut self) -> (String, u8) {
        let bridge = "bridge1";
        let device = match self.next_behind_bridge {
            Some(device) => device,
            None => {
                self.need_device("pcie-pci-bridge");
                let port = self.port();
                self.place(bridge, Properties::new("pcie-pci-bridge"), &port, 0, 0, None);
                *BEHIND_BRIDGE.start()
            }
        };
        self.is_full |= !BEHIND_BRIDGE.contains(&device);
        self.next_behind_bridge = Some(device.saturating_add(1));
        (bridge.to_owned(), device)
    }
}

/// The functions of a card by device, each with its functions in order.
fn by_device(card: &Card) -> Vec<Vec<&Function>> {
    let mut devices: BTreeMap<Option<Address>, Vec<&Function>> = BTreeMap::new();
    for function in &card.functions {
        devices.entry(function.address.with_function(0)).or_default().push(function);
    }
    let mut devices: Vec<_> = devices.into_values().collect();
    for functions in &mut devices {
        functions.sort_by_key(|function| function.address);
    }
    devices
}

/// Names of PCI devices that hold the given one or are held by it.
fn similar(model: &str, qemu: &Capabilities) -> Vec<String> {
    let lower = model.to_ascii_lowercase();
    let close = |name: &&String| {
        let name = name.to_ascii_lowercase();
        !lower.is_empty() && (name.contains(&lower) || lower.contains(&name))
    };
    qemu.pci_express.union(&qemu.pci_conventional).filter(close).take(8).cloned().collect()
}
