//! Logging in to the guest of a run, and copying: a fake guest runs, and a genuine sshd stands for
//! the one in it, with the very files that the run put into the guest's disk.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod place;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bfs::{Options, Volume, Window};
use haiku::image::Disk;
use haiku::login::PORT;
use place::{Place, fake, text};
use testkit::fake_guest::Script;

const FILES: [(&str, u32); 5] = [
    ("system/settings/kireji-sshd/sshd_config", 0o600),
    ("system/settings/kireji-sshd/authorized_keys", 0o600),
    ("system/settings/kireji-sshd/host_key", 0o600),
    ("system/settings/kireji-sshd/start", 0o755),
    ("system/settings/launch/kireji-sshd", 0o644),
];

/// How long something may take on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// A listener where QEMU's would be: it takes every connection, and once the guest is up it hands
/// them to sshd.
struct Door {
    port: u16,
    is_up: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    fn open(files: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_up, is_over) = (Arc::default(), Arc::default());
        let (up, over) = (Arc::clone(&is_up), Arc::<AtomicBool>::clone(&is_over));
        let configuration = files.join("sshd_config");
        let serve = move || {
            while let Ok((stream, _)) = listener.accept() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                if !AtomicBool::load(&up, Ordering::Acquire) {
                    continue;
                }
                let socket = OwnedFd::from(stream);
                let mut sshd = Command::new("/usr/sbin/sshd")
                    .arg("-i")
                    .arg("-f")
                    .arg(&configuration)
                    .stdin(socket.try_clone().unwrap())
                    .stdout(socket)
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("sshd, which `cargo xtask ci` installs");
                std::thread::spawn(move || sshd.wait());
            }
        };
        Self { port, is_up, is_over, thread: Some(std::thread::spawn(serve)) }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        drop(std::net::TcpStream::connect(("127.0.0.1", self.port)));
        drop(self.thread.take().unwrap().join());
    }
}

/// A run of a fake guest that goes on, with an image that has as much of Haiku as matters.
struct Running {
    place: Place,
    child: Child,
    door: Door,
}

/// The name of the user who runs the test, as whom sshd lets in.
fn me() -> String {
    text(&Command::new("id").arg("-un").output().unwrap().stdout).trim().to_owned()
}

fn haiku() -> Place {
    let place = Place::new();
    let image = place.path("haiku.image");
    std::fs::write(place.path("passwd"), format!("{}:x:0:0:::\n", me())).unwrap();
    for args in [
        &["image", "mkdir", "--parents", &image, "system/packages"][..],
        &["image", "mkdir", "--parents", &image, "system/settings/etc"],
        &["image", "put", &image, &place.path("passwd"), "system/settings/etc/passwd"],
    ] {
        let done = place.kireji(args);
        assert!(done.status.success(), "{args:?}: {}", text(&done.stderr));
    }
    place
}

impl Running {
    fn start() -> Self {
        let place = haiku();
        let files = PathBuf::from(place.path("sshd"));
        std::fs::DirBuilder::new().mode(0o700).create(&files).unwrap();
        let door = Door::open(&files);
        let script = Script::default().forward(door.port, PORT).say("Welcome\r\n");
        let mut command =
            script.command(Path::new(env!("CARGO_BIN_EXE_kireji")), fake(), place.0.path());
        command.arg(place.path("haiku.image"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let running = Self { place, child, door };
        running.wait_for("ssh_config");
        running
    }

    /// The run's directory.
    fn directory(&self) -> PathBuf {
        let mut runs = std::fs::read_dir(self.place.path("state/kireji/runs")).unwrap();
        runs.next().unwrap().unwrap().path()
    }

    fn wait_for(&self, name: &str) {
        let started = Instant::now();
        let is_there = || {
            Path::new(&self.place.path("state/kireji/runs")).exists()
                && self.directory().join(name).exists()
        };
        while !is_there() {
            assert!(started.elapsed() < LONG, "{name} does not come");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Takes the server's files out of the guest's disk, and lets it answer.
    fn boot(&self) {
        // The directory of privileged processes, which the package's service makes (sshd(8)).
        if rustix::process::geteuid().is_root() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        for (path, mode) in FILES {
            let (content, found) = self.of_disk(path);
            assert_eq!(found, mode, "{path}");
            let name = path.rsplit('/').next().unwrap();
            let files = self.place.path("sshd");
            let content = String::from_utf8(content).unwrap();
            let content = content.replace("/boot/system/settings/kireji-sshd", &files);
            std::fs::write(format!("{files}/{name}"), content).unwrap();
            let only_mine = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(format!("{files}/{name}"), only_mine).unwrap();
        }
        self.door.is_up.store(true, Ordering::Release);
    }

    /// What a file of the guest's disk holds, and its mode.
    fn of_disk(&self, path: &str) -> (Vec<u8>, u32) {
        let disk = Disk::open(&self.directory().join("overlay.qcow2")).unwrap();
        let place = disk.find_volume(None).unwrap();
        let window = Window::new(disk, place.start, place.size).unwrap();
        let mut volume = Volume::open(window, &Options::default()).unwrap();
        let node = volume.lookup(path.as_bytes()).unwrap();
        let metadata = volume.metadata(node).unwrap();
        assert_eq!((metadata.uid, metadata.gid), (0, 0), "{path}");
        let mut bytes = vec![0; usize::try_from(metadata.size).unwrap()];
        assert_eq!(volume.read(node, 0, &mut bytes).unwrap(), bytes.len());
        (bytes, metadata.permissions)
    }

    /// Gives the server another key, in the place of the file `name`.
    fn other_key(&self, name: &str, public: bool) {
        let file = PathBuf::from(self.place.path("other"));
        drop(std::fs::remove_file(&file));
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&file)
            .status();
        assert!(made.unwrap().success());
        let from = if public { file.with_extension("pub") } else { file };
        std::fs::write(format!("{}/{name}", self.place.path("sshd")), std::fs::read(from).unwrap())
            .unwrap();
    }

    fn kireji(&self, args: &[&str]) -> Output {
        self.place.kireji(args)
    }

    /// Ends the run; nothing is left of its key.
    fn end(mut self) -> Place {
        let run = self.directory();
        let key = run.join("ssh_key");
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!run.join("ssh_host_key").exists(), "the host's key is the guest's alone");
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.child.wait().unwrap();
        assert!(!key.exists(), "the key outlives the run");
        self.place
    }
}

#[test]
fn commands_and_files_pass_with_the_key_of_the_run_and_with_no_other() {
    let running = Running::start();
    // It boots: connections are taken, and nobody speaks.
    let early = running.kireji(&["ssh", "--wait", "1", "--", "true"]);
    let err = text(&early.stderr);
    assert_eq!(early.status.code(), Some(11), "{err}");
    assert!(err.contains("did not answer within 1 s") && err.contains("kireji log"), "{err}");

    running.boot();
    let told = running.kireji(&["ssh", "--", "echo hello; cat >&2 /dev/null; exit 7"]);
    assert_eq!(text(&told.stdout), "hello\n", "{}", text(&told.stderr));
    assert_eq!(told.status.code(), Some(7));
    // By name, and the words are the guest's shell's.
    let id = running.directory().file_name().unwrap().to_string_lossy().into_owned();
    let told = running.kireji(&["ssh", &id[..15], "--", "echo", "a  b", "-n"]);
    assert_eq!(text(&told.stdout), "a b -n\n", "{}", text(&told.stderr));

    let (here, back) = (running.place.path("a file"), running.place.path("back"));
    let there = running.place.path("there");
    std::fs::write(&here, "content").unwrap();
    let copied = running.kireji(&["cp", &here, &format!(":{there}")]);
    assert_eq!(copied.status.code(), Some(0), "{}", text(&copied.stderr));
    let copied = running.kireji(&["cp", &format!("{id}:{there}"), &back]);
    assert_eq!(copied.status.code(), Some(0), "{}", text(&copied.stderr));
    assert_eq!(std::fs::read_to_string(&back).unwrap(), "content");
    let directory = running.place.path("directory");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(format!("{directory}/x"), "x").unwrap();
    let copied = running.kireji(&["cp", "-r", &directory, &format!(":{directory}2")]);
    assert_eq!(copied.status.code(), Some(0), "{}", text(&copied.stderr));
    assert_eq!(std::fs::read_to_string(format!("{directory}2/x")).unwrap(), "x");
    let missing = running.kireji(&["cp", ":/nonexistent/file", &back]);
    assert_eq!(missing.status.code(), Some(1), "{}", text(&missing.stderr));

    running.other_key("authorized_keys", true);
    let refused = running.kireji(&["ssh", "--", "true"]);
    assert_eq!(refused.status.code(), Some(255), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("Permission denied"), "{}", text(&refused.stderr));
    // A server that is not the guest gets nothing either.
    running.other_key("host_key", false);
    let refused = running.kireji(&["ssh", "--", "true"]);
    assert_eq!(refused.status.code(), Some(255), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("Host key verification failed"));

    let place = running.end();
    let over = place.kireji(&["ssh"]);
    assert_eq!(over.status.code(), Some(11));
    assert!(text(&over.stderr).contains("does not go on"), "{}", text(&over.stderr));
}

#[test]
fn without_a_way_in_it_is_told_why() {
    let place = haiku();
    let told = place.kireji(&["ssh"]);
    assert_eq!(told.status.code(), Some(11));
    assert!(text(&told.stderr).contains("there was no run yet"), "{}", text(&told.stderr));
    for (args, code, says) in [
        (&["ssh", "2020"][..], 2, "there is no run 2020"),
        (&["cp", "a", "b"], 2, "neither side is the guest's"),
        (&["cp", "a"], 2, "required arguments"),
    ] {
        let told = place.kireji(args);
        assert_eq!(told.status.code(), Some(code), "{args:?}");
        assert!(text(&told.stderr).contains(says), "{args:?}: {}", text(&told.stderr));
    }
    let empty = Place::new();
    for (place, more, says) in [
        (&place, &["--net", "none"][..], "has no network"),
        (&place, &["--until", "never"], "the run ends by itself"),
        (&empty, &[], "the image has no Haiku on it"),
    ] {
        let script = Script::default().say("Welcome\r\n");
        let mut command =
            script.command(Path::new(env!("CARGO_BIN_EXE_kireji")), fake(), place.0.path());
        command.arg(place.path("haiku.image")).args(more);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        let told = loop {
            let told = place.kireji(&["ssh"]);
            // It may not have begun yet.
            if text(&told.stderr).contains("nobody can log in") {
                break told;
            }
            assert!(started.elapsed() < LONG, "{more:?}: {}", text(&told.stderr));
            std::thread::sleep(Duration::from_millis(50));
        };
        assert_eq!(told.status.code(), Some(11), "{more:?}");
        assert!(text(&told.stderr).contains(says), "{more:?}: {}", text(&told.stderr));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        child.wait().unwrap();
    }
}

/// Whichever command was asked for it.
#[test]
fn a_run_that_is_not_there_has_one_exit_code() {
    let place = Place(tempfile::tempdir().unwrap());
    let report = place.path("report.zip");
    for (none, unknown) in [
        (&["log"][..], &["log", "2020"][..]),
        (&["report", "--output", &report], &["report", "--output", &report, "2020"]),
        (&["backtrace"], &["backtrace", "2020"]),
        (&["control", "nmi"], &["control", "nmi", "2020"]),
        (&["ssh"], &["ssh", "2020"]),
        (&["cp", ":/boot/a", "a"], &["cp", "2020:/boot/a", "a"]),
    ] {
        for (args, code, says) in
            [(none, 11, "there was no run yet"), (unknown, 2, "there is no run 2020 in ")]
        {
            let told = place.kireji(args);
            let err = text(&told.stderr);
            assert_eq!(told.status.code(), Some(code), "{args:?}: {err}");
            assert!(err.contains(says), "{args:?}: {err}");
        }
    }
}

#[test]
fn a_host_without_ssh_is_told_what_to_install() {
    let running = Running::start();
    running.boot();
    let told = Command::new(env!("CARGO_BIN_EXE_kireji"))
        .args(["ssh", "--", "true"])
        .env("XDG_STATE_HOME", running.place.path("state"))
        .env("PATH", running.place.path("nothing"))
        .output()
        .unwrap();
    let err = text(&told.stderr);
    assert_eq!(told.status.code(), Some(11), "{err}");
    assert!(err.contains("cannot start ssh") && err.contains("install ssh"), "{err}");
    running.end();
}
