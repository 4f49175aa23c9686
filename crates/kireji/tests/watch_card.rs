//! `--watch` with a card of the host: a fake kernel, and a fake guest. It is a program of its own, for
//! it ends itself by a signal as a person would.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod place;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use host::{SystemClock, SystemRunner};
use kireji::cli::Cli;
use kireji::{Context, Exit, Vars};
use place::{Place, fake};
use rustix::process::{Signal, getpid, kill_process};
use testkit::fake_guest::Script;
use testkit::fake_kernel::FakeKernel;
use testkit::tree::{Function, Tree};

/// A card of two functions.
const FUNCTIONS: [&str; 2] = ["0000:00:03.0", "0000:00:03.1"];

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// The card is taken once and given back once, whatever number of its functions was named, and not
/// between the guests.
#[test]
fn a_card_is_held_from_the_first_round_to_the_last() {
    let place = Place::new();
    let mut tree = Tree::new();
    tree.write("/proc/self/mountinfo", "");
    tree.write("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
    tree.write("/dev/vfio/vfio", "");
    for address in FUNCTIONS {
        tree.add(Function::new(address, 0x8086, 0x10d3).class(0x02_0000).group(1).driver("e1000e"));
    }
    let mut kernel = FakeKernel::new(tree);
    FUNCTIONS.iter().for_each(|address| kernel.natural(address, "e1000e"));

    let script = Script::default().say("Welcome to the Haiku boot loader!\r\n");
    let (qemu, launcher) = (place.0.path().join("qemu"), place.0.path().join("launcher"));
    script.command(Path::new("kireji"), &qemu, place.0.path());
    let fake = fake().display();
    write_program(&qemu, &format!("FAKE_GUEST={} exec {fake} \"$@\"", place.path("script.json")));
    // Not everybody who runs this test may lock memory, which the fake QEMU has no need of.
    let unlocked =
        "launch=$(printf %s \"$3\" | sed 's/\"locked_memory\":[0-9]*/\"locked_memory\":null/')";
    let itself = env!("CARGO_BIN_EXE_kireji");
    write_program(
        &launcher,
        &format!("{unlocked}\nshift 3\nexec {itself} internal launch \"$launch\" \"$@\""),
    );
    let (note, log) = (place.path("note"), place.path("log"));
    std::fs::write(&note, "one").unwrap();
    let put = format!("{note}:home/note");
    let (image, capabilities) = (place.path("haiku.image"), place.path("capabilities.json"));
    let words = ["kireji", "run", &image, "--device", FUNCTIONS[0], "--device", FUNCTIONS[1]];
    let more = ["--accel", "tcg", "--memory", "64", "--qemu-caps", &capabilities, "--watch"];
    let goal = ["--put", &put, "--until", "never"];
    let words = [&words[..], &more[..], &goal[..]].concat();
    let vars = Vars {
        is_root: true,
        program: launcher,
        args: words[1..].iter().map(Into::into).collect(),
        state: place.0.path().join("state"),
        cache: place.0.path().join("cache"),
        ..Vars::default()
    };
    let host = kernel.tree.sysroot();
    let drivers = || {
        FUNCTIONS.map(|address| {
            let link = host.locate(format!("/sys/bus/pci/devices/{address}/driver"));
            std::fs::read_link(link).unwrap().file_name().unwrap().to_owned()
        })
    };
    let file = std::fs::File::create(&log).unwrap();
    let (mut out, err) = (file.try_clone().unwrap(), file);
    let mut err = anstream::StripStream::new(err);
    let said = || std::fs::read_to_string(&log).unwrap();
    let code = std::thread::scope(|scope| {
        scope.spawn(|| {
            let wait = |times: usize| {
                let started = Instant::now();
                while said().matches("QEMU starts after").count() < times {
                    if started.elapsed() > Duration::from_secs(120) {
                        return Err(format!("{times}: {}", said()));
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(drivers())
            };
            let first = wait(1);
            std::fs::write(&note, "number two").unwrap();
            let second = wait(2);
            // Whatever was seen, the other thread is to end.
            kill_process(getpid(), Signal::INT).unwrap();
            assert_eq!(first.unwrap(), ["vfio-pci"; 2]);
            assert_eq!(second.unwrap(), ["vfio-pci"; 2]);
        });
        let mut context = Context {
            host: &host,
            writable: true,
            runner: &SystemRunner,
            writer: &kernel,
            clock: &SystemClock,
            vars,
            out: &mut out,
            err: &mut err,
            width: None,
        };
        kireji::run(Cli::try_parse_from(words).unwrap(), &mut context)
    });
    assert_eq!(code, Exit::Interrupted, "{}", said());
    assert_eq!(drivers(), ["e1000e"; 2], "{}", said());
    for address in FUNCTIONS {
        let back = format!("{address} is back on e1000e");
        assert_eq!(said().matches(&back).count(), 1, "{}", said());
    }
}
