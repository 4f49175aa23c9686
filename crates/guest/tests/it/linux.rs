//! The reference guest, booted for real, with QEMU's own devices in place of cards. It needs a
//! provisioned lab (`cargo xtask test` makes one) and fails without it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use guest::guests::Observer as _;
use guest::kernel::Kernel;
use guest::linux::report::{BlockRead, FunctionReport, InterruptKind, SeenFunction, Talk};
use guest::linux::{Nonce, Observer, Outcome, Request, Verdict, Wanted, prepare};
use guest::machine::{self, Accelerator, Display, Emulated, Machine, Network, NewFile, plan};
use guest::process::{Ending, GuestEnd, Qemu, Supervision};
use guest::qemu::Firmware;
use host::Sysroot;
use sha2::{Digest, Sha256};

use crate::common::{capabilities, launch, launcher, run_directory};

const NIC: (&str, &str) = ("e1000e", "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00");
const NVME: (&str, &str) = ("nvme", "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02");
const EDU: (&str, &str) = ("edu", "pci:v00001234d000011E8sv00001AF4sd00001100bc00scFFi00");

/// The provisioned lab, where xtask leaves it.
fn lab() -> PathBuf {
    if let Some(dir) = std::env::var_os("KIREJI_LAB_DIR") {
        return dir.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    cache.unwrap_or_else(home).join("kireji/lab/current")
}

fn kernel(host: &Sysroot) -> Kernel {
    let boot = lab().join("root/boot");
    let images = host.names(&boot).expect("a provisioned lab (cargo xtask test makes one)");
    let image = images.iter().find(|name| name.starts_with("vmlinuz-")).unwrap();
    Kernel::at(host, &boot.join(image)).unwrap()
}

struct Run {
    observer: Observer,
    ending: Ending,
    serial: String,
}

/// Boots the guest with the devices; `disk` is what an emulated disk begins with.
fn run(devices: &[(&str, &str)], program: &Path, disk: &[u8]) -> Run {
    let host = Sysroot::host().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let nonce = Nonce::random(&host).unwrap();
    let functions: Vec<Wanted> = devices
        .iter()
        .map(|(model, modalias)| Wanted {
            name: (*model).to_owned(),
            modalias: (*modalias).to_owned(),
        })
        .collect();
    let request = Request {
        kernel: &kernel(&host),
        program,
        functions: &functions,
        network: true,
        emulated: true,
        nonce: &nonce,
    };
    let boot = prepare(&host, request).unwrap();
    boot.write(dir.path()).unwrap();
    let request = machine::Request {
        name: "linux".into(),
        boot: boot.of(dir.path()),
        memory_mib: boot.memory_mib,
        cpus: 1,
        accelerator: Accelerator::TcgCounted,
        firmware: None,
        cards: vec![],
        emulated: devices
            .iter()
            .map(|(model, _)| Emulated { model: (*model).to_owned(), properties: vec![] })
            .collect(),
        display: Display::None,
        primary_display: false,
        network: if devices.contains(&NIC) {
            Network::User { forwards: vec![] }
        } else {
            Network::None
        },
        sound: false,
        inputs: vec![],
        usb: vec![],
        may_reboot: false,
        extra: vec![],
        directory: dir.path().to_owned(),
    };
    let machine: Machine = plan(&request, capabilities(), &Firmware::default()).unwrap();
    for file in &machine.files {
        let NewFile::Zeros { path, size } = file else { panic!("{file:?}") };
        std::fs::write(path, disk).unwrap();
        std::fs::File::options().write(true).open(path).unwrap().set_len(*size).unwrap();
    }
    let directory = run_directory(&dir.path().join("runs"));
    let started = Instant::now();
    let qemu = Qemu::start(&machine, &launcher(), &launch(), &directory, None, started).unwrap();
    let limit = Some(Duration::from_secs(480));
    let rules = Supervision { limit, ..Supervision::default() };
    let outcome = qemu.supervise(rules, &mut |_| {}).unwrap();
    let serial = std::fs::read(directory.serial_log()).unwrap();
    let mut observer = Observer::new(nonce, devices.len());
    observer.feed(&serial);
    let serial = String::from_utf8_lossy(&serial).into_owned();
    eprintln!("{serial}\n{:?}", started.elapsed());
    Run { observer, ending: outcome.ending, serial }
}

fn first_process() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_test-first-process"))
}

fn seen(report: &FunctionReport) -> &SeenFunction {
    report.seen.as_ref().unwrap()
}

#[test]
fn the_cards_own_drivers_work_in_the_guest() {
    let content: Vec<u8> = (0..96 << 10_u32).map(|n: u32| (n % 251).to_le_bytes()[0]).collect();
    let run = run(&[NIC, NVME, EDU], first_process(), &content);
    assert_eq!(run.observer.verdict(), Verdict::Passed, "{}", run.serial);
    assert_eq!(run.ending, Ending::Guest(GuestEnd::ShutDown));
    let reports: Vec<_> = run.observer.reports().collect();
    let [nic, nvme, edu] = reports[..] else { panic!("{reports:?}") };

    assert_eq!(run.observer.outcome(nic), Outcome::Bound { driver: "e1000e".into() });
    assert_eq!(seen(nic).ids, "8086:10d3");
    let [network] = &seen(nic).networks[..] else { panic!("{nic:?}") };
    assert!(network.carrier && network.sent >= 6 && network.received >= 6, "{network:?}");
    let Talk::Address { address, peer, echoes_received, .. } = &network.talk else {
        panic!("{network:?}")
    };
    assert_eq!((&**address, &**peer, *echoes_received), ("10.0.2.15", "10.0.2.2", 3));
    let received = seen(nic).interrupts.iter().find(|i| i.name.ends_with("-rx-0")).unwrap();
    assert_eq!(received.kind, InterruptKind::MsiX);
    assert!(received.count >= 5, "{received:?}");
    assert!(seen(nic).log.iter().any(|line| line.contains("NIC Link is Up")), "{nic:?}");

    assert_eq!(run.observer.outcome(nvme), Outcome::Bound { driver: "nvme".into() });
    let [block] = &seen(nvme).blocks[..] else { panic!("{nvme:?}") };
    assert_eq!(block.size, 64 << 20);
    let BlockRead::Read { bytes, sha256 } = &block.read else { panic!("{block:?}") };
    assert_eq!(*bytes, 64 << 10);
    let expected = Sha256::digest(&content[..64 << 10]);
    assert_eq!(*sha256, expected.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    assert!(seen(nvme).interrupts.iter().any(|interrupt| interrupt.count > 0), "{nvme:?}");

    assert_eq!(run.observer.outcome(edu), Outcome::NoDriver);
    assert_eq!(seen(edu).ids, "1234:11e8");
}

#[test]
fn a_function_that_is_not_there_is_no_pass() {
    // The plan expects a network card where there is none.
    let run = run(&[(EDU.0, NIC.1)], first_process(), &[]);
    let Verdict::Failed { functions } = run.observer.verdict() else { panic!("{}", run.serial) };
    assert_eq!(functions, [("edu".to_owned(), Outcome::Absent)]);
}
