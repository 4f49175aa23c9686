//! The emulated parts of a machine: what it starts from, network, sound and USB.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::arguments::Properties;
use super::builder::{Builder, NETWORK, Need, SOUND, USB};
use super::{Boot, Disk, DiskBus, Emulated, Forward, Network, Note, PlanError};
use crate::qemu::Part;

/// Sound back ends, the best first.
const SOUNDS: [&str; 6] = ["pipewire", "pa", "sdl", "alsa", "sndio", "oss"];

impl Builder<'_> {
    /// What the machine starts from, and nothing else: not the disks of a passed controller.
    pub(super) fn boot(&mut self) -> Result<(), PlanError> {
        match &self.request.boot {
            Boot::Disk(disk) => {
                self.arguments.option("-boot", "menu=off,strict=on");
                self.disk(disk)
            }
            Boot::Kernel { kernel, initrd, command_line } => {
                self.arguments.option("-kernel", kernel);
                self.arguments.option("-initrd", initrd);
                self.arguments.option("-append", command_line);
                Ok(())
            }
        }
    }

    fn disk(&mut self, disk: &Disk) -> Result<(), PlanError> {
        let image = disk.image.as_os_str().as_bytes();
        let again = |arg: &OsString| {
            !image.is_empty() && arg.as_bytes().windows(image.len()).any(|part| part == image)
        };
        if self.request.extra.iter().any(again) {
            return Err(PlanError::SameDisk { image: disk.image.clone() });
        }
        let mut node = Properties::of("driver", disk.format.driver())
            .with("node-name", "disk")
            .with("file.driver", "file")
            .with("file.filename", &disk.file);
        if disk.offset != 0 {
            node = node.with("offset", disk.offset.to_string());
        }
        self.arguments.option("-blockdev", node);
        let with_disk =
            |model: &str| Properties::new(model).with("drive", "disk").with("bootindex", "0");
        match disk.bus {
            DiskBus::Ahci => {
                self.need_device("ide-hd");
                let device = with_disk("ide-hd").with("id", "disk0").with("bus", "ide.0");
                self.arguments.option("-device", device);
            }
            DiskBus::Nvme => {
                let device = with_disk("nvme").with("serial", "kireji");
                self.need_device("nvme");
                let port = self.port();
                self.place("disk0", device, &port, 0, 0, None);
            }
            DiskBus::Usb => {
                self.need_device("usb-storage");
                self.usb_disk = true;
            }
        }
        Ok(())
    }

    /// The user network, unless a card is the guest's network card.
    pub(super) fn network(&mut self) {
        let card = self
            .request
            .cards
            .iter()
            .flat_map(|card| &card.functions)
            .find(|function| function.class.is_network());
        let forwards = match (&self.request.network, card) {
            (Network::None, _) => return,
            (Network::Default { .. }, Some(function)) => {
                self.note(Note::NetworkIsTheCard(function.address));
                return;
            }
            (Network::Default { forwards }, None) | (Network::User { forwards }, _) => forwards,
        };
        if !self.qemu.netdevs.contains("user") {
            self.lacks(Need::Netdev, None);
        }
        let mut netdev = Properties::new("user").with("id", "net0");
        for Forward { host, guest } in forwards {
            netdev = netdev.with("hostfwd", format!("tcp:127.0.0.1:{host}-:{guest}"));
        }
        self.arguments.option("-netdev", netdev);
        self.forwards.clone_from(forwards);
        let is_nic = |device: &Emulated| self.qemu.network_devices.contains(&device.model);
        if self.request.emulated.iter().any(is_nic) {
            return;
        }
        self.on_root_bus("network", "e1000e", &[("netdev", "net0")], NETWORK);
        self.network_taken = true;
    }

    /// A sound card, if one is wanted.
    pub(super) fn sound(&mut self) {
        if !self.request.sound {
            return;
        }
        let Some(backend) = SOUNDS.iter().find(|name| self.qemu.audiodevs.contains(**name)) else {
            return self.lacks(Need::Sound, Some(Part::Sound));
        };
        self.arguments.option("-audiodev", Properties::new(backend).with("id", "audio0"));
        self.on_root_bus("sound", "ich9-intel-hda", &[], SOUND);
        self.need_device("hda-duplex");
        let codec = Properties::new("hda-duplex").with("bus", "sound.0").with("audiodev", "audio0");
        self.arguments.option("-device", codec);
    }

    /// USB: what shows the window's pointer, devices of the host, and a disk.
    pub(super) fn usb(&mut self) {
        let request = self.request;
        for (index, path) in request.inputs.iter().enumerate() {
            if !self.qemu.objects.contains("input-linux") {
                self.lacks(Need::Object("input-linux"), None);
            }
            let object = Properties::new("input-linux")
                .with("id", format!("input{index}"))
                .with("evdev", path);
            // One key switches all devices, so the first takes the others along.
            let object = if index == 0 { object.with("grab_all", "on") } else { object };
            self.arguments.option("-object", object.with("repeat", "on"));
        }
        if !self.needs_pointer && !self.usb_disk && request.usb.is_empty() {
            return;
        }
        self.on_root_bus("usb", "qemu-xhci", &[], USB);
        if self.usb_disk {
            let disk = Properties::new("usb-storage").with("id", "disk0").with("bus", "usb.0");
            self.arguments.option("-device", disk.with("drive", "disk").with("bootindex", "0"));
        }
        if self.needs_pointer {
            self.need_device("usb-tablet");
            let tablet = Properties::new("usb-tablet").with("bus", "usb.0");
            self.arguments.option("-device", tablet);
        }
        for device in &request.usb {
            self.need_device("usb-host");
            let host = Properties::new("usb-host")
                .with("bus", "usb.0")
                .with("vendorid", format!("{:#06x}", device.vendor))
                .with("productid", format!("{:#06x}", device.product));
            self.arguments.option("-device", host);
        }
    }
}
