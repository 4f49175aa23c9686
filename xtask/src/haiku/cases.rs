//! What is run, and what kireji must say of it.

/// One run.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    /// The driver that is put into the image, if any.
    pub driver: Option<&'static str>,
    /// QEMU's card.
    pub card: &'static str,
    pub arguments: &'static [&'static str],
    /// The exit code.
    pub code: i32,
    /// What it must say.
    pub says: &'static str,
    /// Where it panicked, which `kireji backtrace` must find in the log that was kept.
    pub guilty: Option<Guilty>,
}

/// Where a driver panicked.
#[derive(Debug)]
pub struct Guilty {
    /// What the function's name ends with.
    pub function: &'static str,
    /// The line of the source.
    pub line: &'static str,
}

/// A boot whose driver takes the card.
const LEGACY: Case = Case {
    name: "",
    driver: Some("edu_legacy"),
    card: "edu",
    arguments: &[],
    code: 0,
    says: "Passed: edu_legacy was loaded",
    guilty: None,
};

/// What the package system is to leave out of the image: the driver of the disk's controller.
pub const SETTINGS: &str = "Package haiku {\n\tBlockedEntries {\n\t\tadd-ons/kernel/boot/ahci\n\t\t\
                            add-ons/kernel/busses/scsi/ahci\n\t}\n}\n";
/// Where a file with these is put.
const BLOCKED: &str = "packages:/boot/system/settings/packages";

const NULL: &str = "registers->unused[1] = 42;";

/// How many there are.
pub const COUNT: usize = 17;

/// Every verdict that the example drivers can bring about. Not among them are a program that crashes
/// (there is none here that is known to), and what needs a card of the host or another QEMU.
pub const CASES: [Case; COUNT] = [
    Case { name: "the legacy driver takes the card", ..LEGACY },
    Case {
        name: "the new driver takes the card",
        driver: Some("edu_driver"),
        arguments: &["--test", "ls /dev/misc"],
        says: "Passed: edu_driver was loaded",
        ..LEGACY
    },
    Case {
        name: "a test that succeeds comes back with its output",
        arguments: &["--test", "cat /dev/misc/edu_legacy"],
        // The identification (docs/specs/edu.rst of QEMU), and 10!.
        says: "010000ed 00375f00",
        ..LEGACY
    },
    Case {
        name: "a line that comes is success",
        arguments: &["--until", "edu_legacy: the card at"],
        ..LEGACY
    },
    Case {
        name: "a line that means failure is told",
        arguments: &["--fail", "edu_legacy: the card at"],
        code: 20,
        says: "the guest said what means failure",
        ..LEGACY
    },
    Case {
        name: "a test that fails is told",
        arguments: &["--test", "echo no; exit 3"],
        code: 20,
        says: "failed with exit code 3",
        ..LEGACY
    },
    Case {
        name: "a line that never comes proves nothing",
        arguments: &["--until", "never said", "--test", "shutdown"],
        code: 28,
        says: "no line matches",
        ..LEGACY
    },
    Case {
        name: "a driver that the kernel would not load starts nothing",
        driver: Some("edu_rejected"),
        code: 25,
        says: "it has no DT_HASH",
        ..LEGACY
    },
    Case {
        name: "a driver without its card is told",
        card: "pci-testdev",
        arguments: &["--test", "ls /dev/misc; shutdown"],
        code: 25,
        says: "edu_legacy did not take the card",
        ..LEGACY
    },
    Case {
        name: "a null dereference has its source line",
        arguments: &["--test", "echo null > /dev/misc/edu_legacy"],
        code: 21,
        says: "edu_legacy.c:",
        guilty: Some(Guilty { function: "device_write", line: NULL }),
        ..LEGACY
    },
    Case {
        name: "so has one of the new driver",
        driver: Some("edu_driver"),
        arguments: &["--test", "echo null > /dev/misc/edu_driver"],
        code: 21,
        says: "edu_driver.cpp:",
        guilty: Some(Guilty { function: "Edu::Write(void const*, unsigned long*)", line: NULL }),
        ..LEGACY
    },
    Case {
        name: "a failed assertion has its source line",
        arguments: &["--test", "echo assert > /dev/misc/edu_legacy"],
        code: 21,
        says: "edu_legacy.c:",
        guilty: Some(Guilty {
            function: "device_write",
            line: "ASSERT(card->registers->identification == 0);",
        }),
        ..LEGACY
    },
    Case {
        name: "a deadlock has its source line",
        // With several processors the kernel waits for long before it says so.
        arguments: &["--cpus", "1", "--test", "echo deadlock > /dev/misc/edu_legacy"],
        code: 21,
        says: "edu_legacy.c:",
        guilty: Some(Guilty { function: "device_write", line: "acquire_spinlock(&card->lock);" }),
        ..LEGACY
    },
    Case {
        name: "a hang is told, and where it is",
        arguments: &[
            "--cpus",
            "1",
            "--until",
            "never said",
            "--test",
            "echo hang > /dev/misc/edu_legacy",
        ],
        code: 22,
        says: "a non-maskable interrupt found the processor in Thread",
        guilty: Some(Guilty { function: "device_write", line: "__asm__ volatile(\"pause\");" }),
        ..LEGACY
    },
    Case {
        name: "a triple fault is told",
        arguments: &["--test", "echo reset > /dev/misc/edu_legacy"],
        code: 23,
        says: "the guest reset the machine",
        ..LEGACY
    },
    Case {
        name: "a boot without its disk's driver is told",
        driver: None,
        arguments: &["--until", "never said", "--put", BLOCKED],
        code: 24,
        says: "found no volume to boot from",
        ..LEGACY
    },
    Case {
        name: "the log of a boot is copied out",
        arguments: &["--get", "/boot/system/var/log/syslog"],
        says: "/boot/system/var/log/syslog ->",
        ..LEGACY
    },
];
