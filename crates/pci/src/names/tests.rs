use std::io::Write;
use std::process::Command;

use proptest::prelude::*;
use testkit::tree::{Function as Fake, Tree};

use super::*;

const SAMPLE: &str = "\
# comment
1002  AMD
\t68c8  FirePro V4800
\t\t1002 240a  Board of its own
10de  NVIDIA
\t\t1002 240a  below no device
8086  Intel
\t10d3  82574L
C 02  Network controller
\t00  Ethernet controller
\t\t01  programming interface
C 03  Display controller
";

fn names(text: &str, functions: Vec<Fake>) -> Vec<FunctionNames> {
    let mut tree = Tree::new();
    for function in functions {
        tree.add(function);
    }
    tree.write(DATABASES[1], text);
    let host = Host::read(&tree.sysroot()).unwrap();
    let names = Names::read(&tree.sysroot(), &host);
    assert_eq!(names.source(), &Source::File(DATABASES[1].into()));
    host.functions().map(|function| names.of(function)).collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn finds_each_level() {
    let found = names(
        SAMPLE,
        vec![
            Fake::new("0000:01:00.0", 0x1002, 0x68c8).class(0x03_0000).subsystem(0x1002, 0x240a),
            Fake::new("0000:02:00.0", 0x8086, 0x10d3).class(0x02_0001).subsystem(0x8086, 0x10d3),
            Fake::new("0000:03:00.0", 0x10de, 0x1234).class(0x0b_0000).subsystem(0x1002, 0x240a),
        ],
    );
    let [amd, intel, nvidia] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(amd.vendor, some("AMD"));
    assert_eq!(amd.device, some("FirePro V4800"));
    assert_eq!(amd.subsystem, some("Board of its own"));
    assert_eq!(amd.class, some("Display controller"));
    assert_eq!(intel.subsystem, some("82574L"));
    assert_eq!(intel.class, some("Ethernet controller"));
    assert_eq!(nvidia.vendor, some("NVIDIA"));
    assert_eq!(nvidia.subsystem_vendor, some("AMD"));
    assert_eq!((&nvidia.device, &nvidia.subsystem, &nvidia.class), (&None, &None, &None));
}

#[test]
fn a_host_without_a_database_has_the_embedded_one() {
    let mut tree = Tree::new();
    tree.add(Fake::new("0000:00:00.0", 0x8086, 0x10d3).class(0x02_0000));
    let host = Host::read(&tree.sysroot()).unwrap();
    let names = Names::read(&tree.sysroot(), &host);
    assert_eq!(names.source(), &Source::Embedded);
    let found = names.of(host.functions().next().unwrap());
    assert_eq!(found.vendor, some("Intel Corporation"));
    assert_eq!(found.device, some("82574L Gigabit Network Connection"));
    assert_eq!(found.class, some("Ethernet controller"));
}

#[test]
fn the_embedded_copy_stays_small() {
    assert!(EMBEDDED.len() < 350_000, "{}", EMBEDDED.len());
    assert!(embedded().len() > 1_000_000);
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let long = "x".repeat(5000);
    let text = format!("8086  In\x1b[31mtel\r\n\t10d3  {long}\n");
    let found = names(&text, vec![Fake::new("0000:00:00.0", 0x8086, 0x10d3)]);
    assert_eq!(found[0].vendor, some("In[31mtel"));
    assert_eq!(found[0].device.as_ref().unwrap().len(), LONGEST);
}

/// What `lspci` prints from the same database for functions that exist only as a dump.
#[test]
fn agrees_with_lspci() {
    let text = embedded();
    let mut functions = sample_of(&text);
    // Unknown ones: vendor, device, sub-class and class.
    functions.push(([0xfffe, 0x0001, 0, 0], 0x02_ff00));
    functions.push(([0x8086, 0xfffe, 0x8086, 0xfffe], 0xef_0000));
    let functions: Vec<_> = functions
        .into_iter()
        .enumerate()
        .map(|(index, (ids, class))| listed(index, ids, class))
        .collect();
    let dump: String = functions.iter().map(dump_of).collect();
    let mut database = tempfile::NamedTempFile::new().unwrap();
    database.write_all(&text).unwrap();
    let mut dump_file = tempfile::NamedTempFile::new().unwrap();
    dump_file.write_all(dump.as_bytes()).unwrap();
    // Where udev's own database is installed, its names would come before those of the file.
    let parameters = Command::new("lspci").args(["-O", "help"]).output();
    let parameters = parameters.expect("lspci, of the package pciutils").stdout;
    let knows_udev = String::from_utf8_lossy(&parameters).contains("hwdb.disable");
    let without_udev: &[&str] = if knows_udev { &["-O", "hwdb.disable=1"] } else { &[] };
    let output = Command::new("lspci")
        .args(without_udev)
        .arg("-i")
        .arg(database.path())
        .arg("-F")
        .arg(dump_file.path())
        // Where udev has a database of names, that would come first.
        .args(["-O", "hwdb.disable=1", "-Dvmmnn"])
        .output()
        .expect("lspci runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = String::from_utf8(output.stdout).unwrap();
    let theirs = theirs.lines().filter(|line| !line.starts_with("ProgIf:"));

    let wanted = Wanted::of(functions.iter());
    let names = Names::find(&text, &wanted, Source::Embedded);
    let named = |name: Option<String>, kind: &str, id: u16| match name {
        Some(name) => format!("{name} [{id:04x}]"),
        None => format!("{kind} [{id:04x}]"),
    };
    let mut ours = String::new();
    for function in &functions {
        let found = names.of(function);
        ours += &format!("Slot:\t{}\n", function.address);
        ours += &format!("Class:\t{}\n", named(found.class, "Class", function.class.number()));
        ours += &format!("Vendor:\t{}\n", named(found.vendor, "Vendor", function.ids.vendor));
        ours += &format!("Device:\t{}\n", named(found.device, "Device", function.ids.device));
        if let Some(ids) = function.subsystem {
            let vendor = named(found.subsystem_vendor, "Unknown vendor", ids.vendor);
            let board = named(found.subsystem, "Device", ids.device);
            ours += &format!("SVendor:\t{vendor}\nSDevice:\t{board}\n");
        }
        ours.push('\n');
    }
    let differing: Vec<_> =
        ours.lines().zip(theirs.clone()).filter(|(our, their)| our != their).take(5).collect();
    assert!(differing.is_empty(), "{differing:#?}");
    assert_eq!(ours.lines().count(), theirs.count());
}

fn listed(index: usize, ids: [u16; 4], class: u32) -> Function {
    let [vendor, device, sub_vendor, sub_device] = ids;
    let subsystem = Ids { vendor: sub_vendor, device: sub_device };
    Function {
        address: format!("{:02x}:{:02x}.{}", index >> 8, index >> 3 & 31, index & 7)
            .parse()
            .unwrap(),
        ids: Ids { vendor, device },
        subsystem: Some(subsystem).filter(|ids| *ids != Ids { vendor: 0, device: 0 }),
        class: Class(class),
        driver: None,
        group: None,
        parent: None,
        physical: None,
    }
}

/// The function's header as `lspci -x` prints it.
fn dump_of(function: &Function) -> String {
    let mut config = [0; 64];
    let mut put = |at: usize, value: u16| config[at..at + 2].copy_from_slice(&value.to_le_bytes());
    put(0x00, function.ids.vendor);
    put(0x02, function.ids.device);
    put(0x0a, function.class.number());
    put(0x2c, function.subsystem.map_or(0, |ids| ids.vendor));
    put(0x2e, function.subsystem.map_or(0, |ids| ids.device));
    let mut dump = format!("{} Some: thing\n", function.address);
    for (row, bytes) in config.chunks(16).enumerate() {
        let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        dump += &format!("{:02x}: {}\n", row * 16, bytes.join(" "));
    }
    dump + "\n"
}

/// Some thousand entries of the database, each with the ids of a board where it lists one.
fn sample_of(text: &[u8]) -> Vec<([u16; 4], u32)> {
    let text = std::str::from_utf8(text).unwrap();
    let mut functions = Vec::new();
    let mut classes: Vec<u32> = Vec::new();
    let (mut vendor, mut device, mut base) = (0, 0, None);
    let hex = |text: &str| u16::from_str_radix(text, 16).unwrap();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match (line.bytes().take_while(|byte| *byte == b'\t').count(), base) {
            (0, _) if line.starts_with("C ") => base = Some(u32::from(hex(&line[2..4]))),
            (0, _) => vendor = hex(&line[..4]),
            (1, Some(base)) => classes.push(base << 16 | u32::from(hex(&line[1..3])) << 8),
            (1, None) => {
                device = hex(&line[1..5]);
                if number % 7 == 0 {
                    functions.push([vendor, device, vendor, device]);
                }
            }
            (2, None) if number % 7 == 0 => {
                functions.push([vendor, device, hex(&line[2..6]), hex(&line[7..11])]);
            }
            _ => {}
        }
    }
    // lspci takes a type 1 header, which a bridge would need, for one of another layout.
    classes.retain(|class| class >> 16 != 0x06);
    // lspci looks up no board of a device 0000, and none of these makers.
    functions.retain(|ids: &[u16; 4]| ids[1] != 0 && !matches!(ids[2], 0 | 0xffff));
    functions.into_iter().take(0x4000).zip(classes.into_iter().cycle()).collect()
}

proptest! {
    #[test]
    fn any_text_is_read_within_bounds(text in "(\t{0,2}(C |0a|)[0a]{0,5} .{0,300}\n){0,9}", bytes: Vec<u8>) {
        let ids = [0x0000, 0x000a, 0x00a0, 0x0a00, 0x0aa0, 0xaaaa];
        let mut wanted = Wanted { vendors: ids.into(), ..Wanted::default() };
        wanted.devices = ids.map(|device| Ids { vendor: device, device }).into();
        wanted.classes.extend(0..=u8::MAX);
        for text in [text.as_bytes(), &bytes] {
            let names = Names::find(text, &wanted, Source::Embedded);
            prop_assert!(names.vendors.values().all(|name| name.chars().count() <= LONGEST));
        }
    }
}

#[test]
fn a_database_of_just_these_names_gives_them_again() {
    let mut tree = Tree::new();
    tree.add(Fake::new("0000:00:03.0", 0x8086, 0x10d3).subsystem(0x8086, 0xa01f).class(0x02_0000));
    tree.add(Fake::new("0000:00:04.0", 0x1b36, 0x0010).class(0x01_0802));
    let sysroot = tree.sysroot();
    let host = Host::read(&sysroot).unwrap();
    let names = Names::read(&sysroot, &host);
    tree.write("/usr/share/misc/pci.ids", names.database());
    let again = Names::read(&sysroot, &host);
    for function in host.functions() {
        assert_eq!(again.of(function), names.of(function));
        assert!(names.of(function).device.is_some());
    }
}
