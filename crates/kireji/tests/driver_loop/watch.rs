//! `--watch`, and signals that come while something is built.

use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// A `kireji run` that goes on, and all that it says.
struct Going<'a> {
    child: Child,
    place: &'a Place,
}

impl<'a> Going<'a> {
    fn start(place: &'a Place, script: &Script, more: &[&str]) -> Self {
        let mut command =
            script.command(Path::new(env!("CARGO_BIN_EXE_kireji")), fake(), place.0.path());
        command.arg(place.path("haiku.image")).args(["--emulate", "edu"]).args(more);
        let log = std::fs::File::create(place.path(".log")).unwrap();
        command.current_dir(place.0.path()).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self { child, place }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.place.path(".log")).unwrap()
    }

    /// Waits until that was said so often.
    fn wait(&self, what: &str, times: usize) {
        let started = std::time::Instant::now();
        while self.said().matches(what).count() < times {
            assert!(started.elapsed() < Duration::from_secs(120), "{what}: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn interrupt(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(130), "{}", self.said());
        self.said()
    }
}

/// Each save is a run; the one that goes on is ended for it, and Ctrl-C ends all.
#[test]
fn a_change_runs_the_guest_again() {
    let place = Place::new();
    let driver_file = place.path("legacy");
    std::fs::copy(driver("legacy.so"), &driver_file).unwrap();
    let more = ["--watch", "--driver", &driver_file, "--until", "never"];
    let going = Going::start(&place, &said(LOADED), &more);
    going.wait("guest: loaded", 1);
    // The guest waits for a line that never comes, and is ended by the change.
    std::fs::copy(driver("legacy.so"), &driver_file).unwrap();
    going.wait("guest: loaded", 2);
    // A driver that no kernel loads is told, and the next is waited for.
    std::fs::copy(driver("default.so"), &driver_file).unwrap();
    going.wait("no DT_HASH", 1);
    going.wait("Waiting for a change", 1);
    std::fs::copy(driver("legacy.so"), &driver_file).unwrap();
    going.wait("guest: loaded", 3);
    going.interrupt();
}

/// What a build and a run write begins no other round, and what a person saves does, at any time.
#[test]
fn builds_begin_no_rounds_and_saves_do() {
    let place = Place::new();
    std::fs::copy(driver("legacy.so"), place.path("source")).unwrap();
    // The directory of the driver is the build's to make, and the build fails where it is told to.
    let build = "echo $$ >>built; test -e slow && rm slow && echo two >note; \
        test -e fail && exit 3; mkdir -p out; cp source out/legacy";
    std::fs::write(place.path("build.sh"), build).unwrap();
    std::fs::write(place.path("note"), "one").unwrap();
    let script = said(&format!("{CLAIM}{LOADED}"));
    let more = ["--watch", "--build", "sh build.sh", "--driver", "out/legacy"];
    let outputs = ["--put", "note:home/note", "--get", "home/note:got", "--junit", "j.xml"];
    let going = Going::start(&place, &script, &[&more[..], &outputs].concat());
    let rounds = |count: usize| {
        going.wait("Waiting for a change", count);
        // A round that nobody asked for would begin now.
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(going.said().matches("Waiting for a change").count(), count, "{}", going.said());
    };
    rounds(1);
    assert!(going.said().contains("Passed: "), "{}", going.said());
    assert_eq!(std::fs::read_to_string(place.path("got")).unwrap(), "one");
    std::fs::write(place.path("fail"), "x").unwrap();
    rounds(2);
    assert!(going.said().contains("the build failed"), "{}", going.said());
    std::fs::remove_file(place.path("fail")).unwrap();
    // As if somebody saved the note while it is built: it is built once more.
    let before = going.said().matches("build: sh").count();
    std::fs::write(place.path("slow"), "x").unwrap();
    rounds(3);
    assert_eq!(std::fs::read_to_string(place.path("got")).unwrap(), "two\n");
    assert!(going.said().matches("build: sh").count() >= before + 2, "{}", going.said());
    going.interrupt();
}

#[test]
fn a_build_ends_with_the_run() {
    let place = Place::new();
    // What the shell started holds its output open.
    let more = ["--build", "sh -c 'echo begun; sleep 600 & wait'"];
    for watch in [&[][..], &["--watch"]] {
        let going = Going::start(&place, &Script::default(), &[&more[..], watch].concat());
        going.wait("\nbegun", 1);
        let said = going.interrupt();
        assert!(said.contains("error: the build was interrupted"), "{said}");
    }
}
