use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use testkit::tree::{Function, Port, Tree};

use super::FUNCTION;
use crate::reservation::Reservations;

const CARD: [&str; 2] = ["0000:01:00.0", "0000:01:00.1"];
const OTHER: &str = "0000:02:00.0";
/// Of the same kind as the other, and not reserved.
const TWIN: &str = "0000:00:03.0";

/// A host with a card of two functions and another card, all of them reserved.
fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.add(Function::port("0000:00:1c.0", Port::Root, 1).slot());
    tree.add(Function::port("0000:00:1d.0", Port::Root, 2).slot());
    let function = |address, device, class, port| {
        let function = Function::new(address, 0x1002, device).class(class).below(port);
        function.subsystem(0x1043, 0x0001).attribute("driver_override", "(null)\n")
    };
    tree.add(function(CARD[0], 0x68c8, 0x03_0000, "0000:00:1c.0"));
    tree.add(function(CARD[1], 0xaa60, 0x04_0300, "0000:00:1c.0"));
    tree.add(function(OTHER, 0x10d3, 0x02_0000, "0000:00:1d.0"));
    let twin = Function::new(TWIN, 0x1002, 0x10d3).class(0x02_0000).subsystem(0x1043, 0x0001);
    tree.add(twin.attribute("driver_override", "(null)\n"));
    tree.write("/proc/cmdline", "root=/dev/a [*] quiet\n");
    let host = pci::Host::read(&tree.sysroot()).unwrap();
    let functions: Vec<_> =
        [CARD[0], CARD[1], OTHER].iter().map(|text| text.parse().unwrap()).collect();
    let list = Reservations::default().with(&host, &functions).unwrap();
    tree.write("/list", list.text().unwrap());
    tree.write("/dev/kmsg", "");
    tree.write("/sys/bus/pci/drivers_probe", "");
    tree
}

/// A shell to run the hook in: its program and arguments.
const SHELLS: [&[&str]; 3] = [&["dash", "-eu"], &["bash", "--posix"], &["busybox", "sh", "-eu"]];

/// Runs the hook in a shell. Loading vfio-pci binds what it is wanted for, as the kernel does.
fn boot(tree: &Tree, shell: &[&str]) {
    let root = tree.locate("/");
    let modprobe = format!(
        "#!/bin/sh\n\
         echo \"$@\" >> {root}/modprobe.log\n\
         cd {root}/sys/bus/pci/devices\n\
         for one in *; do\n\
           read -r wanted < $one/driver_override 2> /dev/null || continue\n\
           [ \"$wanted\" != vfio-pci ] || ln -sfn ../../bus/pci/drivers/vfio-pci $one/driver\n\
         done\n",
        root = root.display()
    );
    let programs = root.join("programs");
    std::fs::create_dir_all(&programs).unwrap();
    std::fs::write(programs.join("modprobe"), modprobe).unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(programs.join("modprobe"), executable).unwrap();
    // A function, since busybox prefers its own modprobe to that of another directory.
    let programs = programs.display();
    let script = format!(
        "modprobe() {{ {programs}/modprobe \"$@\"; }}\n{FUNCTION}\nkireji_reserve $1/list $1\n"
    );
    let root = root.to_str().unwrap().trim_end_matches('/').to_owned();
    let done = Command::new(shell[0])
        .args(&shell[1..])
        .args(["-c", &script, "hook", &root])
        .output()
        .unwrap();
    assert!(done.status.success(), "{shell:?}: {done:?}");
    assert!(done.stderr.is_empty(), "{shell:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn read(tree: &Tree, path: &str) -> String {
    std::fs::read_to_string(tree.locate(path)).unwrap_or_default()
}

fn said(tree: &Tree) -> String {
    read(tree, "/dev/kmsg")
}

fn overrides(tree: &Tree) -> [String; 3] {
    [CARD[0], CARD[1], OTHER].map(|address| {
        read(tree, &format!("/sys/bus/pci/devices/{address}/driver_override")).trim().to_owned()
    })
}

const VFIO: &str = "vfio-pci";
const NONE: &str = "(null)";

/// Boots once in each shell, and expects the same of all.
fn expect(change: impl Fn(&Tree), overrides_after: [&str; 3], log: &str) {
    for shell in SHELLS {
        let tree = tree();
        change(&tree);
        boot(&tree, shell);
        assert_eq!(overrides(&tree), overrides_after, "{shell:?}");
        assert_eq!(said(&tree), log, "{shell:?}");
        let twin = read(&tree, &format!("/sys/bus/pci/devices/{TWIN}/driver_override"));
        assert_eq!(twin.trim(), NONE, "{shell:?}");
        let loaded = Path::new(&tree.locate("/modprobe.log")).exists();
        assert_eq!(loaded, overrides_after.contains(&VFIO), "{shell:?}");
    }
}

#[test]
fn what_is_reserved_goes_to_vfio_pci() {
    expect(
        |_| {},
        [VFIO; 3],
        "<6>kireji: 0000:01:00.0: vfio-pci has it\n\
         <6>kireji: 0000:01:00.1: vfio-pci has it\n\
         <6>kireji: 0000:02:00.0: vfio-pci has it\n",
    );
}

#[test]
fn a_word_of_the_command_line_leaves_all_alone() {
    expect(
        |tree| tree.write("/proc/cmdline", "quiet kireji.off\n"),
        [NONE; 3],
        "<6>kireji: kireji.off is on the command line: nothing is reserved in this boot\n",
    );
}

#[test]
fn a_trial_holds_for_its_own_boot() {
    let trial = |command_line: &'static str| {
        move |tree: &Tree| {
            let list = read(tree, "/list");
            tree.write("/list", format!("{list}trial 7\n"));
            tree.write("/proc/cmdline", command_line);
        }
    };
    let no = "<6>kireji: only a trial is reserved, and kireji.trial=7 is not on the command line\n";
    expect(trial("quiet\n"), [NONE; 3], no);
    expect(trial("kireji.trial=8"), [NONE; 3], no);
    let yes: String = [CARD[0], CARD[1], OTHER]
        .iter()
        .map(|address| format!("<6>kireji: {address}: vfio-pci has it\n"))
        .collect();
    expect(trial("quiet kireji.trial=7\n"), [VFIO; 3], &yes);
}

#[test]
fn another_card_in_the_slot_is_left_alone_as_a_whole() {
    expect(
        |tree| tree.write(&format!("/sys/bus/pci/devices/{}/device", CARD[1]), "0xaa61\n"),
        [NONE, NONE, VFIO],
        "<4>kireji: 0000:01:00.1: device is 0xaa61, not 0xaa60: another card, left alone\n\
         <6>kireji: 0000:02:00.0: vfio-pci has it\n",
    );
    expect(
        |tree| tree.write(&format!("/sys/bus/pci/devices/{OTHER}/subsystem_vendor"), "0x1462\n"),
        [VFIO, VFIO, NONE],
        "<4>kireji: 0000:02:00.0: subsystem_vendor is 0x1462, not 0x1043: another card, left alone\n\
         <6>kireji: 0000:01:00.0: vfio-pci has it\n\
         <6>kireji: 0000:01:00.1: vfio-pci has it\n",
    );
}

#[test]
fn a_card_that_moved_away_is_told() {
    expect(
        |tree| tree.remove(&format!("/sys/bus/pci/devices/{OTHER}")),
        [VFIO, VFIO, ""],
        "<4>kireji: 0000:02:00.0: there is no function at this address, so its card is left alone\n\
         <6>kireji: 0000:01:00.0: vfio-pci has it\n\
         <6>kireji: 0000:01:00.1: vfio-pci has it\n",
    );
}

#[test]
fn a_driver_that_is_built_in_has_to_let_go_but_not_of_a_display() {
    for shell in SHELLS {
        let tree = tree();
        tree.bind(CARD[0], "radeon");
        tree.bind(OTHER, "e1000e");
        boot(&tree, shell);
        assert_eq!(overrides(&tree), [NONE, VFIO, VFIO]);
        let unbind = read(&tree, "/sys/bus/pci/drivers/e1000e/unbind");
        assert_eq!(unbind.trim(), OTHER, "{shell:?}");
        assert!(said(&tree).contains("0000:01:00.0: radeon has it already, and is left alone"));
    }
}

#[test]
fn what_does_not_work_is_said() {
    for shell in SHELLS {
        let tree = tree();
        // Nothing binds.
        for address in [CARD[0], CARD[1], OTHER] {
            tree.directory(&format!("/sys/bus/pci/devices/{address}/driver"));
        }
        boot(&tree, shell);
        assert!(said(&tree).contains("0000:02:00.0: vfio-pci did not take it"), "{shell:?}");
        assert_eq!(read(&tree, "/sys/bus/pci/drivers_probe").trim(), OTHER);
    }
    expect(
        |tree| tree.write("/list", "0000:01:00.0 0000:01:00.0 1002\n"),
        [NONE; 3],
        "<4>kireji: the list of reservations is damaged: nothing is reserved\n",
    );
    expect(|tree| tree.remove("/list"), [NONE; 3], "");
}
