//! The cases with a guest that only speaks like Haiku: that the suite itself is right.

use testkit::fake_guest::{self, Script};
use testkit::trace::{self, Cause};
use testkit::{binutils, image};

use super::cases::COUNT;
use super::*;

const BOOT: &str = "Welcome to the Haiku boot loader!\r\nWelcome to kernel debugger output!\r\n\
    PCI: [dom 0, bus  0] bus   0, device  2, function  0: vendor 1234, device 11e8, revision 10\r\n\
    PCI:   base reg 0: host c1000000, pci c1000000, size 00100000, flags 00\r\n\
    Mounted boot partition: /dev/disk/scsi/0/5/0/1\r\n";
const ADD_ONS: &str = "/boot/home/config/non-packaged/add-ons/kernel/drivers";
const OTHER: &str = "loaded driver /boot/system/add-ons/kernel/drivers/dev/misc/mem\r\n";

/// What the driver and the kernel say when it takes the card.
fn taken(driver: &str) -> String {
    let claim = format!("{driver}: the card at 00:02.0, registers at 0xc1000000\r\n");
    let loaded = match driver {
        "edu_legacy" => format!("loaded driver {ADD_ONS}/dev/misc/edu_legacy\r\n"),
        _ => "publish device: node 0xffffffff8f2a3b80, path misc/edu_driver, module \
              drivers/misc/edu_driver/device_v1\r\n"
            .to_owned(),
    };
    format!("{BOOT}{claim}{loaded}")
}

/// How the guest plays each case, in their order.
fn scripts(drivers: &Path) -> [Script; COUNT] {
    let card = std::fs::read_to_string(process::workspace().join("examples/edu/card.h")).unwrap();
    let code = |driver: &str, line: &str| {
        let numbered = (1..).zip(card.lines()).filter(|(_, found)| found.trim() == line);
        let (last, _) = numbered.last().unwrap();
        binutils::code_of(&drivers.join(driver), "card.h", last).pop().unwrap()
    };
    let said = |driver: &str, more: &str| Script::default().say(&(taken(driver) + more));
    let works = || said("edu_legacy", "");
    let panics = |driver: &str, cause: Cause<'_>, line: &str| {
        let path = match driver {
            "edu_legacy" => format!("{ADD_ONS}/bin/edu_legacy"),
            _ => format!("{ADD_ONS}/misc/edu_driver"),
        };
        let code = code(driver, line);
        let at = if matches!(cause, Cause::Call(_)) { code.end } else { code.start };
        trace::panic(cause, &path, at, trace::END)
    };
    let crash = |driver: &str, cause: Cause<'_>, line: &str| {
        said(driver, &panics(driver, cause, line)).debugger("")
    };
    let null = "registers->unused[1] = 42;";
    let lock = "acquire_spinlock(&card->lock);";
    let twice = "acquire_spinlock: attempt to acquire lock 0xffffffff816514c4 twice on non-SMP \
                 system (value 1)";
    let assertion = "ASSERT(card->registers->identification == 0);";
    let failed = "ASSERT FAILED (card.h:126): card->registers->identification == 0";
    let nmi = panics("edu_legacy", Cause::Interrupt, "__asm__ volatile(\"pause\");");
    [
        works(),
        said("edu_driver", "").test_script(0, "edu_driver\n"),
        works().test_script(0, "010000ed 00375f00\n"),
        works(),
        works(),
        works().test_script(3, "no\n"),
        works().shut_down(),
        Script::default(),
        Script::default().say(&format!("{BOOT}{OTHER}")).shut_down(),
        crash("edu_legacy", Cause::PageFault, null),
        crash("edu_driver", Cause::PageFault, null),
        crash("edu_legacy", Cause::Call(failed), assertion),
        crash("edu_legacy", Cause::Call(twice), lock),
        works().await_interrupt().say(&nmi).debugger(""),
        works().reset(),
        Script::default().say(&genuine("k_noboot")).debugger(""),
        works(),
    ]
}

fn genuine(name: &str) -> String {
    let path = process::workspace().join(format!("crates/haiku/fixtures/serial/{name}.log.zst"));
    let bytes = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn the_suite_passes_with_a_guest_that_speaks_like_haiku_and_fails_with_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("haiku.image");
    let state = directory.path().join("state");
    let suite = Suite { idle: "1", ..Suite::build(&Report::new(), path, state).unwrap() };
    image::volume(&suite.kireji, &suite.image, "12M");
    let log = directory.path().join("syslog");
    std::fs::write(&log, "hello").unwrap();
    for words in [
        ["mkdir", "--parents", "IMAGE", "system/var/log"],
        ["put", "IMAGE", log.to_str().unwrap(), "system/var/log/syslog"],
    ] {
        let image = suite.image.to_str().unwrap();
        let words = words.map(|word| if word == "IMAGE" { image } else { word });
        process::run(Command::new(&suite.kireji).arg("image").args(words)).unwrap();
    }
    let fake = fake_guest::program(&suite.kireji);
    let play = |script: &Script, case: &Case| {
        suite.run(case, script.command(&suite.kireji, fake, directory.path()))
    };
    let scripts = scripts(&suite.drivers);
    for (case, script) in CASES.iter().zip(&scripts) {
        play(script, case).unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
    }
    // Each of the panics, told in the place of another.
    let panics: Vec<_> = (0..COUNT).filter(|at| CASES[*at].guilty.is_some()).collect();
    for pair in panics.windows(2) {
        play(&scripts[pair[0]], &CASES[pair[1]]).unwrap_err();
    }
    assert!(panics.len() >= 5);
}
