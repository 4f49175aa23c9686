//! Frames of what packages have: their names come from the image.

use testkit::trace::{self, Cause};

use super::{BOOT, CLAIM, LOADED, Place, Script, driver, text};

/// A panic of a packaged add-on, as the kernel tells it where it knows no name; the program below it
/// is told by its name alone.
fn panic(offset: u64) -> String {
    let program = 0x1234_5000_u64 + offset;
    let callers = format!(
        "user iframe at 0xffffffff8130f940 (end = 0xffffffff8130ff00)\r\n \
         rip {program:#x}    rbp 0x7fff0000 rflags 0x246\r\n vector: 0x63, error code: 0x0\r\n \
         2 ffffffff8130f940 (+   0) {program:016x}   <libsound.so@0x12345000> <unknown> + {offset:#04x}\r\n",
    );
    trace::panic(
        Cause::PageFault,
        "/boot/system/add-ons/kernel/drivers/bin/sound",
        offset,
        &callers,
    )
}

#[test]
fn a_packaged_add_on_and_a_library_have_their_names() {
    let place = Place::new();
    let bytes = std::fs::read(driver("legacy.so")).unwrap();
    place.install_package("sound", "add-ons/kernel/drivers/bin/sound", &bytes);
    place.install_package("library", "lib/libsound.so", &bytes);
    let listed = std::process::Command::new("nm").arg(driver("legacy.so")).output().unwrap();
    let listed = text(&listed.stdout);
    let line = listed.lines().find(|line| line.ends_with(" t opened")).unwrap();
    let offset = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
    let log = format!("{BOOT}{CLAIM}{LOADED}{}", panic(offset + 1));
    let script = Script::default().say(&log).debugger("");
    let ended = place.run_driver(&script, &["--quiet"]);
    let err = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(21), "{err}");
    assert!(err.contains("unhandled page fault in kernel space at 0x10 in sound: opened"), "{err}");
    assert!(err.contains("sound opened+0x1"), "{err}");
    assert!(err.contains("libsound.so opened+0x1"), "{err}");
    assert!(!err.contains("debug information"), "{err}");
    // The same of the log alone.
    let told = place.kireji(&["backtrace", "--image", &place.path("haiku.image")]);
    assert_eq!(told.status.code(), Some(15), "no kernel: {}", text(&told.stderr));
    let kernel = std::fs::read(driver("kernel.so")).unwrap();
    place.install_package("haiku", "kernel_x86_64", &kernel);
    let told = place.kireji(&["backtrace", "--image", &place.path("haiku.image")]);
    let out = text(&told.stdout);
    assert!(out.contains("in sound: opened"), "{out}{}", text(&told.stderr));
    let bare = place.kireji(&["backtrace"]);
    assert!(!text(&bare.stdout).contains("opened"), "{}", text(&bare.stdout));
}
