//! Every planned machine is made by a real QEMU, and its functions sit where they were planned.
//!
//! What this host has not got is replaced where it stands in the command line, after planning:
//! a passed function by one of QEMU's own of the same shape (an `e1000e` on a link, an `edu` on a
//! conventional bus), KVM by translation, windows, sound, input devices and iommufd by nothing.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cases::Case;
use guest::machine::{Accelerator, Boot, Display, Machine, Network, plan};
use guest::process::Supervision;
use guest::qemu::{DiskFormat, Firmware};
use host::Sysroot;
use testkit::image::{self, Then};

/// How long the firmware may take to number the buses.
const LIMIT: Duration = Duration::from_secs(120);

/// Puts files that exist, and back ends that this QEMU has, in place of those of the case.
fn adapt(case: &mut Case, directory: &Path) {
    let request = &mut case.request;
    case.qemu = crate::common::capabilities().clone();
    if !case.qemu.has_iommufd() {
        for function in request.cards.iter_mut().flat_map(|card| &mut card.functions) {
            function.character_device = None;
        }
    }
    case.qemu.vfio_properties.extend(["x-vga".into()]);
    request.display = Display::None;
    request.inputs.clear();
    request.emulated.retain(|device| case.qemu.is_pci(&device.model));
    if request.accelerator == Accelerator::Qtest && !case.qemu.accelerators.contains("qtest") {
        // Debian 12 does not ship this part of QEMU.
        request.extra.clear();
        request.accelerator = Accelerator::Tcg;
    }
    if request.accelerator == Accelerator::Kvm {
        request.accelerator = Accelerator::Tcg;
    }
    if request.sound {
        case.qemu.audiodevs = ["oss".to_owned()].into();
    }
    if case.firmware.uefi.is_some() {
        case.firmware = Firmware::find(&Sysroot::host().unwrap()).unwrap();
        assert!(case.firmware.uefi.is_some(), "this host has UEFI firmware");
    }
    if let Network::User { forwards } = &mut request.network {
        forwards[0].host = 0;
        forwards[1].host = 0;
    }
    match &mut request.boot {
        Boot::Disk(disk) => {
            if disk.offset != 0 {
                disk.file = directory.join("flat.vmdk");
                std::fs::write(&disk.file, vec![0; 1 << 20]).unwrap();
            } else {
                disk.file = directory.join(disk.file.file_name().unwrap());
                image::write_bare(&disk.file, "", Then::Halt);
                disk.format = DiskFormat::Raw;
            }
        }
        Boot::Kernel { kernel, initrd, .. } => {
            // Enough of a kernel for QEMU to load (Documentation/arch/x86/boot.rst, "Real-mode
            // kernel header"): the magic numbers, a version of the protocol and nothing to run.
            let mut image = vec![0; 4096];
            image[0x1f1] = 1;
            image[0x1fe..0x206].copy_from_slice(b"\x55\xaa\xeb\x66HdrS");
            image[0x206..0x208].copy_from_slice(&0x020c_u16.to_le_bytes());
            image[0x22c..0x230].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
            std::fs::write(kernel, image).unwrap();
            std::fs::write(initrd, b"").unwrap();
        }
    }
}

/// Puts emulated devices in place of passed functions.
fn stand_in(machine: &mut Machine) {
    let model = |value: &str| if value.contains("bus=bridge1") { "edu" } else { "e1000e" };
    for argument in &mut machine.arguments {
        let text = argument.to_str().unwrap();
        if let Some(properties) = text.strip_prefix("vfio-pci,") {
            let kept = properties.split(',').filter(|property| {
                let name = property.split('=').next().unwrap();
                ["id", "bus", "addr", "multifunction", "rombar"].contains(&name)
            });
            let kept: Vec<&str> = kept.collect();
            *argument = OsString::from(format!("{},{}", model(text), kept.join(",")));
        } else if text.starts_with("oss,") {
            *argument = OsString::from("none,id=audio0");
        }
    }
}

fn check(mut case: Case, directory: &Path) -> Result<Duration, String> {
    let began = Instant::now();
    adapt(&mut case, directory);
    let mut machine = plan(&case.request, &case.qemu, &case.firmware).map_err(|e| e.to_string())?;
    assert!(machine.topology.functions().len() > 1);
    stand_in(&mut machine);
    let run = crate::common::run_directory(&directory.join("runs"));
    let qemu = crate::common::start(&machine, &run);
    let control = qemu.control();
    let is_qtest = case.request.accelerator == Accelerator::Qtest;
    let topology = machine.topology.clone();
    let asking = thread::spawn(move || {
        let deadline = Instant::now() + LIMIT;
        let result = match control.query_status() {
            Ok(status) if status == "running" => Ok(()),
            Ok(status) => Err(format!("not running, but {status}")),
            Err(error) => Err(error.to_string()),
        };
        let found = result.and_then(|()| {
            loop {
                let answer = control.query_pci().map_err(|error| error.to_string())?;
                match topology.check(&answer) {
                    Ok(()) => break Ok(()),
                    // Without a processor no firmware numbers the buses.
                    Err(error) if is_qtest && error.found.is_none() => break Ok(()),
                    Err(error) if error.found.is_some() || Instant::now() > deadline => {
                        break Err(error.to_string());
                    }
                    Err(_) => thread::sleep(Duration::from_millis(50)),
                }
            }
        });
        drop(control.quit());
        found
    });
    let rules = Supervision { limit: Some(2 * LIMIT), ..Supervision::default() };
    let outcome = qemu.supervise(rules, &mut |_| {}).unwrap();
    let found = asking.join().unwrap();
    found.map_err(|error| format!("{error}; {:?}: {}", outcome.ending, outcome.log))?;
    Ok(began.elapsed())
}

#[test]
fn a_real_qemu_makes_every_machine_as_planned() {
    let dir = tempfile::tempdir().unwrap();
    let count = crate::cases::all(dir.path()).len();
    assert!(count >= 20);
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            let directory = dir.path().join(index.to_string());
            std::fs::create_dir(&directory).unwrap();
            let case = crate::cases::all(&directory).swap_remove(index);
            let name = case.name;
            match check(case, &directory) {
                Ok(took) => eprintln!("{name}: {} ms", took.as_millis()),
                Err(error) => wrong.lock().unwrap().push(format!("{name}: {error}")),
            }
        }
    };
    // Most of the time goes into waiting for the firmware.
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
