//! QEMU as a process, with guests of a few instructions.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{capabilities, launch, launcher, run_directory};
use guest::Guest;
use guest::door::{self, Door, DoorError, Order};
use guest::guests::{Finding, Goal, Haiku, Sign, Storage};
use guest::launch::{Launch, Step, User};
use guest::machine::{
    Accelerator, Boot, Disk, DiskBus, Display, Forward, Machine, Network, Request, plan,
};
use guest::process::{Ending, Event, GuestEnd, Outcome, Patience, Qemu, Stage, Supervision};
use guest::qemu::{DiskFormat, Firmware};
use guest::qmp::QmpError;
use guest::rundir::RunDirectory;
use haiku::image::{Boots, Container, Image};
use host::{Owner, Sysroot};
use testkit::image::{self, Then};

/// What a test waits for at most, on a busy host too.
const SOON: Duration = Duration::from_secs(60);

/// Ends a guest that a failed test would leave running.
fn rules<'a>() -> Supervision<'a> {
    Supervision { limit: Some(2 * SOON), ..Supervision::default() }
}

struct Fixture {
    dir: tempfile::TempDir,
    run: RunDirectory,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let run = run_directory(&dir.path().join("runs"));
    Fixture { dir, run }
}

impl Fixture {
    fn machine(&self, text: &str, then: Then, change: impl FnOnce(&mut Request)) -> Machine {
        let file = self.dir.path().join("disk");
        image::write_bare(&file, text, then);
        let mut request = Request {
            name: "test".into(),
            boot: Boot::Disk(Disk {
                image: file.clone(),
                file,
                format: DiskFormat::Raw,
                offset: 0,
                boots: Some(Boots { bios: true, uefi: false }),
                bus: DiskBus::Ahci,
            }),
            memory_mib: 64,
            cpus: 1,
            accelerator: Accelerator::Tcg,
            firmware: None,
            cards: vec![],
            emulated: vec![],
            display: Display::None,
            primary_display: false,
            network: Network::None,
            sound: false,
            inputs: vec![],
            usb: vec![],
            may_reboot: false,
            extra: vec![],
            directory: self.dir.path().to_owned(),
        };
        change(&mut request);
        plan(&request, capabilities(), &Firmware::default()).unwrap()
    }

    fn start(&self, machine: &Machine, launch: &Launch) -> Qemu {
        Qemu::start(machine, &launcher(), launch, &self.run, None, Instant::now()).unwrap()
    }

    fn run(&self, machine: &Machine, rules: Supervision<'_>) -> (Outcome, Vec<Event>) {
        let mut events = Vec::new();
        let outcome = self
            .start(machine, &launch())
            .supervise(rules, &mut |event| events.push(event))
            .unwrap();
        (outcome, events)
    }

    fn serial(&self) -> String {
        String::from_utf8(std::fs::read(self.run.serial_log()).unwrap()).unwrap()
    }
}

fn how(events: &[Event]) -> Vec<&str> {
    let how = |event: &Event| match event {
        Event::Stopping { how, .. } => Some(*how),
        _ => None,
    };
    events.iter().filter_map(how).collect()
}

#[test]
fn a_guest_that_shuts_down_ends_the_run() {
    let f = fixture();
    let machine = f.machine("hello\r\n", Then::PowerOff, |_| {});
    let (outcome, events) = f.run(&machine, rules());
    assert_eq!(outcome.ending, Ending::Guest(GuestEnd::ShutDown), "{}", outcome.log);
    assert!(outcome.status.success());
    assert_eq!(f.serial(), "hello\r\n");
    let stages: Vec<_> = outcome.stages.all().map(|(stage, _)| stage).collect();
    for stage in [Stage::Spawned, Stage::Executed, Stage::Up, Stage::FirstByte, Stage::Ended] {
        assert!(stages.contains(&stage), "{stage:?} in {stages:?}");
    }
    assert!(outcome.stages.at(Stage::Executed) < outcome.stages.at(Stage::Up));
    let told = events.iter().filter(|event| matches!(event, Event::Stage { .. })).count();
    assert_eq!(told, 5);
}

#[test]
fn a_reset_ends_a_run_that_may_not_reboot() {
    let f = fixture();
    let machine = f.machine("once\n", Then::Reset, |_| {});
    let (outcome, _) = f.run(&machine, rules());
    assert_eq!(outcome.ending, Ending::Guest(GuestEnd::Reset));
    assert_eq!(f.serial(), "once\n");
}

/// Runs a guest that is asked to stop as soon as it is up.
fn stopped_when_up(f: &Fixture, machine: &Machine, patience: Patience) -> (Outcome, Vec<Event>) {
    let (mut asking, stop) = UnixStream::pair().unwrap();
    let rules = Supervision { stop: Some(stop.as_fd()), patience, ..rules() };
    let mut events = Vec::new();
    let outcome = f.start(machine, &launch()).supervise(rules, &mut |event| {
        if matches!(event, Event::Stage { stage: Stage::Up, .. }) {
            asking.write_all(b"s").unwrap();
        }
        events.push(event);
    });
    (outcome.unwrap(), events)
}

#[test]
fn a_signal_of_somebody_elses_is_no_end_of_the_guest() {
    let f = fixture();
    let machine = f.machine("up\n", Then::Halt, |_| {});
    let qemu = f.start(&machine, &launch());
    let pid = i32::try_from(qemu.pid()).unwrap();
    let outcome = qemu.supervise(rules(), &mut |event| {
        if matches!(event, Event::Stage { stage: Stage::Up, .. }) {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        }
    });
    assert_eq!(outcome.unwrap().ending, Ending::Killed);
}

#[test]
fn a_stop_is_polite_once_qemu_can_be_spoken_to() {
    let f = fixture();
    let machine = f.machine("up\n", Then::Halt, |_| {});
    let (mut asking, stop) = UnixStream::pair().unwrap();
    asking.write_all(b"s").unwrap();
    let early = Supervision { stop: Some(stop.as_fd()), ..rules() };
    let (outcome, events) = f.run(&machine, early);
    assert_eq!(outcome.ending, Ending::Guest(GuestEnd::Stopped));
    assert_eq!(how(&events), ["SIGTERM"]);

    let (outcome, events) = stopped_when_up(&f, &machine, Patience::default());
    assert_eq!(outcome.ending, Ending::Guest(GuestEnd::Stopped));
    assert_eq!(how(&events), ["quit"]);
    assert!(outcome.status.success());
}

#[test]
fn what_the_guest_says_is_followed_while_it_runs() {
    let f = fixture();
    let text = "Welcome to the Haiku boot loader!\r\nPANIC: of a test\r\nkdebug> ";
    let machine = f.machine(text, Then::Halt, |_| {});
    let haiku = Haiku {
        path: f.dir.path().join("disk"),
        image: Image { container: Container::Raw, content: None, disk_size: 1 << 20 },
        base: None,
        storage: Storage::InPlace,
        login: true,
        bus: DiskBus::Ahci,
        goal: Goal::default(),
    };
    let mut observer = haiku.observer();
    let (mut asking, stop) = UnixStream::pair().unwrap();
    let stop = Some(stop.as_fd());
    let rules = Supervision { stop, observer: Some(&mut *observer), ..rules() };
    let mut signs = Vec::new();
    let outcome = f.start(&machine, &launch()).supervise(rules, &mut |event| {
        if let Event::Sign { sign, .. } = event {
            // Nothing else ends this run.
            if sign == Sign::Debugger {
                asking.write_all(b"s").unwrap();
            }
            signs.push(sign);
        }
    });
    let Ending::Guest(end) = outcome.unwrap().ending else { panic!("{signs:?}") };
    assert_eq!(end, GuestEnd::Stopped);
    let panicked = Sign::Panicked { reason: "of a test".into() };
    assert_eq!(signs, [Sign::Reached { stage: "boot-loader" }, panicked, Sign::Debugger]);
    assert_eq!(observer.judge(end).finding, Finding::Panicked);
}

#[test]
fn a_limit_is_kept() {
    let f = fixture();
    let machine = f.machine("up\n", Then::Halt, |_| {});
    let limit = Some(Duration::from_millis(500));
    let (outcome, events) = f.run(&machine, Supervision { limit, ..rules() });
    assert_eq!(outcome.ending, Ending::Guest(GuestEnd::TimedOut));
    assert_eq!(how(&events).len(), 1);
}

#[test]
fn a_guest_that_ignores_its_power_button_is_ended_all_the_same() {
    let f = fixture();
    let machine = f.machine("up\n", Then::Halt, |_| {});
    let patience = Patience { power_down: Some(Duration::from_millis(300)), quit: SOON };
    let (outcome, events) = stopped_when_up(&f, &machine, patience);
    assert_eq!(how(&events), ["power-down", "quit"]);
    assert_eq!(outcome.ending, Ending::Guest(GuestEnd::Stopped));
}

#[test]
fn a_qemu_that_does_not_react_is_killed() {
    let f = fixture();
    let machine = f.machine("up\n", Then::Halt, |_| {});
    let qemu = f.start(&machine, &launch());
    let (pid, control) = (qemu.pid(), qemu.control());
    let (mut asking, stop) = UnixStream::pair().unwrap();
    let freezing = thread::spawn(move || {
        control.query_status().unwrap();
        let status = Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap();
        assert!(status.success());
        assert!(matches!(
            control.execute("query-status", None, Duration::from_millis(100)),
            Err(QmpError::Silent { .. })
        ));
        asking.write_all(b"s").unwrap();
        asking
    });
    let patience = Patience { power_down: None, quit: Duration::from_millis(300) };
    let mut events = Vec::new();
    let rules = Supervision { stop: Some(stop.as_fd()), patience, ..rules() };
    let outcome = qemu.supervise(rules, &mut |event| events.push(event)).unwrap();
    drop(freezing.join().unwrap());
    assert_eq!(how(&events), ["quit", "SIGTERM", "SIGKILL"]);
    assert!(!outcome.status.success());
}

#[test]
fn several_threads_can_speak_to_it() {
    let f = fixture();
    let machine = f.machine("echo\n", Then::Echo, |request| {
        let forwards = [80, 22].map(|guest| Forward { host: 0, guest }).to_vec();
        request.network = Network::User { forwards };
        request.may_reboot = true;
    });
    let qemu = f.start(&machine, &launch());
    let (control, mut line) = (qemu.control(), qemu.serial_input().unwrap());
    let log = f.run.serial_log();
    let speaking = thread::spawn(move || {
        assert_eq!(control.query_status().unwrap(), "running");
        let wait_for = |wanted: &str| {
            let deadline = Instant::now() + SOON;
            while std::fs::read_to_string(&log).unwrap() != wanted {
                assert!(Instant::now() < deadline, "{:?}", std::fs::read_to_string(&log));
                thread::sleep(Duration::from_millis(10));
            }
        };
        wait_for("echo\n");
        line.write_all(b"x").unwrap();
        wait_for("echo\nx");
        control.inject_nmi().unwrap();
        control.reset().unwrap();
        wait_for("echo\nxecho\n");
        let refused = control.execute("no-such-command", None, SOON).unwrap_err();
        assert!(matches!(refused, QmpError::Refused { .. }), "{refused}");
        drop(control.query_pci().unwrap());
        control.quit().unwrap();
        assert!(matches!(control.query_status(), Err(QmpError::Ended)));
    });
    let mut events = Vec::new();
    let outcome = qemu.supervise(rules(), &mut |event| events.push(event)).unwrap();
    speaking.join().unwrap();
    assert_eq!(outcome.ending, Ending::Guest(GuestEnd::Closed));
    let mut guests: Vec<u16> = Vec::new();
    for event in &events {
        if let Event::Forward { host, guest } = event {
            assert_ne!(*host, 0);
            guests.push(*guest);
        }
    }
    guests.sort_unstable();
    assert_eq!(guests, [22, 80]);
}

#[test]
fn a_guest_is_reached_by_the_door_of_its_run() {
    let f = fixture();
    let machine = f.machine("echo\n", Then::Echo, |request| request.may_reboot = true);
    let qemu = f.start(&machine, &launch());
    let door = Door::open(&f.run, qemu.control(), true).unwrap();
    let (run, log) = (f.run.path().to_owned(), f.run.serial_log());
    let visiting = thread::spawn(move || {
        let deadline = Instant::now() + SOON;
        let wait_for = |wanted: &str| {
            while std::fs::read_to_string(&log).unwrap() != wanted {
                assert!(Instant::now() < deadline, "{:?}", std::fs::read_to_string(&log));
                thread::sleep(Duration::from_millis(10));
            }
        };
        wait_for("echo\n");
        // One who speaks another language, or too much, does no harm.
        for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[b'{'; 1 << 16]] {
            let mut other = UnixStream::connect(run.join("control")).unwrap();
            // It may be shown the door before it has said all.
            drop(other.write_all(nonsense));
        }
        door::order(&run, Order::Nmi).unwrap();
        door::order(&run, Order::Reset).unwrap();
        wait_for("echo\necho\n");
        door::order(&run, Order::Shutdown).unwrap();
        door::order(&run, Order::Quit).unwrap();
    });
    let outcome = qemu.supervise(rules(), &mut |_| {}).unwrap();
    visiting.join().unwrap();
    assert_eq!(outcome.ending, Ending::Guest(GuestEnd::Closed));
    // QEMU is gone, and then the door.
    assert!(matches!(door::order(f.run.path(), Order::Nmi), Err(DoorError::Refused(_))));
    drop(door);
    assert!(matches!(door::order(f.run.path(), Order::Nmi), Err(DoorError::Over { .. })));
    assert!(!f.run.path().join("control").exists());
}

#[test]
fn a_run_that_would_end_with_a_reset_is_not_reset() {
    let f = fixture();
    let machine = f.machine("echo\n", Then::Echo, |_| {});
    let qemu = f.start(&machine, &launch());
    let door = Door::open(&f.run, qemu.control(), false).unwrap();
    let run = f.run.path().to_owned();
    let visiting = thread::spawn(move || {
        let refused = door::order(&run, Order::Reset).unwrap_err();
        door::order(&run, Order::Quit).unwrap();
        refused
    });
    qemu.supervise(rules(), &mut |_| {}).unwrap();
    let refused = visiting.join().unwrap();
    assert_eq!(refused.to_string(), "QEMU does not do it: this run would end with a reset");
    drop(door);
}

#[test]
fn a_disk_that_gets_full_ends_the_run() {
    let f = fixture();
    // What the guest writes is made to fail as it does on a full disk.
    let mut machine = f.machine("writing\n", Then::Write, |_| {});
    for argument in &mut machine.arguments {
        let text = argument.to_str().unwrap();
        if text.starts_with("driver=raw,node-name=disk,") {
            let file = f.dir.path().join("disk");
            *argument = format!(
                "driver=raw,node-name=disk,file.driver=blkdebug,file.image.driver=file,\
                 file.image.filename={},file.inject-error.0.event=none,\
                 file.inject-error.0.iotype=write,file.inject-error.0.errno=28",
                file.display()
            )
            .into();
        }
    }
    let (outcome, events) = f.run(&machine, rules());
    assert_eq!(outcome.ending, Ending::NoSpace, "{}", outcome.log);
    assert_eq!(how(&events), ["quit"]);
}

#[test]
fn a_qemu_that_refuses_its_arguments_says_so_in_its_log() {
    let f = fixture();
    let extra = vec!["-device".into(), "no-such-device".into()];
    let machine = f.machine("", Then::Halt, |request| request.extra = extra);
    let (outcome, _) = f.run(&machine, rules());
    assert_eq!(outcome.ending, Ending::NotStarted);
    assert!(outcome.log.contains("'no-such-device' is not a valid device model name"));
    assert_eq!(outcome.status.code(), Some(1));
}

#[test]
fn what_the_launcher_cannot_do_is_named() {
    let f = fixture();
    let mut machine = f.machine("", Then::Halt, |_| {});
    let fails = |machine: &Machine, launch: &Launch| {
        let outcome = f.start(machine, launch).supervise(rules(), &mut |_| {});
        match outcome.unwrap().ending {
            Ending::NotLaunched(failure) => failure,
            other => panic!("{other:?}"),
        }
    };
    let orphan = Launch { parent: 1, ..launch() };
    assert_eq!(
        fails(&machine, &orphan).to_string(),
        "cannot tie QEMU's life to its parent's: the parent has ended"
    );
    let closed = Launch { open: vec![("/nonexistent".into(), 20)], ..launch() };
    let failure = fails(&machine, &closed);
    assert_eq!((failure.step, failure.errno), (Step::Open("/nonexistent".into()), Some(2)));
    machine.executable = "/nonexistent/qemu".into();
    let failure = fails(&machine, &launch());
    assert_eq!(failure.step, Step::Execute("/nonexistent/qemu".into()));
}

/// Starts a program in QEMU's place and returns what it wrote to the serial line.
fn instead_of_qemu(program: &str, arguments: &[&str], launch: &Launch) -> String {
    let f = fixture();
    let mut machine = f.machine("", Then::Halt, |_| {});
    machine.executable = program.into();
    machine.arguments = arguments.iter().map(Into::into).collect();
    let outcome = f.start(&machine, launch).supervise(rules(), &mut |_| {}).unwrap();
    assert_eq!(outcome.ending, Ending::NotStarted, "{}", outcome.log);
    f.serial()
}

#[test]
fn descriptors_environment_and_limits_reach_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("device");
    std::fs::write(&file, "content").unwrap();
    let launch = Launch {
        open: vec![(file.clone(), 20), (file, 21)],
        environment: [
            ("KIREJI_TEST".to_owned(), Some("value".to_owned())),
            ("PATH".to_owned(), None),
        ]
        .into(),
        locked_memory: Some(65536),
        ..launch()
    };
    assert_eq!(instead_of_qemu("cat", &["/proc/self/fd/21"], &launch), "content");
    let environment = instead_of_qemu("env", &[], &launch);
    assert!(environment.lines().any(|line| line == "KIREJI_TEST=value"));
    assert!(!environment.lines().any(|line| line.starts_with("PATH=")), "{environment}");
    let limits = instead_of_qemu("cat", &["/proc/self/limits"], &launch);
    let line = limits.lines().find(|line| line.starts_with("Max locked memory")).unwrap();
    let soft = line.split_whitespace().nth(3).unwrap();
    assert!(soft == "unlimited" || soft.parse::<u64>().unwrap() >= 65536, "{line}");
}

#[test]
fn root_is_given_up_for_good() {
    if !testkit::only_root::is_root() {
        // Only root can be given up; the launcher's other steps are tested without it.
        return;
    }
    let user = Some(User { uid: 1234, gid: 5678, groups: vec![5678, 91] });
    let status = instead_of_qemu("cat", &["/proc/self/status"], &Launch { user, ..launch() });
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("Uid:"), "1234 1234 1234 1234");
    assert_eq!(field("Gid:"), "5678 5678 5678 5678");
    assert_eq!(field("Groups:"), "91 5678");
    assert_eq!(field("CapEff:"), "0000000000000000");
}

/// A process that starts QEMU's launcher and is then killed.
#[test]
fn qemu_does_not_outlive_its_parent() {
    let user =
        rustix::process::geteuid().is_root().then(|| User { uid: 1234, gid: 5678, groups: vec![] });
    for user in [None, user] {
        let mut parent = Command::new(env!("CARGO_BIN_EXE_test-launcher"))
            .args(["start", "--"])
            .arg(serde_json::to_string(&user).unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = parent.stdout.take().unwrap();
        while !line.ends_with('\n') {
            let mut byte = [0];
            assert_eq!(out.read(&mut byte).unwrap(), 1);
            line.push(char::from(byte[0]));
        }
        let pid = line.trim().parse().unwrap();
        let host = Sysroot::host().unwrap();
        let child = Owner::of(&host, pid).unwrap();
        // It must have passed the point at which it asked to follow its parent.
        let comm = Path::new("/proc").join(pid.to_string()).join("comm");
        let deadline = Instant::now() + SOON;
        while std::fs::read_to_string(&comm).unwrap().trim() != "sleep" {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(5));
        }
        assert!(!child.is_gone(&host).unwrap());
        parent.kill().unwrap();
        parent.wait().unwrap();
        while !child.is_gone(&host).unwrap() {
            assert!(Instant::now() < deadline, "the child lives on");
            thread::sleep(Duration::from_millis(5));
        }
    }
}
