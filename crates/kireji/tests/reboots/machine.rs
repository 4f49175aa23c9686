//! A system on a machine of the lab, as these tests use it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use guest::process::Launcher;
use host::{Sysroot, SystemRunner};
use lab::arguments::Firmware;
use lab::rig::Rig;
use lab::system::{Done, Machine, System};
use lab::tools::Tools;

/// How long a command may take: an emulated processor on a busy machine takes minutes to build an
/// initramfs.
const PATIENCE: Duration = Duration::from_secs(1200);

const KIREJI: &str = env!("CARGO_BIN_EXE_kireji");

/// The program that runs scenarios of the testkit inside.
fn rigtest() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "kireji-testkit", "--bin", "rigtest"])
            .status()
            .expect("cargo runs");
        assert!(built.success(), "rigtest cannot be built");
        Path::new(KIREJI).with_file_name("rigtest")
    })
}

/// Where things are kept that can be made again.
fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || set("HOME").map(|home| home.join(".cache"));
    set("XDG_CACHE_HOME").or_else(home).expect("a cache directory").join("kireji")
}

/// UEFI of the lab, or of the host.
pub fn uefi() -> Firmware {
    let lab = std::env::var_os(lab::tools::LAB_DIR_VARIABLE).map(PathBuf::from);
    let lab = lab.unwrap_or_else(|| cache().join("lab/current")).join("root");
    let roots = [Sysroot::at(&lab), Sysroot::host()];
    let of = |root: &Sysroot| {
        let found = guest::qemu::Firmware::find(root).ok()?.uefi?;
        let (code, variables) = (root.locate(found.code), root.locate(found.variables));
        Some(Firmware::Uefi { code, variables })
    };
    roots.iter().flatten().find_map(of).expect("UEFI for QEMU: `cargo xtask provision`")
}

/// What every machine here has.
const MACHINE: &str = r#"
description = "a machine with an IOMMU and two slots"
iommu = "intel"
memory-mib = 1024
boot-limit-s = 1200
bridge = [
    { name = "port1", kind = "root-port", address = "05.0" },
    { name = "port2", kind = "root-port", address = "06.0" },
]
"#;

/// A machine with these cards.
pub fn rig(cards: &str) -> Rig {
    Rig::parse("system", &format!("{MACHINE}{cards}")).expect("a rig")
}

/// Makes a machine with the system `name`, gives it to `test`, and says how long it all took.
pub fn with_system(name: &str, firmware: &Firmware, test: impl FnOnce(&mut Computer<'_>)) {
    let started = Instant::now();
    let host = Sysroot::host().expect("the host");
    let dir = std::env::var_os(lab::tools::LAB_DIR_VARIABLE).map(PathBuf::from);
    let path = std::env::var_os("PATH");
    let tools = Tools::find(&host, dir.as_deref(), &cache(), path.as_deref());
    let tools = tools.expect("a provisioned lab: `cargo xtask provision`");
    let disk = cache().join("systems").join(name).join("disk.img");
    assert!(disk.exists(), "there is no {}: `cargo xtask provision --systems`", disk.display());
    let launcher = Launcher {
        program: KIREJI.into(),
        arguments: ["internal", "launch"].map(Into::into).to_vec(),
    };
    let payload = [
        (PathBuf::from(KIREJI), "kireji".to_owned()),
        (rigtest().to_owned(), "rigtest".to_owned()),
        (
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reboots/manifest.sh"),
            "manifest".into(),
        ),
    ];
    let system = System {
        tools: &tools,
        launcher: &launcher,
        disk: &disk,
        firmware,
        payload: &payload,
        kvm: false,
    };
    let machine = Machine::new(&SystemRunner, system).expect("a machine");
    let mut computer = Computer { machine, name: name.to_owned(), started };
    test(&mut computer);
    computer.say("all of it is done");
}

/// A machine with a system.
pub struct Computer<'a> {
    machine: Machine<'a>,
    name: String,
    started: Instant,
}

impl Computer<'_> {
    /// Says what happened, and when.
    pub fn say(&self, what: &str) {
        let seconds = self.started.elapsed().as_secs_f32();
        println!("{} {seconds:6.1} s: {what}", self.name);
    }

    /// Switches it on, with the cards of `rig`; where it runs, its power fails first.
    pub fn power_on(&mut self, rig: &Rig) {
        let took = self.machine.power_on(&SystemRunner, rig);
        let took = took.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        self.say(&format!("powered on, up after {:.1} s", took.as_secs_f32()));
    }

    /// Has the system reboot.
    pub fn reboot(&mut self) {
        let took = self.machine.reboot().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        self.say(&format!("rebooted within {:.1} s", took.as_secs_f32()));
    }

    /// Runs a script, however it ends.
    pub fn run(&mut self, script: &str) -> Done {
        let started = Instant::now();
        let script = format!("PATH=/payload:$PATH\ncd /root\n{script}\n");
        let done = self.machine.run(&script, PATIENCE);
        let done = done.unwrap_or_else(|error| {
            let console = self.machine.console();
            let tail: Vec<_> = console.lines().rev().take(20).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            panic!("{}: {error}\n{}", self.name, tail.join("\n"))
        });
        if started.elapsed() > Duration::from_secs(5) {
            let last = script.trim_end().lines().next_back().unwrap_or_default();
            self.say(&format!("`{last}` took {:.1} s", started.elapsed().as_secs_f32()));
        }
        done
    }

    /// Runs a script that succeeds, and returns what it wrote.
    pub fn sh(&mut self, script: &str) -> String {
        let done = self.run(script);
        assert_eq!(done.code, 0, "{}: {script}\n{}{}", self.name, done.out, done.err);
        done.out
    }

    /// Runs the tool, which ends with `code`; returns all that it wrote.
    pub fn kireji(&mut self, words: &str, code: i32) -> String {
        let done = self.run(&format!("kireji {words}"));
        let all = format!("{}{}", done.out, done.err);
        assert_eq!(done.code, code, "{}: kireji {words}\n{all}", self.name);
        all
    }

    /// The driver of a function, or nothing.
    pub fn driver(&mut self, address: &str) -> String {
        let link = format!("/sys/bus/pci/devices/0000:{address}/driver");
        let script = format!("[ -e {link} ] && basename \"$(readlink {link})\" || :");
        self.sh(&script).trim().to_owned()
    }

    /// What the hook has said in this boot.
    pub fn hook(&mut self) -> String {
        self.sh("dmesg | grep 'kireji: ' || :")
    }
}
