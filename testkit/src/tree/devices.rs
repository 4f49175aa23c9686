//! What hangs on the functions of a synthetic host: disks, interfaces, screens, keyboards.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};

use super::Tree;

/// Numbers that a block device gets: its own major, and a minor for each.
const BLOCK_MAJOR: u32 = 259;

impl Tree {
    /// Adds a disk of `size` bytes to a function, with a node that reads as zeros.
    pub fn disk(&self, function: &str, name: &str, size: u64) {
        let directory = format!("{}/controller/{name}", self.device(function));
        self.block(&directory, name, size);
        self.write(&format!("{directory}/device/model"), "A disk\n");
        self.write(&format!("{directory}/device/serial"), format!("SERIAL-{name}\n"));
    }

    /// Adds a partition to a disk or another block device.
    pub fn partition(&self, disk: &str, name: &str, size: u64) {
        let directory = self.block_directory(disk);
        self.block(&format!("{directory}/{name}"), name, size);
        self.write(&format!("{directory}/{name}/partition"), "1\n");
    }

    /// Adds a block device that is built on others: of the device mapper with a `label`, or else
    /// of another kind.
    pub fn stacked(&self, name: &str, label: Option<&str>, below: &[&str]) {
        let directory = format!("/sys/devices/virtual/block/{name}");
        self.block(&directory, name, 1 << 20);
        if let Some(label) = label {
            self.write(&format!("{directory}/dm/name"), format!("{label}\n"));
            self.link_text(&format!("/dev/mapper/{label}"), &format!("../{name}"));
        }
        for lower in below {
            let lower_directory = self.block_directory(lower);
            self.link(&format!("{lower_directory}/holders/{name}"), &directory);
            self.link(&format!("{directory}/slaves/{lower}"), &lower_directory);
        }
    }

    /// Adds a disk of an NVMe subsystem that is reached by several controllers.
    pub fn multipath_disk(&self, functions: &[&str], name: &str, size: u64) {
        let subsystem = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0";
        self.block(&format!("{subsystem}/{name}"), name, size);
        self.link(&format!("{subsystem}/{name}/device"), subsystem);
        self.write(&format!("{subsystem}/model"), "A disk of two ports\n");
        self.write(&format!("{subsystem}/serial"), format!("SERIAL-{name}\n"));
        for (number, function) in functions.iter().enumerate() {
            let controller = format!("{}/nvme/nvme{number}", self.device(function));
            let path = format!("nvme0c{number}n1");
            self.link(&format!("{subsystem}/nvme{number}"), &controller);
            self.write(&format!("{controller}/{path}/hidden"), "1\n");
            self.write(&format!("{controller}/{path}/size"), format!("{}\n", size / 512));
            self.link(&format!("/sys/class/block/{path}"), &format!("{controller}/{path}"));
        }
    }

    fn block_directory(&self, name: &str) -> String {
        let target = fs::read_link(self.locate(&format!("/sys/class/block/{name}")));
        let target = target.expect("a block device that was added");
        format!("/sys/{}", target.to_string_lossy().trim_start_matches("../"))
    }

    fn block(&self, directory: &str, name: &str, size: u64) {
        self.directory("/sys/class/block");
        let minor = fs::read_dir(self.locate("/sys/class/block")).expect("a directory").count();
        let number = format!("{BLOCK_MAJOR}:{minor}");
        self.write(&format!("{directory}/dev"), format!("{number}\n"));
        self.write(&format!("{directory}/size"), format!("{}\n", size / 512));
        self.write(&format!("{directory}/hidden"), "0\n");
        self.write(
            &format!("{directory}/uevent"),
            format!("MAJOR={BLOCK_MAJOR}\nMINOR={minor}\nDEVNAME={name}\nDEVTYPE=disk\n"),
        );
        self.directory(&format!("{directory}/holders"));
        self.link(&format!("/sys/class/block/{name}"), directory);
        self.link(&format!("/sys/dev/block/{number}"), directory);
        self.write(&format!("/dev/{name}"), "");
        let node = OpenOptions::new().write(true).open(self.locate(&format!("/dev/{name}")));
        node.and_then(|node| node.set_len(size)).expect("a sparse file");
    }

    /// Returns the major and minor number of a block device, as `259:2`.
    pub fn block_number(&self, name: &str) -> String {
        self.read(&format!("{}/dev", self.block_directory(name))).trim().to_owned()
    }

    /// Writes bytes into the node of a block device.
    pub fn put(&self, name: &str, offset: u64, bytes: &[u8]) {
        let path = self.locate(&format!("/dev/{name}"));
        let mut node = OpenOptions::new().write(true).open(path).expect("a node");
        node.seek(SeekFrom::Start(offset)).expect("a position");
        node.write_all(bytes).expect("the node can be written");
    }

    /// Mounts a device, given by its number (`0:35` for none), and makes the table of swaps known.
    pub fn mount(&self, number: &str, point: &str, file_system: &str, source: &str) {
        let table = "/proc/self/mountinfo";
        let earlier = fs::read_to_string(self.locate(table)).unwrap_or_default();
        let line = format!("30 1 {number} / {point} rw - {file_system} {source} rw\n");
        self.write(table, earlier + &line);
    }

    /// Adds a network interface to a function.
    pub fn interface(&self, function: &str, name: &str, is_up: bool) {
        let directory = format!("{}/net/{name}", self.device(function));
        self.net(&directory, name, is_up);
    }

    /// Adds a bridge, a bond or a VLAN over other interfaces.
    pub fn upper_interface(&self, name: &str, lower: &[&str]) {
        let directory = format!("/sys/devices/virtual/net/{name}");
        self.net(&directory, name, true);
        for lower in lower {
            let target = fs::read_link(self.locate(&format!("/sys/class/net/{lower}")));
            let target = target.expect("an interface that was added");
            let lower = format!("/sys/{}", target.to_string_lossy().trim_start_matches("../"));
            self.link(&format!("{lower}/upper_{name}"), &directory);
            self.link(&format!("{lower}/master"), &directory);
        }
    }

    fn net(&self, directory: &str, name: &str, is_up: bool) {
        self.write(&format!("{directory}/flags"), if is_up { "0x1003\n" } else { "0x1002\n" });
        if is_up {
            self.write(&format!("{directory}/carrier"), "1\n");
        }
        self.link(&format!("/sys/class/net/{name}"), directory);
    }

    /// Adds an IPv4 route: destination, gateway and mask in the order in which they are written.
    pub fn route(&self, interface: &str, destination: [u8; 4], gateway: [u8; 4], mask: [u8; 4]) {
        let table = "/proc/net/route";
        let header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n";
        let earlier = fs::read_to_string(self.locate(table)).unwrap_or_else(|_| header.to_owned());
        let number = |address: [u8; 4]| u32::from_ne_bytes(address);
        let line = format!(
            "{interface}\t{:08X}\t{:08X}\t0003\t0\t0\t0\t{:08X}\t0\t0\t0\n",
            number(destination),
            number(gateway),
            number(mask)
        );
        self.write(table, earlier + &line);
    }

    /// Adds a connector to a function's graphics card, with a screen on it or not.
    pub fn connector(&self, function: &str, card: &str, connector: &str, connected: bool) {
        let directory = format!("{}/drm/{card}", self.device(function));
        self.link(&format!("/sys/class/drm/{card}"), &directory);
        let directory = format!("{directory}/{card}-{connector}");
        let status = if connected { "connected\n" } else { "disconnected\n" };
        self.write(&format!("{directory}/status"), status);
        self.write(&format!("{directory}/edid"), "");
        self.link(&format!("/sys/class/drm/{card}-{connector}"), &directory);
    }

    /// Names the monitor on a connector that was added (VESA E-EDID: a descriptor of type 0xfc).
    pub fn monitor(&self, card: &str, connector: &str, name: &str) {
        let mut edid = vec![0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
        edid.resize(128, 0);
        // Maker, product, and a serial number that no capture may show.
        edid[8..16].copy_from_slice(&[0x10, 0xac, 0xc4, 0xa0, 0x53, 0x45, 0x43, 0x52]);
        edid[72..77].copy_from_slice(&[0, 0, 0, 0xfc, 0]);
        let text = format!("{name}\n");
        edid[77..77 + text.len()].copy_from_slice(text.as_bytes());
        let target = fs::read_link(self.locate(&format!("/sys/class/drm/{card}-{connector}")));
        let target = target.expect("a connector that was added");
        let target = target.to_string_lossy();
        self.write(&format!("/sys/{}/edid", target.trim_start_matches("../")), edid);
    }

    /// Adds a keyboard: to a function's USB bus, or to none.
    pub fn keyboard(&self, function: Option<&str>, name: &str) {
        let table = "/proc/bus/input/devices";
        let earlier = fs::read_to_string(self.locate(table)).unwrap_or_default();
        let place = match function {
            Some(function) => {
                let device = self.device(function).trim_start_matches("/sys").to_owned();
                format!("{device}/usb1/1-1/input/input1")
            }
            None => "/devices/platform/i8042/serio0/input/input0".to_owned(),
        };
        let block = format!(
            "I: Bus=0003\nN: Name=\"{name}\"\nS: Sysfs={place}\nB: EV=120013\n\
             B: KEY=10000 7 ff800000000007ff febeffdff3cfffff fffffffffffffffe\n\n"
        );
        self.write(table, earlier + &block);
    }

    /// Adds a character device of a function, with its node.
    pub fn character(&self, function: &str, number: &str, node: &str) {
        let directory = format!("{}/devices/{}", self.device(function), node.replace('/', "-"));
        self.write(&format!("{directory}/uevent"), format!("DEVNAME={node}\n"));
        self.link(&format!("/sys/dev/char/{number}"), &directory);
        self.write(&format!("/dev/{node}"), "");
    }

    /// Adds a process that has these paths open.
    pub fn process(&self, pid: u32, command: &str, open: &[&str]) {
        self.write(&format!("/proc/{pid}/comm"), format!("{command}\n"));
        self.directory(&format!("/proc/{pid}/fd"));
        for (descriptor, path) in open.iter().enumerate() {
            self.link_text(&format!("/proc/{pid}/fd/{descriptor}"), path);
        }
    }
}
