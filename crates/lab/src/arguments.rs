//! From a rig to QEMU's command line: a pure function.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::rig::{Backend, Bridge, BridgeKind, Card, Device, Iommu, Rig, Slot, Value};

/// What a rig's command line needs beside the rig.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What it starts from.
    pub start: Start,
    /// Where the kernel's console goes.
    pub console: PathBuf,
    /// What is in its memory from the start, as NVDIMMs: the disk with QEMU for inner guests, where
    /// the rig has one, comes first.
    pub memory_disks: Vec<MemoryDisk>,
    /// A disk file for each card that has one, in the order of the cards.
    pub disks: Vec<PathBuf>,
    /// What the QEMU at hand can do.
    pub abilities: Abilities,
    /// Whether to use KVM rather than emulate the processor.
    pub kvm: bool,
}

/// What a rig starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A kernel that QEMU itself loads.
    Kernel {
        /// The kernel.
        image: PathBuf,
        /// Its initramfs.
        initramfs: PathBuf,
    },
    /// The boot loader of a disk, by its firmware.
    Disk {
        /// The disk, in QEMU's own format.
        image: PathBuf,
        /// The firmware.
        firmware: Firmware,
    },
}

/// The firmware of a rig that starts from a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// QEMU's BIOS.
    Bios,
    /// UEFI, in flash memory.
    Uefi {
        /// The program.
        code: PathBuf,
        /// Its variables, which it writes to.
        variables: PathBuf,
    },
}

/// A read-only disk that is mapped into memory: the one with QEMU for inner guests, for instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryDisk {
    /// The image file.
    pub image: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

/// What differs between the QEMU binaries that can run a rig.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// `amd-iommu` has `dma-remap`. Without it the device does not translate for VFIO.
    pub amd_dma_remap: bool,
}

/// Returns QEMU's arguments for a rig.
///
/// The channel to the program inside is QEMU's standard input and output, which is the second
/// serial port there: it adds no PCI function to those of the rig.
pub fn arguments(rig: &Rig, parts: &Parts) -> Vec<OsString> {
    let mut line = Line::default();
    line.pair("-name", format!("kireji-rig-{}", rig.name));
    line.one("-nodefaults").one("-no-user-config");
    line.pair("-display", "none");
    machine(&mut line, rig, parts);
    match &parts.start {
        Start::Kernel { image, initramfs } => {
            line.one("-no-reboot");
            line.pair("-kernel", image).pair("-initrd", initramfs);
            line.pair("-append", command_line(rig));
        }
        Start::Disk { image, firmware } => disk(&mut line, image, firmware),
    }
    line.pair("-chardev", with_path("file,id=console,path=", &parts.console));
    line.pair("-serial", "chardev:console");
    line.pair("-chardev", "stdio,id=channel,signal=off").pair("-serial", "chardev:channel");
    if let Some(iommu) = iommu(rig, parts.abilities) {
        line.pair("-device", iommu);
    }
    for (number, bridge) in rig.bridges.iter().enumerate() {
        line.pair("-device", bridge_device(bridge, number));
    }
    let mut disks = parts.disks.iter();
    for (number, card) in rig.cards.iter().enumerate() {
        card_devices(&mut line, card, number, &mut disks);
    }
    line.0
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn one(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.0.push(argument.as_ref().to_owned());
        self
    }

    fn pair(&mut self, option: &str, value: impl AsRef<OsStr>) -> &mut Self {
        self.one(option).one(value)
    }
}

fn machine(line: &mut Line, rig: &Rig, parts: &Parts) {
    let disks = &parts.memory_disks;
    let nvdimm = if disks.is_empty() { "" } else { ",nvdimm=on" };
    // Firmware in flash that is not to be protected from the system needs no SMM.
    let smm = match &parts.start {
        Start::Disk { firmware: Firmware::Uefi { .. }, .. } => ",smm=off",
        _ => "",
    };
    // VT-d remaps interrupts only when QEMU has the I/O APIC (QEMU, docs on intel-iommu).
    line.pair("-machine", format!("q35,kernel-irqchip=split{nvdimm}{smm}"));
    line.pair("-accel", if parts.kvm { "kvm" } else { "tcg,thread=multi" });
    line.pair("-cpu", if parts.kvm { "host" } else { "max" });
    line.pair("-smp", rig.cpus.to_string());
    if disks.is_empty() {
        line.pair("-m", format!("{}M", rig.memory_mib));
        return;
    }
    // NVDIMMs, because a disk controller would be one more PCI function in the rig.
    let room: u64 = disks.iter().map(|disk| disk.size.div_ceil(1 << 20) + 1024).sum();
    let most = u64::from(rig.memory_mib) + room;
    line.pair("-m", format!("{}M,slots={},maxmem={most}M", rig.memory_mib, disks.len()));
    for (number, disk) in disks.iter().enumerate() {
        let name = format!("memory{number}");
        let object = format!("memory-backend-file,id={name},share=on,readonly=on,mem-path=");
        let mut object = with_path(&object, &disk.image);
        object.push(format!(",size={}", disk.size));
        line.pair("-object", object);
        line.pair("-device", format!("nvdimm,memdev={name},unarmed=on"));
    }
}

/// Where the system's own disk is, out of the way of the cards.
const SYSTEM_DISK: &str = "1e.0";

fn disk(line: &mut Line, image: &Path, firmware: &Firmware) {
    if let Firmware::Uefi { code, variables } = firmware {
        let code = with_path("if=pflash,format=raw,unit=0,readonly=on,file=", code);
        line.pair("-drive", code);
        line.pair("-drive", with_path("if=pflash,format=raw,unit=1,file=", variables));
    }
    // The overlay goes with the rig, so nothing is lost with the host's power that is wanted.
    let node = "driver=qcow2,node-name=system,discard=unmap,cache.no-flush=on,\
                file.driver=file,file.cache.no-flush=on,file.filename=";
    line.pair("-blockdev", with_path(node, image));
    let device = format!("virtio-blk-pci,drive=system,bus=pcie.0,addr={SYSTEM_DISK},bootindex=0");
    line.pair("-device", device);
}

fn command_line(rig: &Rig) -> String {
    // The kernel's test of the timer counts ticks during a delay, and panics where a busy host has
    // starved QEMU meanwhile (arch/x86/kernel/apic/io_apic.c, timer_irq_works).
    let mut words = vec!["console=ttyS0", "panic=-1", "no_timer_check", "rdinit=/init"];
    words.extend(rig.kernel_arguments.iter().map(String::as_str));
    words.join(" ")
}

fn iommu(rig: &Rig, abilities: Abilities) -> Option<String> {
    let remapping = switch(rig.interrupt_remapping);
    match rig.iommu {
        Iommu::Intel => Some(format!("intel-iommu,intremap={remapping},caching-mode=on")),
        Iommu::Amd => {
            let translate = if abilities.amd_dma_remap { ",dma-remap=on" } else { "" };
            Some(format!("amd-iommu,intremap={remapping}{translate}"))
        }
        Iommu::None => None,
    }
}

fn bridge_device(bridge: &Bridge, number: usize) -> String {
    // `ioh3420` is QEMU's root port without the ACS capability.
    let device = match bridge.kind {
        BridgeKind::RootPort if bridge.acs => "pcie-root-port",
        BridgeKind::RootPort => "ioh3420",
        BridgeKind::PcieToPci => "pcie-pci-bridge",
        BridgeKind::UpstreamPort => "x3130-upstream",
        BridgeKind::DownstreamPort => "xio3130-downstream",
    };
    let mut text = format!("{device},id={}", bridge.name);
    place(&mut text, bridge.behind.as_deref(), bridge.address);
    if matches!(bridge.kind, BridgeKind::RootPort | BridgeKind::DownstreamPort) {
        // Slots need numbers of their own, or QEMU refuses the second.
        text.push_str(&format!(",chassis={},slot={}", number + 1, number + 1));
    }
    text
}

fn card_devices<'a>(
    line: &mut Line,
    card: &Card,
    number: usize,
    disks: &mut impl Iterator<Item = &'a PathBuf>,
) {
    let backend = Device::named(&card.device).map_or(Backend::None, |device| device.backend);
    let mut text = format!("{},id=card{number}", card.device);
    place(&mut text, card.behind.as_deref(), card.address);
    if card.multifunction {
        text.push_str(",multifunction=on");
    }
    let disk = match backend {
        Backend::Disk | Backend::Port(_) => disks.next(),
        Backend::None | Backend::Network => None,
    };
    if let Some(file) = disk {
        let node = format!("driver=raw,node-name=disk{number},file.driver=file,file.filename=");
        line.pair("-blockdev", with_path(&node, file));
    }
    match backend {
        Backend::Network => {
            line.pair("-netdev", format!("user,id=net{number}"));
            // Locally administered addresses, in the order of the cards.
            text.push_str(&format!(",netdev=net{number},mac=52:54:00:6b:72:{number:02x}"));
        }
        Backend::Disk => text.push_str(&format!(",drive=disk{number}")),
        Backend::None | Backend::Port(_) => {}
    }
    if card.device == "nvme" {
        text.push_str(&format!(",serial=kireji{number}"));
    }
    for (key, value) in &card.options {
        text.push_str(&format!(",{key}={}", option(value)));
    }
    line.pair("-device", text);
    if let (Backend::Port(device), Some(_)) = (backend, disk) {
        line.pair("-device", format!("{device},bus=card{number}.0,drive=disk{number}"));
    }
}

fn place(text: &mut String, behind: Option<&str>, address: Option<Slot>) {
    text.push_str(&format!(",bus={}", behind.unwrap_or("pcie.0")));
    text.push_str(&format!(",addr={}", address.unwrap_or_default()));
}

fn option(value: &Value) -> String {
    match value {
        Value::Switch(on) => switch(*on).to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.replace(',', ",,"),
    }
}

fn switch(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// Appends a path to an option, each of its commas doubled, as QEMU's option parser wants it.
fn with_path(option: &str, path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = option.as_bytes().to_vec();
    for byte in path.as_os_str().as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(b',');
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::SHIPPED;

    fn parts(rig: &Rig) -> Parts {
        let disk = |card: &Card| Device::named(&card.device).is_some_and(Device::has_disk);
        let disks = (0..rig.cards.iter().filter(|card| disk(card)).count())
            .map(|number| format!("/run/rig/disk{number}").into())
            .collect();
        let tools = MemoryDisk { image: "/cache/tools.img".into(), size: 420 << 20 };
        Parts {
            start: Start::Kernel {
                image: "/boot/vmlinuz".into(),
                initramfs: "/run/rig/initramfs".into(),
            },
            console: "/run/rig/console.log".into(),
            memory_disks: rig.qemu.then_some(tools).into_iter().collect(),
            disks,
            abilities: Abilities { amd_dma_remap: true },
            kvm: false,
        }
    }

    fn lines(rig: &Rig, parts: &Parts) -> String {
        let arguments = arguments(rig, parts);
        arguments.iter().map(|argument| format!("{}\n", argument.to_string_lossy())).collect()
    }

    #[test]
    fn shipped_rigs() {
        for shipped in SHIPPED {
            let rig = Rig::parse(shipped.name, shipped.text).unwrap();
            insta::assert_snapshot!(shipped.name, lines(&rig, &parts(&rig)));
        }
    }

    #[test]
    fn an_amd_iommu_without_dma_remap_and_kvm() {
        let text = SHIPPED.iter().find(|rig| rig.name == "amd").unwrap().text;
        let rig = Rig::parse("amd", text).unwrap();
        let parts = Parts { abilities: Abilities::default(), kvm: true, ..parts(&rig) };
        let lines = lines(&rig, &parts);
        assert!(lines.contains("\namd-iommu,intremap=on\n"), "{lines}");
        assert!(lines.contains("-accel\nkvm\n-cpu\nhost\n"), "{lines}");
    }

    #[test]
    fn a_rig_that_starts_from_its_disk() {
        let text = SHIPPED.iter().find(|rig| rig.name == "twins").unwrap().text;
        let rig = Rig::parse("twins", text).unwrap();
        let firmware = Firmware::Uefi {
            code: "/cache/OVMF_CODE_4M.fd".into(),
            variables: "/run/rig/variables".into(),
        };
        let start = Start::Disk { image: "/run/rig/system.qcow2".into(), firmware };
        let disk = |name: &str| MemoryDisk { image: name.into(), size: 4 << 20 };
        let memory_disks = vec![disk("/cache/tools.img"), disk("/run/rig/payload.img")];
        let parts = Parts { start, memory_disks, ..parts(&rig) };
        insta::assert_snapshot!(lines(&rig, &parts));
    }

    #[test]
    fn options_and_commas_are_kept_whole() {
        let text = "description = \"x\"\niommu = \"none\"\n[[card]]\ndevice = \"edu\"\n\
                    address = \"04.0\"\noptions = { dma_mask = 268435455, x = \"a,b\", y = true }";
        let rig = Rig::parse("mine", text).unwrap();
        let mut parts = parts(&rig);
        parts.console = "/tmp/a,b/console".into();
        let lines = lines(&rig, &parts);
        assert!(lines.contains("edu,id=card0,bus=pcie.0,addr=04.0,dma_mask=268435455,x=a,,b,y=on"));
        assert!(lines.contains("file,id=console,path=/tmp/a,,b/console"));
    }
}
