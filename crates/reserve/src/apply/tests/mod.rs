mod faults;
mod journal;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitStatus;

use host::{Finished, Program, RunError, SystemRunner};
use testkit::tree::Tree;

use super::*;
use crate::plan::Contents;

/// What happens at one of the points of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The process is gone before it.
    KillBefore,
    /// The process is gone after it.
    KillAfter,
    /// The file is written in part, and the process gone.
    KillWithin,
    /// It fails.
    Fail,
}

struct Killed;

/// A machine whose disk and programs fail or kill at one point.
#[derive(Debug)]
struct Machine<'a> {
    root: &'a Path,
    fault: Cell<Option<(usize, Fault)>>,
    points: Cell<usize>,
    commands: RefCell<Vec<String>>,
}

impl<'a> Machine<'a> {
    fn new(root: &'a Path) -> Self {
        let (fault, points) = (Cell::new(None), Cell::new(0));
        Self { root, fault, points, commands: RefCell::default() }
    }

    fn at(&self, act: impl FnOnce() -> io::Result<()>, within: impl FnOnce()) -> io::Result<()> {
        let point = self.points.replace(self.points.get() + 1);
        let fault = self.fault.get().filter(|(at, _)| *at == point).map(|(_, fault)| fault);
        match fault {
            Some(Fault::KillBefore) => resume_unwind(Box::new(Killed)),
            Some(Fault::Fail) => return Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::KillWithin) => {
                within();
                resume_unwind(Box::new(Killed));
            }
            _ => {}
        }
        act()?;
        if fault == Some(Fault::KillAfter) {
            resume_unwind(Box::new(Killed));
        }
        Ok(())
    }
}

impl Disk for Machine<'_> {
    fn write(
        &self,
        path: &Path,
        bytes: &[u8],
        access: Access,
        label: Option<&[u8]>,
    ) -> io::Result<()> {
        let part = || drop(std::fs::write(path, &bytes[..bytes.len() / 2]));
        self.at(|| SystemDisk.write(path, bytes, access, label), part)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.at(|| SystemDisk.rename(from, to), || {})
    }

    fn sync(&self, directory: &Path) -> io::Result<()> {
        self.at(|| SystemDisk.sync(directory), || {})
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.at(|| SystemDisk.remove(path), || {})
    }

    fn make_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.at(|| SystemDisk.make_directory(path, mode), || {})
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.at(|| SystemDisk.remove_directory(path), || {})
    }
}

impl Runner for Machine<'_> {
    /// Each command builds a file of what is configured.
    fn run(&self, program: &Program) -> Result<Finished, RunError> {
        let name = program.executable.display().to_string();
        let built = self.root.join("boot").join(&name);
        let build = || {
            let configuration: Vec<_> =
                all(self.root).into_iter().filter(|(path, _)| path.starts_with("etc")).collect();
            std::fs::write(&built, format!("{configuration:?}"))
        };
        let done = self.at(build, || std::fs::write(&built, "half").unwrap());
        self.commands.borrow_mut().push(name);
        let code = if done.is_ok() { 0 } else { 1 };
        let status = ExitStatus::from_raw(code << 8);
        Ok(Finished { status, stdout: Vec::new(), stderr: b"no space".to_vec() })
    }
}

/// Every file and directory but our own state, with contents and permission bits.
fn all(root: &Path) -> BTreeMap<String, (u32, Option<Vec<u8>>)> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if name.starts_with("var") {
                continue;
            }
            let mode = path.metadata().unwrap().permissions().mode();
            let contents = if path.is_dir() { None } else { Some(std::fs::read(&path).unwrap()) };
            if contents.is_none() {
                ahead.push(path);
            }
            found.insert(name, (mode, contents));
        }
    }
    found
}

fn tree() -> Tree {
    let tree = Tree::new();
    tree.write("/etc/default/grub", "A=1\nB=1\nC=1\nD=1\n");
    let mode = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(tree.locate("/etc/default/grub"), mode).unwrap();
    tree.write("/etc/old", [0xff, 0]);
    tree.directory("/boot");
    tree.directory("/var/lib");
    let machine = Machine::new(tree.root());
    for command in ["image", "menu"] {
        machine.run(&Program::new(command)).unwrap();
    }
    tree
}

fn plan(host: &Sysroot) -> Plan {
    let mut plan = Plan::default();
    let grub = Contents { bytes: b"A=2\nB=1\nC=1\nD=1\n".to_vec(), mode: 0o640 };
    plan.file(host, "/etc/default/grub", Some(grub)).unwrap();
    plan.file(host, "/etc/kireji/reservations", Some(Contents::text("list\n"))).unwrap();
    plan.file(host, "/etc/hooks/deep/hook", Some(Contents::program("#!/bin/sh\n"))).unwrap();
    plan.file(host, "/etc/old", None).unwrap();
    plan.command(Command::new(["image"]));
    plan.command(Command::new(["menu"]));
    plan
}

#[test]
fn what_is_applied_is_undone_byte_for_byte() {
    let tree = tree();
    let host = tree.sysroot();
    let start = all(tree.root());
    let machine = Machine::new(tree.root());
    let applier = Applier::new(&host, &machine, &machine);
    applier.apply(&plan(&tree.sysroot())).unwrap();
    assert_eq!(tree.read("/etc/default/grub"), "A=2\nB=1\nC=1\nD=1\n");
    assert_eq!(host.node("/etc/hooks/deep/hook").unwrap().mode, 0o755);
    assert_eq!(host.node("/etc/default/grub").unwrap().mode, 0o640);
    assert_eq!(host.node("/var/lib/kireji").unwrap().mode, 0o700);
    assert!(!host.exists("/etc/old") && !applier.is_pending());
    assert_eq!(applier.records().unwrap().len(), 1);
    applier.undo().unwrap();
    assert_eq!(all(tree.root()), start);
    assert!(matches!(applier.undo(), Err(ApplyError::Nothing)));
    assert_eq!(*machine.commands.borrow(), ["image", "menu", "image", "menu"]);
}

#[test]
fn taking_back_runs_only_what_had_run() {
    // Before the first command, at the first, at the second: the disk is changed 26 times first.
    for (point, expected) in [(20, &[][..]), (26, &["image"][..]), (27, &["image", "menu"])] {
        let tree = tree();
        let host = tree.sysroot();
        let start = all(tree.root());
        let machine = Machine::new(tree.root());
        machine.fault.set(Some((point, Fault::Fail)));
        let applier = Applier::new(&host, &machine, &machine);
        applier.apply(&plan(&tree.sysroot())).unwrap_err();
        let ran = machine.commands.borrow();
        assert_eq!(ran[ran.len() / 2..], *expected, "{point}");
        assert_eq!(all(tree.root()), start, "{point}");
    }
}

/// Programs that can build nothing any more, as on a partition that is full or only read.
#[derive(Debug)]
struct NoRoom<'a> {
    tree: &'a Tree,
    /// Whether the first to run has built before it failed.
    builds_first: Cell<bool>,
}

impl Runner for NoRoom<'_> {
    fn run(&self, program: &Program) -> Result<Finished, RunError> {
        if self.builds_first.replace(false) {
            let path = format!("/boot/{}", program.executable.display());
            self.tree.write(&path, "half");
        }
        let status = ExitStatus::from_raw(1 << 8);
        Ok(Finished { status, stdout: Vec::new(), stderr: b"no space".to_vec() })
    }
}

#[test]
fn what_could_not_be_built_need_not_be_built_again() {
    for builds_first in [false, true] {
        let tree = tree();
        let host = tree.sysroot();
        let start = all(tree.root());
        let programs = NoRoom { tree: &tree, builds_first: Cell::new(builds_first) };
        let applier = Applier::new(&host, &SystemDisk, &programs);
        let error = applier.apply(&plan(&tree.sysroot())).unwrap_err();
        // What is half built is not forgotten.
        assert_eq!(applier.is_pending(), builds_first, "{error}");
        assert_eq!(matches!(error, ApplyError::NotTakenBack { .. }), builds_first, "{error}");
        assert_eq!(applier.recover().is_err(), builds_first);
        let machine = Machine::new(tree.root());
        Applier::new(&host, &machine, &machine).recover().unwrap();
        assert_eq!(all(tree.root()), start);
        assert!(!applier.is_pending());
    }
}

#[test]
fn what_cannot_be_built_is_told_where_it_is_as_it_was() {
    let tree = tree();
    let host = tree.sysroot();
    let machine = Machine::new(tree.root());
    let start = all(tree.root());
    Applier::new(&host, &machine, &machine).apply(&plan(&tree.sysroot())).unwrap();
    let built: Vec<_> = start.iter().filter(|(path, _)| path.starts_with("boot/")).collect();
    for (path, (_, contents)) in built {
        tree.write(&format!("/{path}"), contents.as_deref().unwrap_or_default());
    }
    let programs = NoRoom { tree: &tree, builds_first: Cell::new(false) };
    let undone = Applier::new(&host, &SystemDisk, &programs).undo().unwrap();
    let failure = "`image` failed (exit status: 1): no space";
    assert_eq!(undone.failure.as_deref(), Some(failure));
    assert_eq!(all(tree.root()), start);

    // What goes where nobody looks might be other than it was.
    let mut plan = plan(&tree.sysroot());
    plan.command(Command::new(["proxmox-boot-tool", "refresh"]));
    Applier::new(&host, &machine, &machine).apply(&plan).unwrap();
    for (path, (_, contents)) in start.iter().filter(|(path, _)| path.starts_with("boot/")) {
        tree.write(&format!("/{path}"), contents.as_deref().unwrap_or_default());
    }
    tree.remove("/boot/proxmox-boot-tool");
    assert!(Applier::new(&host, &SystemDisk, &programs).undo().is_err());
}

#[test]
fn a_file_that_comes_back_has_its_label() {
    if !testkit::only_root::is_root() {
        // Only root can give a label.
        return;
    }
    let tree = tree();
    let host = tree.sysroot();
    let file = File::open(tree.locate("/etc/old")).unwrap();
    let label = b"system_u:object_r:modules_conf_t:s0\0";
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::fsetxattr(&file, "security.selinux", label, flags).unwrap();
    let machine = Machine::new(tree.root());
    let applier = Applier::new(&host, &machine, &machine);
    applier.apply(&plan(&tree.sysroot())).unwrap();
    assert!(!host.exists("/etc/old"));
    applier.undo().unwrap();
    let found = disk::label(&tree.locate("/etc/old")).unwrap();
    assert_eq!(found.as_deref(), Some(&label[..]));
}

#[test]
fn directories_of_ours_go_with_their_last_file_and_come_back() {
    let tree = tree();
    tree.write("/etc/kireji/reservations", "list\n");
    tree.write("/usr/lib/50kireji/hook", "hook\n");
    let host = tree.sysroot();
    let start = all(tree.root());
    let machine = Machine::new(tree.root());
    let applier = Applier::new(&host, &machine, &machine);
    let mut plan = Plan::default();
    plan.file(&host, "/etc/kireji/reservations", None).unwrap();
    plan.file(&host, "/usr/lib/50kireji/hook", None).unwrap();
    applier.apply(&plan).unwrap();
    assert!(!host.exists("/etc/kireji") && !host.exists("/usr/lib/50kireji"));
    assert!(host.exists("/etc") && host.exists("/usr/lib"));
    applier.undo().unwrap();
    assert_eq!(all(tree.root()), start);
}

#[test]
fn what_others_changed_is_not_overwritten() {
    let tree = tree();
    let host = tree.sysroot();
    let machine = Machine::new(tree.root());
    let applier = Applier::new(&host, &machine, &machine);
    let made = plan(&tree.sysroot());
    tree.write("/etc/old", "else");
    assert!(matches!(applier.apply(&made), Err(ApplyError::Stale { .. })));
    applier.apply(&plan(&tree.sysroot())).unwrap();
    tree.write("/etc/default/grub", "A=3\nB=1\nC=1\nD=1\n");
    let after = all(tree.root());
    let error = applier.undo().unwrap_err();
    assert_eq!(
        error.to_string(),
        "/etc/default/grub was changed by somebody else, in what is to change"
    );
    let ApplyError::Foreign(conflict) = error else { panic!("{error}") };
    let shown = |change: FileChange| {
        let mut text = Vec::new();
        crate::plan::write_change(&change, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    };
    assert!(shown(conflict.theirs()).contains("-A=2\n+A=3\n"));
    assert!(shown(conflict.ours()).contains("-A=2\n+A=1\n"));
    assert_eq!(all(tree.root()), after, "nothing was touched");

    // A file of ours that they made theirs is not removed.
    tree.write("/etc/default/grub", "A=2\nB=1\nC=1\nD=1\n");
    tree.write("/etc/hooks/deep/hook", "#!/bin/sh\ntheirs\n");
    let after = all(tree.root());
    let error = applier.undo().unwrap_err();
    assert!(error.to_string().starts_with("/etc/hooks/deep/hook was changed"), "{error}");
    assert_eq!(all(tree.root()), after, "nothing was touched");
}

#[test]
fn what_others_changed_elsewhere_in_a_file_stays() {
    let tree = tree();
    let host = tree.sysroot();
    let machine = Machine::new(tree.root());
    let applier = Applier::new(&host, &machine, &machine);
    let start = all(tree.root());
    applier.apply(&plan(&tree.sysroot())).unwrap();
    tree.write("/etc/default/grub", "A=2\nB=1\nC=1\nD=9\n# mine\n");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(tree.locate("/etc/default/grub"), mode).unwrap();
    let undone = applier.undo().unwrap();
    assert_eq!(tree.read("/etc/default/grub"), "A=1\nB=1\nC=1\nD=9\n# mine\n");
    assert_eq!(host.node("/etc/default/grub").unwrap().mode, 0o600);
    let merged: Vec<_> = undone.merged.iter().map(|change| change.path.as_path()).collect();
    assert_eq!(merged, [Path::new("/etc/default/grub")]);
    // The rest is as it was, but for what is built from that file.
    let others = |mut files: BTreeMap<String, _>| {
        files.retain(|path, _| !path.starts_with("boot/") && path != "etc/default/grub");
        files
    };
    assert_eq!(others(all(tree.root())), others(start));
    let built: Vec<_> = undone.differences.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(built, ["/boot/image", "/boot/menu"]);
}

#[test]
fn what_is_built_again_is_compared_with_what_was_built() {
    let tree = tree();
    let host = tree.sysroot();
    let machine = Machine::new(tree.root());
    let applier = Applier::new(&host, &machine, &machine);
    applier.apply(&plan(&tree.sysroot())).unwrap();
    assert_eq!(applier.undo().unwrap().differences, []);
    // A file that nobody keeps count of finds its way in.
    applier.apply(&plan(&tree.sysroot())).unwrap();
    tree.write("/etc/other", "new\n");
    let undone = applier.undo().unwrap();
    let told: Vec<_> =
        undone.differences.iter().map(|one| (one.path.as_str(), one.is_foreign)).collect();
    assert_eq!(told, [("/boot/image", false), ("/boot/menu", false)]);
}

/// What a plan of ours makes of the hook, as one that has been applied left it and as it is.
fn fitted(left: &str, now: &str, wanted: Option<&str>) -> Result<Option<String>, ApplyError> {
    let tree = tree();
    let host = tree.sysroot();
    let machine = Machine::new(tree.root());
    let applier = Applier::new(&host, &machine, &machine);
    let hook = "/etc/hooks/hook";
    let planned = |contents: Option<&str>| {
        let mut plan = Plan::default();
        plan.file(&host, hook, contents.map(Contents::text)).unwrap();
        plan.command(Command::new(["image"]));
        plan
    };
    applier.apply(&planned(Some(left))).unwrap();
    tree.write(hook, now);
    let plan = applier.fit(planned(wanted))?;
    assert_eq!(plan.files.is_empty(), plan.commands.is_empty());
    let after = plan.files.into_iter().next().and_then(|change| change.after);
    Ok(after.map(|after| String::from_utf8(after.bytes).unwrap()))
}

#[test]
fn a_plan_keeps_what_others_changed_in_files_of_ours() {
    let (left, theirs) = ("a\nb\nc\nd\n", "a\nb\nc\ntheirs\n");
    let fit = |now, wanted| fitted(left, now, wanted).map_err(|error| error.to_string());
    assert_eq!(fit(left, None), Ok(None));
    assert_eq!(fit(left, Some("A\nb\nc\nd\n")), Ok(Some("A\nb\nc\nd\n".to_owned())));
    assert_eq!(fit(theirs, Some("A\nb\nc\nd\n")), Ok(Some("A\nb\nc\ntheirs\n".to_owned())));
    assert_eq!(fit(theirs, Some(left)), Ok(None), "it stays as they want it");
    let refused = "/etc/hooks/hook was changed by somebody else, in what is to change".to_owned();
    assert_eq!(fit(theirs, None), Err(refused.clone()));
    assert_eq!(fit(theirs, Some("a\nb\nc\nD\n")), Err(refused));
}

/// Programs of a shell that goes on in the background, as a generator does whose kireji was killed.
#[derive(Debug)]
struct Orphan<'a> {
    file: &'a Path,
}

impl Runner for Orphan<'_> {
    fn run(&self, program: &Program) -> Result<Finished, RunError> {
        let script = "(until [ -e \"$1\" ]; do sleep 0.05; done; rm \"$1\") > /dev/null 2>&1 &";
        let started = Program::new("sh").args(["-c", script, "sh"]).arg(self.file);
        SystemRunner.run(&Program { holds: program.holds.clone(), ..started }).unwrap();
        resume_unwind(Box::new(Killed));
    }
}

#[test]
fn what_a_killed_change_left_running_is_waited_for() {
    let tree = tree();
    let host = tree.sysroot();
    let start = all(tree.root());
    let end = tree.locate("/var/end");
    let orphan = Orphan { file: &end };
    let applier = Applier::new(&host, &SystemDisk, &orphan);
    catch_unwind(AssertUnwindSafe(|| applier.apply(&plan(&tree.sysroot())))).unwrap_err();
    let next = Machine::new(tree.root());
    let applier = Applier::new(&host, &next, &next);
    let touched = all(tree.root());
    let error = applier.recover().unwrap_err();
    assert!(matches!(&error, ApplyError::Running { command } if command == "image"), "{error}");
    assert_eq!(all(tree.root()), touched);
    assert!(applier.is_pending());
    std::fs::write(&end, "").unwrap();
    for _ in 0..100 {
        match applier.recover() {
            Err(ApplyError::Running { .. }) => {}
            other => {
                assert!(other.unwrap());
                break;
            }
        }
    }
    assert_eq!(all(tree.root()), start);
    assert!(!applier.is_pending());
}
