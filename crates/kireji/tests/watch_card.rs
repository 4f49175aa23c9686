//! `--watch` with a card of the host: a fake kernel, and a fake guest. It is a program of its own, for
//! it ends itself by a signal as a person would.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod card;

use std::path::Path;
use std::time::{Duration, Instant};

use kireji::Exit;
use rustix::process::{Signal, getpid, kill_process};
use testkit::fake_guest::Script;

/// A card of two functions.
const FUNCTIONS: [&str; 2] = ["0000:00:03.0", "0000:00:03.1"];

/// The card is taken once and given back once, whatever number of its functions was named, and not
/// between the guests. Of its functions, the one that cannot be reset between them is told, once.
#[test]
fn a_card_is_held_from_the_first_round_to_the_last() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let image = path("haiku.image");
    testkit::image::volume(Path::new(env!("CARGO_BIN_EXE_kireji")), image.as_ref(), "12M");
    let kernel = card::host(&FUNCTIONS);
    kernel.tree.write("/proc/sys/kernel/osrelease", "6.12.0\n");
    let resets = format!("{}/reset_method", kernel.tree.device(FUNCTIONS[0]));
    kernel.tree.write(&resets, "flr pm\n");
    let script = Script::default().say("Welcome to the Haiku boot loader!\r\n");
    let (note, log) = (path("note"), path("log"));
    std::fs::write(&note, "one").unwrap();
    let put = format!("{note}:home/note");
    let words = [&image, "--device", FUNCTIONS[0], "--device", FUNCTIONS[1], "--watch"];
    let words = [&words[..], &["--put", &put, "--until", "never", "--reset", "flr"]].concat();
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
            let limited = kernel.tree.read(&resets);
            // Whatever was seen, the other thread is to end.
            kill_process(getpid(), Signal::INT).unwrap();
            assert_eq!(first.unwrap(), ["vfio-pci"; 2]);
            assert_eq!(second.unwrap(), ["vfio-pci"; 2]);
            assert_eq!(limited.trim(), "flr");
        });
        card::run(&kernel, &script, directory.path(), &words, (&mut out, &mut err))
    });
    assert_eq!(code, Exit::Interrupted, "{}", said());
    assert_eq!(drivers(), ["e1000e"; 2], "{}", said());
    assert_eq!(kernel.tree.read(&resets).trim(), "flr pm");
    for address in FUNCTIONS {
        let back = format!("{address} is back on e1000e");
        assert_eq!(said().matches(&back).count(), 1, "{}", said());
    }
    let warnings: Vec<_> =
        said().lines().filter(|line| line.contains("WARNING")).map(str::to_owned).collect();
    let warning = format!(
        "WARNING: the kernel has no way to reset {}: each guest may find what the one before left in it",
        FUNCTIONS[1]
    );
    assert_eq!(warnings, [warning], "{}", said());
}
