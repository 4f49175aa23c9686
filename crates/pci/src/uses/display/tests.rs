use testkit::tree::{Bar, Function as Fake, Tree};

use super::*;

const CARD: &str = "0000:01:00.0";

fn tree(driver: Option<&str>) -> Tree {
    let mut tree = Tree::new();
    let card = Fake::new(CARD, 0x1002, 0x68c8)
        .class(0x03_0000)
        .bar(0, 0xe000_0000, 0x1000_0000, Bar::Memory64)
        .attribute("boot_vga", "1\n");
    tree.add(match driver {
        Some(driver) => card.driver(driver),
        None => card,
    });
    tree
}

fn displays(tree: &Tree) -> Vec<Display> {
    let functions = Host::read(&tree.sysroot()).unwrap();
    read(&tree.sysroot(), &functions).unwrap()
}

#[test]
fn connectors_with_a_screen_are_listed() {
    let tree = tree(Some("amdgpu"));
    tree.connector(CARD, "card0", "HDMI-A-1", true);
    tree.connector(CARD, "card0", "DP-1", false);
    tree.directory("/sys/class/drm/renderD128");
    let displays = displays(&tree);
    assert_eq!(displays[0].is_boot_vga, Some(true));
    let screens = displays[0].screens.known().unwrap();
    assert_eq!(screens.len(), 1);
    assert_eq!(screens[0].connector, "HDMI-A-1");
}

#[test]
fn a_driver_without_connectors_leaves_screens_unmeasured() {
    for (driver, known) in [(Some("nvidia"), false), (None, true), (Some("vfio-pci"), true)] {
        let displays = displays(&tree(driver));
        assert_eq!(displays[0].screens.known().is_some(), known, "{driver:?}");
    }
}

#[test]
fn the_picture_of_the_boot_is_found_in_a_region() {
    let tree = tree(None);
    assert_eq!(displays(&tree)[0].boot_framebuffer, None);
    // As an ordinary user sees it; the second picture is in no function's region.
    tree.write(
        "/proc/iomem",
        "00000000-00000000 : PCI Bus 0000:00\n\
         \u{20} 00000000-00000000 : 0000:01:00.0\n\
         \u{20}   00000000-00000000 : BOOTFB\n\
         \u{20} 00000000-00000000 : 0000:02:00.0\n\
         00000000-00000000 : BOOTFB\n",
    );
    let displays = displays(&tree);
    assert_eq!(displays.len(), 1);
    assert_eq!(displays[0].boot_framebuffer.as_deref(), Some("BOOTFB"));
}
