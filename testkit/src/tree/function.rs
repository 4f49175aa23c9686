//! One PCI function of a synthetic host.

use super::Tree;

/// What a base address register asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// I/O ports.
    Io,
    /// Memory with a 32-bit register.
    Memory32,
    /// Prefetchable memory with a 64-bit register, which takes two.
    Memory64,
}

/// A port of PCI Express that leads to another bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// A root port.
    Root,
    /// The upstream port of a switch.
    Upstream,
    /// A downstream port of a switch.
    Downstream,
    /// A bridge from PCI Express to conventional PCI.
    ToPci,
    /// A bridge between conventional buses, without the capability.
    Conventional,
}

/// One function, to be added to a [`Tree`].
#[derive(Clone, Debug)]
pub struct Function {
    pub(super) address: String,
    pub(super) parent: Option<String>,
    pub(super) group: Option<u32>,
    pub(super) driver: Option<String>,
    pub(super) physical: Option<String>,
    ids: (u16, u16),
    subsystem: (u16, u16),
    class: u32,
    revision: u8,
    port: Option<(Port, u8)>,
    slot_implemented: bool,
    regions: [(u64, u64, u64); 7],
    attributes: Vec<(String, Vec<u8>)>,
    writes: Vec<(usize, Vec<u8>)>,
    visible: Option<usize>,
    has_capabilities: bool,
}

impl Function {
    /// Returns an endpoint without class, driver, group or regions.
    pub fn new(address: &str, vendor: u16, device: u16) -> Self {
        Self {
            address: address.to_owned(),
            parent: None,
            group: None,
            driver: None,
            physical: None,
            ids: (vendor, device),
            subsystem: (0, 0),
            class: 0xff_0000,
            revision: 0,
            port: None,
            slot_implemented: false,
            regions: [(0, 0, 0); 7],
            attributes: Vec::new(),
            writes: Vec::new(),
            visible: None,
            has_capabilities: false,
        }
    }

    /// Returns a bridge to the bus `secondary`: QEMU's `pcie-root-port` unless changed.
    pub fn port(address: &str, port: Port, secondary: u8) -> Self {
        let mut bridge = Self::new(address, 0x1b36, 0x000c).class(0x06_0400);
        bridge.port = Some((port, secondary));
        bridge
    }

    /// Sets the class code, 24 bits.
    pub fn class(mut self, class: u32) -> Self {
        self.class = class;
        self
    }

    /// Sets the subsystem ids.
    pub fn subsystem(mut self, vendor: u16, device: u16) -> Self {
        self.subsystem = (vendor, device);
        self
    }

    /// Sets the revision.
    pub fn revision(mut self, revision: u8) -> Self {
        self.revision = revision;
        self
    }

    /// Puts it below a bridge.
    pub fn below(mut self, bridge: &str) -> Self {
        self.parent = Some(bridge.to_owned());
        self
    }

    /// Binds it to a driver.
    pub fn driver(mut self, name: &str) -> Self {
        self.driver = Some(name.to_owned());
        self
    }

    /// Puts it into an IOMMU group.
    pub fn group(mut self, number: u32) -> Self {
        self.group = Some(number);
        self
    }

    /// Makes it a virtual function of `physical`, which was added before.
    pub fn virtual_of(mut self, physical: &str) -> Self {
        self.physical = Some(physical.to_owned());
        self
    }

    /// Gives a port a physical slot (Slot Implemented).
    pub fn slot(mut self) -> Self {
        self.slot_implemented = true;
        self
    }

    /// Gives it a region: base address register `index`, host address and size in bytes.
    pub fn bar(mut self, index: usize, start: u64, size: u64, bar: Bar) -> Self {
        // Flags of include/linux/ioport.h, as the `resource` attribute shows them.
        let flags = match bar {
            Bar::Io => 0x4_0101,
            Bar::Memory32 => 0x4_0200,
            Bar::Memory64 => 0x14_220c,
        };
        self.regions[index] = (start, start + size - 1, flags);
        self
    }

    /// Gives it an expansion ROM with these contents; the region has the size `region`.
    pub fn rom(mut self, start: u64, region: u64, contents: &[u8]) -> Self {
        self.regions[6] = (start, start + region - 1, 0x4_6200);
        self.attribute("rom", contents)
    }

    /// Gives it an attribute with these contents.
    pub fn attribute(mut self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        self.attributes.push((name.to_owned(), contents.as_ref().to_vec()));
        self
    }

    /// Overwrites bytes of its configuration space.
    pub fn config(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.writes.push((offset, bytes.to_vec()));
        self
    }

    /// Gives an endpoint the capabilities of a common card of PCI Express, and a link of half its
    /// width.
    pub fn express(mut self) -> Self {
        self.has_capabilities = true;
        for (at, bytes) in [
            (0x06, &[0x10][..]),
            (0x34, &[0x40]),
            // Power management: version 3, wakes from D3hot, in D0, keeps its state.
            (0x40, &[0x01, 0x50, 0x03, 0x40, 0x08, 0x00]),
            // Message-signalled interrupts, 64-bit, off.
            (0x50, &[0x05, 0x70, 0x80, 0x00]),
            // With a table: five vectors, in BAR 3.
            (0x70, &[0x11, 0xa0, 0x04, 0x80, 0x03, 0x00, 0x00, 0x00, 0x03, 0x20, 0x00, 0x00]),
            // PCI Express: version 2, endpoint, 256 bytes of payload, function-level reset.
            (0xa0, &[0x10, 0x00, 0x02, 0x00, 0x01, 0x00, 0x00, 0x10]),
            // The link: 8 GT/s x8 possible, 5 GT/s x4 now.
            (0xac, &[0x83, 0x00, 0x00, 0x00, 0x00, 0x00, 0x42, 0x00]),
            // Advanced error reporting; a serial number.
            (0x100, &[0x01, 0x00, 0x02, 0x14]),
            (0x140, &[0x03, 0x00, 0x01, 0x00, 0x53, 0x45, 0x43, 0x52, 0x45, 0x54, 0x53, 0x4e]),
        ] {
            self.writes.push((at, bytes.to_vec()));
        }
        self.attribute("current_link_speed", "5.0 GT/s PCIe\n")
            .attribute("current_link_width", "4\n")
            .attribute("max_link_speed", "8.0 GT/s PCIe\n")
            .attribute("max_link_width", "8\n")
    }

    /// Shows only so many bytes of the configuration space: 64, as an ordinary user sees it.
    pub fn visible(mut self, bytes: usize) -> Self {
        self.visible = Some(bytes);
        self
    }

    /// Domain and bus, as the directory of a root bus is named.
    pub(super) fn bus(&self) -> &str {
        self.address.rsplit_once(':').expect("an address").0
    }

    pub(super) fn write(&self, tree: &Tree, directory: &str) {
        let (vendor, device) = self.ids;
        let (sub_vendor, sub_device) = self.subsystem;
        let [_, base, sub, interface] = self.class.to_be_bytes();
        // drivers/pci/pci-sysfs.c, modalias_show.
        let modalias = format!(
            "pci:v{vendor:08X}d{device:08X}sv{sub_vendor:08X}sd{sub_device:08X}\
             bc{base:02X}sc{sub:02X}i{interface:02X}"
        );
        // drivers/pci/pci-driver.c, pci_uevent; the driver core puts DRIVER first.
        let uevent = format!(
            "PCI_CLASS={:04X}\nPCI_ID={vendor:04X}:{device:04X}\n\
             PCI_SUBSYS_ID={sub_vendor:04X}:{sub_device:04X}\nPCI_SLOT_NAME={}\n\
             MODALIAS={modalias}\n",
            self.class, self.address
        );
        let resource: String = self
            .regions
            .iter()
            .map(|(start, end, flags)| format!("{start:#018x} {end:#018x} {flags:#018x}\n"))
            .collect();
        for (name, contents) in [
            ("vendor", format!("{vendor:#06x}\n")),
            ("device", format!("{device:#06x}\n")),
            ("subsystem_vendor", format!("{sub_vendor:#06x}\n")),
            ("subsystem_device", format!("{sub_device:#06x}\n")),
            ("class", format!("{:#08x}\n", self.class)),
            ("revision", format!("{:#04x}\n", self.revision)),
            ("uevent", uevent),
            ("modalias", format!("{modalias}\n")),
            ("resource", resource),
            ("driver_override", "(null)\n".to_owned()),
            ("power_state", "D0\n".to_owned()),
            ("power/runtime_status", "active\n".to_owned()),
            ("power/control", "on\n".to_owned()),
            ("enable", "1\n".to_owned()),
            ("irq", "0\n".to_owned()),
            ("numa_node", "-1\n".to_owned()),
        ] {
            tree.write(&format!("{directory}/{name}"), contents);
        }
        tree.link(&format!("{directory}/subsystem"), "/sys/bus/pci");
        let mut config = self.configuration();
        config.truncate(self.visible.unwrap_or(usize::MAX));
        tree.write(&format!("{directory}/config"), config);
        for (name, contents) in &self.attributes {
            tree.write(&format!("{directory}/{name}"), contents);
        }
    }

    /// Configuration space: header, and for a port the PCI Express capability (PCI Local Bus 3.0,
    /// 6.1; PCI Express Base 6.0, 7.5.3).
    fn configuration(&self) -> Vec<u8> {
        let express = matches!(self.port, Some((port, _)) if port != Port::Conventional);
        let is_whole = express || self.has_capabilities;
        let mut bytes = vec![0; if is_whole { 4096 } else { 256 }];
        let mut put = |offset: usize, value: &[u8]| {
            bytes[offset..offset + value.len()].copy_from_slice(value);
        };
        put(0x00, &self.ids.0.to_le_bytes());
        put(0x02, &self.ids.1.to_le_bytes());
        put(0x08, &[self.revision]);
        put(0x09, &self.class.to_le_bytes()[..3]);
        match self.port {
            None => {
                put(0x2c, &self.subsystem.0.to_le_bytes());
                put(0x2e, &self.subsystem.1.to_le_bytes());
            }
            Some((port, secondary)) => {
                let primary = self.bus().rsplit_once(':').expect("a bus").1;
                let primary = u8::from_str_radix(primary, 16).expect("a bus number");
                put(0x0e, &[1]);
                put(0x18, &[primary, secondary, secondary]);
                let kind: u16 = match port {
                    Port::Root => 4,
                    Port::Upstream => 5,
                    Port::Downstream => 6,
                    Port::ToPci => 7,
                    Port::Conventional => 0,
                };
                if express {
                    let register = 2 | kind << 4 | u16::from(self.slot_implemented) << 8;
                    put(0x06, &[0x10]);
                    put(0x34, &[0x40]);
                    put(0x40, &[0x10, 0x00]);
                    put(0x42, &register.to_le_bytes());
                }
            }
        }
        for (offset, value) in &self.writes {
            put(*offset, value);
        }
        bytes
    }
}
