use std::collections::BTreeMap;

use bfs::{MakeOptions, NodeId, Options};

use super::*;
use crate::packages::Hierarchy;

type Disk = Volume<Vec<u8>>;

fn disk() -> Disk {
    Volume::make(vec![0; 12 << 20], &MakeOptions::new("Haiku")).unwrap()
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Everything in a volume: kind, permissions, time of change and content of each path.
fn everything(disk: &mut Disk) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut stack = vec![(String::new(), disk.root())];
    while let Some((base, directory)) = stack.pop() {
        let entries: Vec<_> = disk.entries(directory).unwrap().map(Result::unwrap).collect();
        for entry in entries {
            let path = format!("{base}/{}", String::from_utf8(entry.name).unwrap());
            let metadata = disk.metadata(entry.node).unwrap();
            let mut text = format!("{:?} {:o}", metadata.kind, metadata.permissions);
            match metadata.kind {
                bfs::Kind::Directory => stack.push((path.clone(), entry.node)),
                bfs::Kind::Symlink => text += &format!(" {:?}", disk.read_link(entry.node)),
                bfs::Kind::File => {
                    text += &format!(" {:?} {:?}", metadata.modified, read(disk, entry.node));
                    for info in disk.attributes(entry.node).unwrap() {
                        text += &format!(" {:?}", disk.attribute(entry.node, &info.name).unwrap());
                    }
                }
            }
            found.insert(path, text);
        }
    }
    found
}

fn read(disk: &mut Disk, node: NodeId) -> Vec<u8> {
    paths::read(disk, node, 8 << 20).unwrap().unwrap()
}

fn text(disk: &mut Disk, path: &str) -> String {
    let node = disk.lookup(path.as_bytes()).unwrap();
    String::from_utf8(read(disk, node)).unwrap()
}

fn put(disk: &mut Disk, path: &str, content: &str) -> NodeId {
    paths::write(disk, path, 0o640, content.as_bytes()).unwrap()
}

fn plan(files: &[(&str, &str)], how: How<'_>, target: &Target) -> Plan {
    let bytes: Vec<_> = files.iter().map(|(_, data)| sample(data)).collect();
    let files: Vec<_> =
        files.iter().zip(&bytes).map(|((name, _), bytes)| File { name, bytes }).collect();
    Plan::new(&files, how, target).unwrap()
}

/// A volume that a person has used: settings, a driver of theirs, and a link.
fn used() -> Disk {
    let mut disk = disk();
    put(&mut disk, KERNEL_SETTINGS, "load_symbols true\nbluescreen true");
    put(&mut disk, PACKAGES, "Package haiku { # mine\n\tBlockedEntries {\n\t\tapps/x\n\t}\n}\n");
    let own = put(&mut disk, &format!("{DRIVERS}/bin/sample"), "a driver of somebody");
    disk.set_attribute(own, b"note", 0x4353_5452, b"mine").unwrap();
    put(&mut disk, &format!("{DRIVERS}/dev/misc/other"), "");
    disk
}

const KERNEL_SETTINGS: &str = "home/config/settings/kernel/drivers/kernel";
const PACKAGES: &str = "system/settings/packages";
const DRIVERS: &str = "home/config/non-packaged/add-ons/kernel/drivers";

fn target() -> Target {
    let entry = |path: &str, target: Option<&str>| PackagedAddOn {
        package: "haiku".to_owned(),
        hierarchy: Hierarchy::System,
        path: format!("add-ons/kernel/{path}"),
        target: target.map(str::to_owned),
    };
    let packaged = vec![
        entry("boot/sample", Some("../drivers/misc/sample")),
        entry("drivers/misc/sample", None),
    ];
    Target { kernel: None, packaged }
}

#[test]
fn what_was_installed_comes_out_without_a_trace() {
    for mut disk in [disk(), used()] {
        let before = everything(&mut disk);
        let plan = plan(&[("sample.so", "legacy.so")], How::default(), &target());
        let first = install(&mut disk, &plan).unwrap();
        assert!(first.len() >= 6, "{first:#?}");
        let there = everything(&mut disk);
        assert!(
            !install(&mut disk, &plan).unwrap().iter().any(|change| {
                matches!(change, Change::PutAside { .. } | Change::Settings { .. })
            })
        );
        assert_eq!(everything(&mut disk).len(), there.len());
        remove(&mut disk, "sample").unwrap();
        assert_eq!(everything(&mut disk), before);
        assert!(matches!(remove(&mut disk, "sample"), Err(InstallError::NotInstalled(_))));
        assert_eq!(bfs::check(&mut disk.into_storage()).unwrap().findings, []);
    }
}

#[test]
fn settings_are_merged_with_what_a_person_wrote() {
    let mut disk = used();
    let plan = plan(&[("sample", "module.so")], How::default(), &target());
    install(&mut disk, &plan).unwrap();
    assert_eq!(
        text(&mut disk, KERNEL_SETTINGS),
        "load_symbols true\nbluescreen true\n# kireji: begin\nbluescreen false\n# kireji: end\n"
    );
    assert_eq!(
        text(&mut disk, PACKAGES),
        "Package haiku {\n# kireji: begin\n\tBlockedEntries {\n\
         \t\tadd-ons/kernel/boot/sample\n\t\tadd-ons/kernel/drivers/misc/sample\n\t}\n\
         # kireji: end\n # mine\n\tBlockedEntries {\n\t\tapps/x\n\t}\n}\n"
    );
    let boot = disk.lookup(b"home/config/non-packaged/add-ons/kernel/boot/sample").unwrap();
    assert_eq!(disk.read_link(boot).unwrap(), b"../drivers/misc/sample");
    // What a person writes there meanwhile stays.
    let edited = text(&mut disk, KERNEL_SETTINGS).replace("load_symbols true", "emergency_keys");
    put(&mut disk, KERNEL_SETTINGS, &format!("{edited}acpi true\n"));
    remove(&mut disk, "sample").unwrap();
    assert_eq!(text(&mut disk, KERNEL_SETTINGS), "emergency_keys\nbluescreen trueacpi true\n");
}

#[test]
fn what_two_drivers_want_stays_until_the_last_goes() {
    let mut disk = used();
    let before = everything(&mut disk);
    install(&mut disk, &plan(&[("one", "legacy.so")], How::default(), &target())).unwrap();
    install(&mut disk, &plan(&[("two", "legacy.so")], How::default(), &target())).unwrap();
    assert_eq!(text(&mut disk, KERNEL_SETTINGS).matches("bluescreen false").count(), 1);
    remove(&mut disk, "one").unwrap();
    assert!(text(&mut disk, KERNEL_SETTINGS).contains("bluescreen false"));
    assert!(disk.lookup(format!("{DRIVERS}/bin/two").as_bytes()).is_ok());
    remove(&mut disk, "two").unwrap();
    assert_eq!(everything(&mut disk), before);
}

#[test]
fn a_driver_that_moves_leaves_nothing_behind() {
    let mut disk = used();
    let before = everything(&mut disk);
    for place in ["misc/mine", "audio/hmulti/mine", "net/mine"] {
        let how = How { place: Some(place), ..How::default() };
        install(&mut disk, &plan(&[("sample", "legacy.so")], how, &target())).unwrap();
    }
    let all = everything(&mut disk);
    let links: Vec<_> = all.keys().filter(|path| path.contains("/dev/")).collect();
    assert_eq!(links.iter().filter(|path| path.ends_with("/mine")).count(), 1, "{links:?}");
    remove(&mut disk, "mine").unwrap();
    assert_eq!(everything(&mut disk), before);
}

#[test]
fn files_go_together() {
    let mut disk = disk();
    let before = everything(&mut disk);
    let both = [("one.so", "legacy.so"), ("two.so", "module.so")];
    let files = plan(&both, How::default(), &Target::default());
    assert_eq!(files.add_ons().count(), 2);
    install(&mut disk, &files).unwrap();
    remove(&mut disk, "sample").unwrap();
    assert_eq!(everything(&mut disk), before);

    let bytes = sample("legacy.so");
    let twice = [File { name: "a.so", bytes: &bytes }, File { name: "a", bytes: &bytes }];
    let error = Plan::new(&twice, How::default(), &Target::default());
    assert!(matches!(error, Err(PlanError::Twice(_))), "{error:?}");
    let how = How { place: Some("misc/a"), ..How::default() };
    let error = Plan::new(&twice, how, &Target::default());
    assert!(matches!(error, Err(PlanError::OnePlace { .. })), "{error:?}");
}

#[test]
fn both_halves_of_a_graphics_driver_are_wanted() {
    let half = plan(&[("card.so", "graphics.so")], How::default(), &Target::default());
    assert!(half.notes[0].contains("names the accelerant `sample.accelerant`"), "{:?}", half.notes);
    let halves = [("card.so", "graphics.so"), ("sample.accelerant", "accelerant.so")];
    let how = How { force: true, ..How::default() };
    let both = plan(&halves, how, &Target::default());
    assert_eq!(both.notes, [""; 0]);
    let paths: Vec<_> = both.items.iter().map(|item| item.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            format!("{DRIVERS}/bin/card"),
            format!("{DRIVERS}/dev/graphics/card"),
            "system/settings/launch/kireji-card".to_owned(),
            "home/config/non-packaged/add-ons/accelerants/sample.accelerant".to_owned(),
        ]
    );
    let other = plan(&halves[1..], how, &Target::default());
    assert!(other.notes[0].contains("one half of a graphics driver"), "{:?}", other.notes);
}

#[test]
fn a_package_has_the_same_files() {
    let both = [("one.so", "legacy.so"), ("two.so", "module.so")];
    let how = How { boot: true, ..How::default() };
    let entries = plan(&both, how, &Target::default()).package();
    let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "add-ons/kernel/drivers/bin/one",
            "add-ons/kernel/drivers/dev/misc/one",
            "data/launch/kireji-one",
            "add-ons/kernel/boot/one",
            "add-ons/kernel/drivers/misc/sample",
            "data/launch/kireji-sample",
            "add-ons/kernel/boot/sample",
        ]
    );
}

#[test]
fn what_cannot_be_done_changes_nothing() {
    let plan = plan(&[("sample", "legacy.so")], How::default(), &target());
    let cases: [fn(&mut Disk) -> NodeId; 4] = [
        |disk| put(disk, KERNEL_SETTINGS, "x {"),
        |disk| put(disk, PACKAGES, &"# x\n".repeat(8192)),
        |disk| put(disk, &format!("{DRIVERS}/bin/sample/x"), ""),
        |disk| put(disk, "home/config/settings/kireji/installed", "{\"schema\": 2}"),
    ];
    for case in cases {
        let mut disk = disk();
        case(&mut disk);
        let before = everything(&mut disk);
        install(&mut disk, &plan).unwrap_err();
        assert_eq!(everything(&mut disk), before);
    }
}

#[test]
fn a_record_that_somebody_wrote_does_not_lead_elsewhere() {
    let mut disk = disk();
    let record = r#"{"schema":1,"directories":[],"files":[],"installed":[{"items":
        [{"path":"a/../../b","add_on":true}],"settings":[]}]}"#;
    put(&mut disk, "home/config/settings/kireji/installed", record);
    let error = remove(&mut disk, "b").unwrap_err();
    assert!(matches!(error, InstallError::Record { .. }), "{error}");
}

#[test]
fn a_volume_that_fills_up_is_as_it_was() {
    let mut disk = used();
    let mut large = sample("legacy.so");
    let fill = vec![7; 4 << 20];
    for name in 0.. {
        if paths::write(&mut disk, &format!("fill/{name}"), 0o644, &fill).is_err() {
            break;
        }
    }
    let before = everything(&mut disk);
    large.resize(5 << 20, 0);
    let files = [File { name: "sample", bytes: &large }];
    let plan = Plan::new(&files, How::default(), &target()).unwrap();
    let error = install(&mut disk, &plan).unwrap_err();
    assert!(matches!(error, InstallError::Volume(bfs::Error::NoSpace { .. })), "{error}");
    assert_eq!(everything(&mut disk), before);
}

/// A process that dies between any two writes of blocks leaves a volume whose install can be taken
/// back.
#[test]
fn an_install_that_was_cut_off_is_taken_back() {
    let plan = plan(&[("sample", "legacy.so")], How::default(), &target());
    let mut whole = used();
    let before = everything(&mut whole);
    let start = whole.into_storage();
    let mut complete = 0;
    let mut died_in_between = 0;
    for writes in (0..).step_by(3) {
        let storage = Dying { bytes: start.clone(), left: writes };
        let mut disk = Volume::open(storage, &Options::default()).unwrap();
        let died = install(&mut disk, &plan).is_err();
        complete += usize::from(!died);
        let bytes = disk.into_storage().bytes;
        let mut disk = Volume::open(bytes, &Options::default()).unwrap();
        match remove(&mut disk, "sample") {
            // It died before anything was written down, or was taken back at once.
            Err(InstallError::NotInstalled(_)) => assert!(died),
            other => {
                drop(other.unwrap());
                died_in_between += usize::from(died);
            }
        }
        let mut after = everything(&mut disk);
        // Directories that were to be made have no record of their own yet.
        after.retain(|path, _| !path.starts_with("/home/config/settings/kireji"));
        assert_eq!(after, before, "after {writes} writes");
        if complete == 2 {
            assert!(died_in_between > 0);
            return;
        }
    }
}

/// Storage that fails after some writes.
struct Dying {
    bytes: Vec<u8>,
    left: usize,
}

impl Storage for Dying {
    fn size(&self) -> std::io::Result<u64> {
        self.bytes.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.bytes.read_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        self.left = self.left.checked_sub(1).ok_or(std::io::ErrorKind::Other)?;
        self.bytes.write_at(bytes, offset)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
