//! Puts a machine together: what all its parts are added to.

use std::fmt;
use std::path::Path;

use pci::Address;

use super::arguments::{Arguments, Properties};
use super::topology::ROOT_BUS;
use super::{
    Accelerator, CONTROL_FD, Descriptor, Forward, Machine, NewFile, Note, Placed, PlanError,
    Request, SERIAL_FD, Topology,
};
use crate::qemu::{Capabilities, DiskFormat, Part, Uefi};

/// Device numbers on the root bus; 0 is the host bridge, 1 the screen, 0x1f the chipset's functions.
pub(super) const NETWORK: u8 = 0x02;
pub(super) const SOUND: u8 = 0x03;
pub(super) const USB: u8 = 0x04;
pub(super) const FIRST_PORT: u8 = 0x05;
pub(super) const LAST_PORT: u8 = 0x1e;
/// Beside its memory, a guest with a card locks that of its emulated screen and firmware; libvirt
/// allows the same (src/qemu/qemu_domain.c of libvirt, qemuDomainGetMemLockLimitBytes).
const LOCKED_BESIDE_MEMORY: u64 = 1 << 30;

/// The processor that takes the least work to translate: x86-64-v2, which distributions' libraries
/// may need, and random numbers, without which a kernel collects them slowly.
const PLAIN_CPU: &str = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand";
/// How long an instruction takes by a clock that counts them, as a power of two of nanoseconds.
const INSTRUCTION: u8 = 4;

/// Something that QEMU must be able to do.
pub(super) enum Need {
    Machine,
    Accelerator(&'static str),
    Device(String),
    VfioProperty(&'static str),
    Object(&'static str),
    Netdev,
    Display(String),
    Sound,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("machine `q35`"),
            Self::Accelerator(name) => write!(f, "accelerator `{name}`"),
            Self::Device(name) => write!(f, "device `{name}`"),
            Self::VfioProperty(name) => write!(f, "property `{name}` of vfio-pci"),
            Self::Object(name) => write!(f, "object `{name}`"),
            Self::Netdev => f.write_str("user network"),
            Self::Display(name) => write!(f, "display `{name}`"),
            Self::Sound => f.write_str("sound back end for this host"),
        }
    }
}

/// A machine in the making.
pub(super) struct Builder<'a> {
    pub(super) request: &'a Request,
    pub(super) qemu: &'a Capabilities,
    pub(super) arguments: Arguments,
    pub(super) files: Vec<NewFile>,
    pub(super) descriptors: Vec<Descriptor>,
    /// The function that gets the legacy VGA ranges.
    pub(super) legacy_vga: Option<Address>,
    /// Whether a pointing device that follows a window's pointer is wanted.
    pub(super) needs_pointer: bool,
    /// Whether the disk is on USB.
    pub(super) usb_disk: bool,
    /// Whether a network card has the first network.
    pub(super) network_taken: bool,
    /// Device number of the next root port.
    pub(super) next_port: u8,
    /// Device number of the next conventional card, once there is a bridge for them.
    pub(super) next_behind_bridge: Option<u8>,
    /// Whether a device found no place.
    pub(super) is_full: bool,
    /// Ports that lead to the guest.
    pub(super) forwards: Vec<Forward>,
    placed: Vec<Placed>,
    notes: Vec<Note>,
    missing: Vec<String>,
    part: Option<Part>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(request: &'a Request, qemu: &'a Capabilities) -> Self {
        Self {
            request,
            qemu,
            arguments: Arguments::default(),
            legacy_vga: None,
            needs_pointer: false,
            forwards: Vec::new(),
            placed: Vec::new(),
            files: Vec::new(),
            descriptors: Vec::new(),
            notes: Vec::new(),
            missing: Vec::new(),
            part: None,
            next_port: FIRST_PORT,
            is_full: false,
            next_behind_bridge: None,
            network_taken: false,
            usb_disk: false,
        }
    }

    pub(super) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Records that QEMU cannot do something; `part` is what packages it apart, if anything.
    pub(super) fn lacks(&mut self, need: Need, part: Option<Part>) {
        let need = need.to_string();
        if !self.missing.contains(&need) {
            self.missing.push(need);
        }
        self.part = self.part.or(part);
    }

    pub(super) fn need_device(&mut self, model: &str) {
        if !self.qemu.has_device(model) {
            self.lacks(Need::Device(model.to_owned()), None);
        }
    }

    pub(super) fn need_vfio_property(&mut self, name: &'static str) {
        if !self.qemu.vfio_properties.contains(name) {
            self.lacks(Need::VfioProperty(name), None);
        }
    }

    /// The board, its processors, memory and firmware.
    pub(super) fn board(&mut self, uefi: Option<&Uefi>) {
        let request = self.request;
        if !self.qemu.machines.contains("q35") {
            self.lacks(Need::Machine, None);
        }
        // Nothing that QEMU or a configuration file of the user's would add by itself.
        self.arguments.flag("-nodefaults");
        self.arguments.flag("-no-user-config");
        // The guest starts once the control channel is in use, so that nothing it does is missed.
        self.arguments.flag("-S");
        self.arguments.option("-name", Properties::of("guest", &request.name));
        let mut machine = Properties::new("q35");
        if let Some(uefi) = uefi {
            let variables = request.directory.join("uefi-variables");
            let code = flash("flash0", uefi.format, &uefi.code).with("read-only", "on");
            self.arguments.option("-blockdev", code);
            self.arguments.option("-blockdev", flash("flash1", uefi.format, &variables));
            machine = machine.with("pflash0", "flash0").with("pflash1", "flash1");
            self.files.push(NewFile::Copy { from: uefi.variables.clone(), to: variables });
        }
        self.arguments.option("-machine", machine);
        let (accelerator, value, cpu) = match request.accelerator {
            Accelerator::Kvm => ("kvm", "kvm", Some("host")),
            Accelerator::Tcg => ("tcg", "tcg,thread=multi", Some("max")),
            Accelerator::TcgCounted => ("tcg", "tcg,thread=single", Some(PLAIN_CPU)),
            Accelerator::Qtest => ("qtest", "qtest", None),
        };
        if !self.qemu.accelerators.contains(accelerator) {
            self.lacks(Need::Accelerator(accelerator), None);
        }
        if accelerator == "tcg" {
            self.note(Note::Slow);
        }
        self.arguments.option("-accel", value);
        if request.accelerator == Accelerator::TcgCounted {
            self.arguments.option("-icount", format!("shift={INSTRUCTION}"));
        }
        if let Some(cpu) = cpu {
            self.arguments.option("-cpu", cpu);
        }
        self.arguments.option("-smp", request.cpus.to_string());
        self.arguments.option("-m", format!("{}M", request.memory_mib));
        if !request.may_reboot {
            self.arguments.flag("-no-reboot");
        }
    }

    /// The control channel and the serial line.
    pub(super) fn channels(&mut self) {
        let socket =
            |id: &str, fd: i32| Properties::new("socket").with("id", id).with("fd", fd.to_string());
        self.arguments.option("-chardev", socket("control", CONTROL_FD));
        self.arguments.option("-mon", "chardev=control,mode=control");
        self.arguments.option("-chardev", socket("serial", SERIAL_FD));
        self.arguments.option("-serial", "chardev:serial");
    }

    pub(super) fn on_root_bus(
        &mut self,
        id: &str,
        model: &str,
        properties: &[(&str, &str)],
        device: u8,
    ) {
        self.need_device(model);
        let all = properties.iter().fold(Properties::new(model), |p, (name, v)| p.with(name, v));
        self.place(id, all, ROOT_BUS, device, 0, None);
    }

    pub(super) fn place(
        &mut self,
        id: &str,
        properties: Properties,
        bus: &str,
        device: u8,
        function: u8,
        host: Option<Address>,
    ) {
        let properties = properties
            .with("id", id)
            .with("bus", bus)
            .with("addr", format!("{device:02x}.{function}"));
        self.arguments.option("-device", properties);
        let (id, bus) = (id.to_owned(), bus.to_owned());
        self.placed.push(Placed { id, bus, device, function, host });
    }

    /// Ends the work, if everything that is needed is there.
    pub(super) fn finish(mut self) -> Result<Machine, PlanError> {
        if !self.missing.is_empty() {
            return Err(PlanError::Unfit {
                executable: self.qemu.executable.clone(),
                version: self.qemu.version,
                missing: self.missing,
                part: self.part,
            });
        }
        if self.is_full {
            let ports = usize::from(LAST_PORT - FIRST_PORT) + 1;
            return Err(PlanError::TooManyDevices { ports });
        }
        self.arguments.extend(&self.request.extra);
        let memory = self.request.memory_mib << 20;
        Ok(Machine {
            executable: self.qemu.executable.clone(),
            arguments: self.arguments.into_vec(),
            topology: Topology(self.placed),
            files: self.files,
            descriptors: self.descriptors,
            locked_memory: (!self.request.cards.is_empty())
                .then(|| memory.saturating_add(LOCKED_BESIDE_MEMORY)),
            forwards: self.forwards,
            notes: self.notes,
        })
    }
}

fn flash(node: &str, format: DiskFormat, file: &Path) -> Properties {
    Properties::of("driver", format.driver())
        .with("node-name", node)
        .with("file.driver", "file")
        .with("file.filename", file)
}
