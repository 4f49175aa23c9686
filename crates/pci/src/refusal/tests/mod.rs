//! Each code with a tree that provokes it and a near miss, through the whole way from files to
//! refusals.

mod storage;

use std::collections::BTreeSet;

use testkit::tree::{Function as Fake, Port, Tree};

use super::*;
use crate::uses::Scope;

const CARD: &str = "0000:03:00.0";
const OTHER: &str = "0000:04:00.0";
const MIB: u64 = 1 << 20;

/// What is asked of a tree.
#[derive(Default)]
struct Ask {
    targets: Vec<Target>,
    with_group: bool,
    allow: Vec<Allow>,
    force_unbind: bool,
    session: Option<String>,
}

fn card(address: &str) -> Ask {
    Ask { targets: vec![Target::Card(address.parse().unwrap())], ..Ask::default() }
}

fn function(address: &str) -> Ask {
    Ask { targets: vec![Target::Function(address.parse().unwrap())], ..Ask::default() }
}

fn verdict(tree: &Tree, ask: &Ask) -> (Selection, Verdict) {
    let sysroot = tree.sysroot();
    let host = Host::read(&sysroot).unwrap();
    let selection = select(&host, &ask.targets, ask.with_group);
    let scope = Scope {
        examined: selection.functions.iter().copied().collect::<BTreeSet<_>>(),
        session: ask.session.clone(),
    };
    let uses = Uses::read(&sysroot, &host, &scope);
    let storage = uses.storage.known();
    let holders = Holders::read(&sysroot, &host, &selection.functions, storage, &[]);
    let options = Options { allow: ask.allow.clone(), force_unbind: ask.force_unbind };
    let verdict = judge(&host, &selection, &uses, Some(&holders), &options);
    (selection, verdict)
}

/// The refusals as lines, each with the option that overrides it.
fn refusals(tree: &Tree, ask: &Ask) -> Vec<String> {
    let (_, verdict) = verdict(tree, ask);
    let line = |refusal: &Refusal| {
        let option = refusal.option().unwrap_or_else(|| "never".to_owned());
        format!("{}: {} [{option}]", refusal.code, refusal.reason)
    };
    verdict.refused.iter().map(line).collect()
}

const NONE: [&str; 0] = [];

/// A card below a slot, and one of the host's own.
fn tree(class: u32, driver: Option<&str>) -> Tree {
    let mut tree = Tree::new();
    tree.add(Fake::port("0000:00:1c.0", Port::Root, 3).slot().group(1).driver("pcieport"));
    tree.add(Fake::port("0000:00:1d.0", Port::Root, 4).slot().group(2).driver("pcieport"));
    let card = Fake::new(CARD, 0x8086, 0x10d3).class(class).below("0000:00:1c.0").group(12);
    tree.add(match driver {
        Some(driver) => card.driver(driver),
        None => card,
    });
    tree.add(Fake::new(OTHER, 0x8086, 0x10d3).class(class).below("0000:00:1d.0").group(13));
    tree
}

fn nic() -> Tree {
    let tree = tree(0x02_0000, Some("e1000e"));
    tree.interface(CARD, "eth0", false);
    tree
}

fn nvme() -> Tree {
    let tree = tree(0x01_0802, Some("nvme"));
    tree.disk(CARD, "nvme0n1", 500 * MIB);
    tree
}

fn display(driver: Option<&str>) -> Tree {
    let tree = tree(0x03_0000, driver);
    for (address, flag) in [(CARD, "0\n"), (OTHER, "1\n")] {
        tree.write(&format!("{}/boot_vga", tree.device(address)), flag);
    }
    tree
}

#[test]
fn an_idle_card_is_free() {
    for tree in [nic(), nvme(), tree(0x04_0300, Some("snd_hda_intel")), tree(0x0c_0330, None)] {
        let (selection, verdict) = verdict(&tree, &card(CARD));
        assert!(verdict.is_free(), "{verdict:#?}");
        assert_eq!(selection.functions, [CARD.parse().unwrap()]);
    }
}

#[test]
fn bridges_are_refused_and_stay_behind_in_a_card() {
    let mut tree = Tree::new();
    tree.add(Fake::port("0000:00:1c.0", Port::Root, 3).slot());
    tree.add(Fake::port("0000:03:00.0", Port::Upstream, 4).below("0000:00:1c.0").group(12));
    tree.add(Fake::port("0000:04:00.0", Port::Downstream, 5).below("0000:03:00.0").group(12));
    tree.add(Fake::new("0000:05:00.0", 0x1002, 1).class(0x12_0000).below("0000:04:00.0").group(12));
    tree.add(Fake::new("0000:00:00.0", 0x8086, 1).class(0x06_0000));
    tree.add(Fake::new("0000:00:00.2", 0x1022, 1).class(0x08_0600));
    for ask in [card("00:1c.0"), card("00:00.0"), card("00:00.2"), function("03:00.0")] {
        let refusals = refusals(&tree, &ask);
        assert!(refusals[0].starts_with("E-BRIDGE: 0000:0"), "{refusals:?}");
        assert!(refusals[0].ends_with("[never]"), "{refusals:?}");
    }
    // The card is named by its switch; only what is behind that goes.
    let (selection, verdict) = verdict(&tree, &card("03:00.0"));
    assert!(verdict.is_free(), "{verdict:#?}");
    assert_eq!(selection.functions, ["0000:05:00.0".parse().unwrap()]);
}

#[test]
fn a_card_that_cannot_be_told_is_refused() {
    let mut tree = Tree::new();
    tree.add(Fake::port("0000:00:1c.0", Port::Root, 3).slot().visible(64));
    for number in 0..2 {
        let address = format!("0000:03:{number:02x}.0");
        tree.add(Fake::new(&address, 0x8086, 1).class(0x02_0000).below("0000:00:1c.0").group(1));
    }
    let refusals = refusals(&tree, &card(CARD));
    assert!(refusals[0].starts_with("E-UNMEASURED: 0000:03:00.0: which functions"), "{refusals:?}");
    assert!(refusals[0].ends_with("[never]"));
}

fn shared_group(driver: Option<&str>) -> Tree {
    let mut tree = nic();
    let stranger = Fake::new("0000:05:00.0", 0x1b36, 1).class(0x08_0500).group(12);
    tree.add(match driver {
        Some(driver) => stranger.driver(driver),
        None => stranger,
    });
    tree
}

#[test]
fn a_shared_group_needs_all_of_it() {
    let tree = shared_group(Some("sdhci-pci"));
    assert_eq!(
        refusals(&tree, &card(CARD)),
        ["E-GROUP-SHARED: 0000:03:00.0 → IOMMU group 12 → 0000:05:00.0 (sdhci-pci) [--with-group]"]
    );
    let ask = Ask { with_group: true, ..card(CARD) };
    let (selection, verdict) = verdict(&tree, &ask);
    assert!(verdict.is_free(), "{verdict:#?}");
    assert_eq!(selection.functions.len(), 2);
    let mut ask = card(CARD);
    ask.targets.extend(card("05:00.0").targets);
    assert_eq!(refusals(&tree, &ask), NONE);
    // Without a driver it still is another's.
    assert_eq!(refusals(&shared_group(None), &card(CARD)).len(), 1);
}

#[test]
fn what_comes_with_the_group_passes_every_other_check() {
    let tree = shared_group(Some("sdhci-pci"));
    tree.disk("0000:05:00.0", "mmcblk0", MIB);
    tree.mount(&tree.block_number("mmcblk0"), "/", "ext4", "/dev/mmcblk0");
    let ask = Ask { with_group: true, ..card(CARD) };
    assert_eq!(refusals(&tree, &ask), ["E-STORAGE-MOUNTED: 0000:05:00.0 → mmcblk0 → / [never]"]);
}

#[test]
fn bridges_in_the_group_are_no_strangers_unless_a_driver_has_them() {
    let mut tree = nic();
    tree.add(Fake::port("0000:00:1e.0", Port::Conventional, 9).group(12).driver("pcieport"));
    tree.add(Fake::new("0000:00:1f.0", 0x8086, 1).class(0x06_0100).group(12));
    assert_eq!(refusals(&tree, &card(CARD)), NONE);
    tree.bind("0000:00:1f.0", "lpc_ich");
    let ask = Ask { with_group: true, ..card(CARD) };
    assert_eq!(
        refusals(&tree, &ask),
        ["E-GROUP-SHARED: 0000:03:00.0 → IOMMU group 12 → 0000:00:1f.0 (lpc_ich) [never]"]
    );
}

#[test]
fn one_function_takes_those_of_its_card_that_share_its_group() {
    let mut tree = nic();
    for (number, group) in [(1, 12), (2, 20)] {
        let address = format!("0000:03:00.{number}");
        tree.add(
            Fake::new(&address, 0x8086, 1).class(0x02_0000).below("0000:00:1c.0").group(group),
        );
    }
    let selected = |ask: &Ask| -> Vec<String> {
        let (selection, verdict) = verdict(&tree, ask);
        assert!(verdict.is_free(), "{verdict:#?}");
        selection.functions.iter().map(Address::to_string).collect()
    };
    assert_eq!(selected(&function(CARD)), ["0000:03:00.0", "0000:03:00.1"]);
    assert_eq!(selected(&function("03:00.2")), ["0000:03:00.2"]);
    assert_eq!(selected(&card("03:00.1")).len(), 3);
}

#[test]
fn without_an_iommu_group_it_is_refused() {
    let mut tree = Tree::new();
    tree.add(Fake::new(CARD, 0x8086, 0x10d3).class(0x02_0000));
    let expected = "E-NO-IOMMU-GROUP: 0000:03:00.0 is in no IOMMU group [--allow E-NO-IOMMU-GROUP]";
    assert_eq!(refusals(&tree, &card(CARD)), [expected]);
    let ask = Ask { allow: vec![Allow::Code(Code::NoGroup)], ..card(CARD) };
    let (_, verdict) = verdict(&tree, &ask);
    assert!(verdict.is_free());
    assert_eq!(verdict.allowed[0].code, Code::NoGroup);
}

#[test]
fn virtual_functions_go_with_their_physical_one() {
    let mut tree = nic();
    tree.add(
        Fake::new("0000:03:10.0", 0x8086, 0x10ca)
            .class(0x02_0000)
            .below("0000:00:1c.0")
            .virtual_of(CARD)
            .group(30),
    );
    assert_eq!(
        refusals(&tree, &card(CARD)),
        ["E-VIRTUAL-FUNCTIONS: 0000:03:00.0 → virtual function 0000:03:10.0 [never]"]
    );
    assert_eq!(refusals(&tree, &card("03:10.0")), NONE);
}

#[test]
fn a_display_on_its_native_driver_goes_by_force_only() {
    let tree = display(Some("amdgpu"));
    tree.connector(CARD, "card0", "DP-1", false);
    assert_eq!(
        refusals(&tree, &card(CARD)),
        ["E-DISPLAY-NATIVE: 0000:03:00.0 is a display on its driver amdgpu [--force-unbind]"]
    );
    assert_eq!(refusals(&tree, &Ask { force_unbind: true, ..card(CARD) }), NONE);
    for driver in [None, Some("vfio-pci"), Some("pci-stub")] {
        assert_eq!(refusals(&display(driver), &card(CARD)), NONE, "{driver:?}");
    }
}

#[test]
fn the_boot_display_stays() {
    let tree = display(None);
    assert_eq!(
        refusals(&tree, &card(OTHER)),
        ["E-BOOT-DISPLAY: 0000:04:00.0 → the display that the firmware chose for the boot \
          [--allow E-BOOT-DISPLAY]"]
    );
    // Reserved at boot, it keeps the flag and shows nothing.
    tree.bind(OTHER, "vfio-pci");
    assert_eq!(refusals(&tree, &card(OTHER)), NONE);
    // Unless the boot's picture still lies in its memory.
    tree.write("/proc/iomem", "0-0 : 0000:04:00.0\n  0-0 : BOOTFB\n");
    assert_eq!(
        refusals(&tree, &card(OTHER)),
        ["E-BOOT-DISPLAY: 0000:04:00.0 → BOOTFB, the boot's picture, in its memory \
          [--allow E-BOOT-DISPLAY]"]
    );
    tree.remove(&format!("{}/boot_vga", tree.device(CARD)));
    let refusals = refusals(&tree, &card(CARD));
    assert!(refusals[0].starts_with("E-UNMEASURED: 0000:03:00.0: whether it is the boot display"));
}

#[test]
fn the_last_screen_stays() {
    let forced = || Ask { force_unbind: true, ..card(CARD) };
    let tree = display(Some("amdgpu"));
    tree.bind(OTHER, "i915");
    tree.connector(CARD, "card0", "DP-1", true);
    tree.connector(OTHER, "card1", "HDMI-A-1", false);
    assert_eq!(
        refusals(&tree, &forced()),
        ["E-LAST-SCREEN: 0000:03:00.0 → DP-1 [--allow E-LAST-SCREEN]"]
    );
    tree.connector(OTHER, "card1", "HDMI-A-2", true);
    assert_eq!(refusals(&tree, &forced()), NONE);
    // A picture that no driver of its own shows is one too.
    tree.write("/sys/class/drm/card1-HDMI-A-2/status", "disconnected\n");
    assert_eq!(refusals(&tree, &forced()).len(), 1);
    tree.write("/proc/iomem", "0-0 : 0000:04:00.0\n  0-0 : simpledrm\n");
    assert_eq!(refusals(&tree, &forced()), NONE);
    // Where a driver shows no connectors, nobody knows.
    for (mine, other, expected) in [
        ("amdgpu", "nvidia", "whether another display has a screen"),
        ("nvidia", "nvidia", "whether the last screen hangs on it"),
    ] {
        let tree = display(Some(mine));
        tree.bind(OTHER, other);
        if mine == "amdgpu" {
            tree.connector(CARD, "card0", "DP-1", true);
        }
        let refusals = refusals(&tree, &forced());
        assert!(refusals[0].contains(expected), "{refusals:?}");
    }
}

const ANY: [u8; 4] = [0; 4];

#[test]
fn the_interface_of_the_default_route_stays() {
    let tree = nic();
    tree.route("eth0", [10, 0, 0, 0], ANY, [255, 0, 0, 0]);
    assert_eq!(refusals(&tree, &card(CARD)), NONE);
    tree.upper_interface("br0", &["eth0"]);
    tree.route("br0", ANY, [10, 0, 0, 1], ANY);
    assert_eq!(
        refusals(&tree, &card(CARD)),
        ["E-NIC-DEFAULT-ROUTE: 0000:03:00.0 → eth0 → br0 → the default route \
          [--allow E-NIC-DEFAULT-ROUTE]"]
    );
    assert_eq!(refusals(&tree, &card(OTHER)), NONE);
}

#[test]
fn the_interface_of_the_session_stays() {
    let tree = tree(0x02_0000, Some("e1000e"));
    tree.interface(CARD, "eth0", true);
    tree.route("eth0", [192, 168, 1, 0], ANY, [255, 255, 255, 0]);
    let ask = |address: &str| Ask {
        session: Some(address.to_owned()),
        allow: vec![Allow::Code(Code::NicUp)],
        ..card(CARD)
    };
    assert_eq!(
        refusals(&tree, &ask("192.168.1.5")),
        ["E-NIC-SSH: 0000:03:00.0 → eth0 → this session (192.168.1.5) [--allow E-NIC-SSH]"]
    );
    let unplaced = refusals(&tree, &ask("172.16.0.1"));
    assert!(
        unplaced[0].starts_with("E-UNMEASURED: 0000:03:00.0: whether eth0 carries this session")
    );
    tree.route("eth7", [172, 16, 0, 0], ANY, [255, 255, 0, 0]);
    assert_eq!(refusals(&tree, &ask("172.16.0.1")), NONE);
}

#[test]
fn an_interface_that_is_up_is_in_use() {
    let tree = nic();
    tree.interface(CARD, "eth1", true);
    assert_eq!(
        refusals(&tree, &card(CARD)),
        ["E-NIC-UP: 0000:03:00.0 → eth1, which is up [--allow E-NIC-UP]"]
    );
}

#[test]
fn storage_of_the_network_is_never_cut_off() {
    let tree = nic();
    tree.route("eth0", [10, 0, 0, 0], ANY, [255, 0, 0, 0]);
    tree.write("/proc/self/mountinfo", "30 1 0:50 / / rw - nfs4 s:/ rw,addr=10.1.0.7\n");
    assert_eq!(
        refusals(&tree, &card(CARD)),
        ["E-NIC-STORAGE: 0000:03:00.0 → eth0 → / from 10.1.0.7 [never]"]
    );
    tree.write("/proc/self/mountinfo", "30 1 0:50 / / rw - nfs4 s:/ rw,addr=192.168.0.7\n");
    assert_eq!(refusals(&tree, &card(CARD)), NONE);
}

#[test]
fn the_last_keyboard_stays() {
    let tree = tree(0x0c_0330, Some("xhci_hcd"));
    tree.keyboard(Some(CARD), "A keyboard");
    assert_eq!(
        refusals(&tree, &card(CARD)),
        ["E-LAST-KEYBOARD: 0000:03:00.0 → A keyboard [--allow E-LAST-KEYBOARD]"]
    );
    tree.keyboard(None, "A laptop's own");
    assert_eq!(refusals(&tree, &card(CARD)), NONE);
    tree.remove("/proc/bus/input/devices");
    let refusals = self::refusals(&tree, &card(CARD));
    assert!(refusals[0].starts_with("E-UNMEASURED: 0000:03:00.0: whether the last keyboard"));
    assert_eq!(self::refusals(&nic(), &card(CARD)), NONE);
}

#[test]
fn holders_are_named() {
    let tree = tree(0x04_0300, Some("snd_hda_intel"));
    tree.character(CARD, "116:2", "snd/controlC0");
    tree.character(CARD, "116:3", "snd/pcmC0D0p");
    tree.process(70, "wireplumber", &["/dev/snd/controlC0", "/dev/snd/pcmC0D0p"]);
    tree.process(71, "mpv", &["/dev/snd/other"]);
    assert_eq!(
        refusals(&tree, &card(CARD)),
        ["E-IN-USE: 0000:03:00.0 → /dev/snd/controlC0 and 1 more → wireplumber (pid 70) \
          [--allow E-IN-USE]"]
    );
    tree.remove("/proc/70");
    tree.process(72, "qemu-system-x86", &["/dev/vfio/13"]);
    assert_eq!(refusals(&tree, &card(CARD)), NONE);
    tree.process(73, "qemu-system-x86", &["/dev/vfio/12"]);
    assert_eq!(
        refusals(&tree, &card(CARD)),
        ["E-VFIO-IN-USE: 0000:03:00.0 → /dev/vfio/12 → qemu-system-x86 (pid 73) [never]"]
    );
}

#[test]
fn processes_that_cannot_be_looked_into_may_hold_it() {
    let tree = nic();
    let sysroot = tree.sysroot();
    let host = Host::read(&sysroot).unwrap();
    let selection = select(&host, &card(CARD).targets, false);
    let uses = Uses::read(&sysroot, &host, &Scope::default());
    let holders = Holders { unseen: 3, ..Holders::default() };
    let judged = |holders| judge(&host, &selection, &uses, holders, &Options::default());
    let verdict = judged(Some(&holders));
    assert_eq!(verdict.refused[0].code, Code::Unmeasured);
    assert!(verdict.refused[0].reason.contains("3 processes"));
    assert!(judged(None).is_free());
}

#[test]
fn facts_that_could_not_be_read_at_all_refuse_what_they_would_decide() {
    let (nic, display) = (nic(), display(None));
    let judged = |tree: &Tree, spoil: fn(&mut Uses)| -> Vec<(Code, Overriding)> {
        let host = Host::read(&tree.sysroot()).unwrap();
        let selection = select(&host, &card(CARD).targets, false);
        let mut uses = Uses::read(&tree.sysroot(), &host, &Scope::default());
        spoil(&mut uses);
        let verdict = judge(&host, &selection, &uses, None, &Options::default());
        verdict.refused.into_iter().map(|refusal| (refusal.code, refusal.overriding)).collect()
    };
    let by_code = [(Code::Unmeasured, Overriding::Code)];
    let never = [(Code::Unmeasured, Overriding::Never)];
    assert_eq!(judged(&nic, |uses| uses.storage = Measured::unmeasured("unread")), never);
    assert_eq!(judged(&nic, |uses| uses.network = Measured::unmeasured("unread")), by_code);
    assert_eq!(judged(&display, |uses| uses.network = Measured::unmeasured("unread")), []);
    assert_eq!(judged(&display, |uses| uses.displays = Measured::unmeasured("unread")), by_code);
    assert_eq!(judged(&nic, |uses| uses.displays = Measured::unmeasured("unread")), []);
}

#[test]
fn an_unknown_address_selects_nothing() {
    assert_eq!(verdict(&nic(), &card("7f:00.0")).0, Selection::default());
}

#[test]
fn a_refusal_is_plain_data() {
    let tree = nvme();
    tree.put("nvme0n1", 3, b"NTFS    ");
    let json = serde_json::to_value(verdict(&tree, &card(CARD)).1).unwrap();
    let refusal = &json["refused"][0];
    assert_eq!(refusal["code"], "E-DISK-DATA");
    assert_eq!(refusal["function"], CARD);
    assert_eq!(refusal["overriding"]["serial"], "SERIAL-nvme0n1");
}
