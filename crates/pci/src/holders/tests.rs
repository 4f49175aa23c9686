use testkit::tree::{Function as Fake, Tree};

use super::*;

const CARD: &str = "0000:01:00.0";
const OTHER: &str = "0000:02:00.0";

fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.add(Fake::new(CARD, 0x1002, 0x68c8).class(0x03_0000).group(12));
    tree.add(Fake::new(OTHER, 0x1002, 0x68c8).class(0x03_0000).group(13));
    tree.character(CARD, "226:0", "dri/card0");
    tree.character(CARD, "116:2", "snd/pcmC0D0p");
    tree.character(OTHER, "226:1", "dri/card1");
    tree
}

fn holders(tree: &Tree) -> Vec<String> {
    let host = tree.sysroot();
    let functions = Host::read(&host).unwrap();
    let wanted = [CARD.parse().unwrap()];
    let storage = Storage::read(&host, &BTreeSet::new()).unwrap();
    let holders = Holders::read(&host, &functions, &wanted, Some(&storage), &[99]);
    assert_eq!(holders.unseen, 0);
    let line = |one: &Holder| format!("{} {} {} {}", one.pid, one.command, one.node, one.is_vfio);
    holders.found.iter().map(line).collect()
}

#[test]
fn open_nodes_of_the_card_are_found() {
    let tree = tree();
    tree.process(70, "sh", &["/dev/pts/0", "/dev/null", "socket:[1]", "/home/dri/card0"]);
    tree.process(80, "Xorg", &["/dev/dri/card0", "/dev/dri/card0", "/dev/dri/card1"]);
    tree.process(81, "wireplumber", &["/dev/snd/pcmC0D0p"]);
    tree.process(82, "other", &["/dev/dri/card1"]);
    tree.process(99, "kireji", &["/dev/dri/card0"]);
    assert_eq!(
        holders(&tree),
        ["80 Xorg /dev/dri/card0 false", "81 wireplumber /dev/snd/pcmC0D0p false"]
    );
}

#[test]
fn vfio_nodes_are_those_of_the_group_or_the_function() {
    let tree = tree();
    tree.character(CARD, "511:0", "vfio/devices/vfio0");
    tree.process(80, "qemu", &["/dev/vfio/vfio", "/dev/vfio/12"]);
    tree.process(81, "qemu", &["/dev/vfio/13"]);
    tree.process(82, "qemu", &["/dev/vfio/devices/vfio0"]);
    assert_eq!(
        holders(&tree),
        ["80 qemu /dev/vfio/12 true", "82 qemu /dev/vfio/devices/vfio0 true"]
    );
}

#[test]
fn nodes_and_regions_that_sysfs_does_not_tie_to_the_card_are_found() {
    let tree = tree();
    tree.write(
        "/proc/driver/nvidia/gpus/0000:01:00.0/information",
        "Model: X\nDevice Minor: \t 3\n",
    );
    let region = format!("{}/resource0", tree.device(CARD));
    tree.process(80, "render", &["/dev/nvidia3", "/dev/nvidia0"]);
    tree.process(81, "flash", &[&region, &format!("{}/config", tree.device(CARD))]);
    tree.process(82, "flash", &[&format!("{}/resource0", tree.device(OTHER))]);
    assert_eq!(
        holders(&tree),
        ["80 render /dev/nvidia3 false".to_owned(), format!("81 flash {region} false")]
    );
}

#[test]
fn disks_are_held_by_their_nodes() {
    let tree = tree();
    tree.disk(CARD, "sda", 1 << 20);
    tree.partition("sda", "sda1", 1 << 20);
    tree.multipath_disk(&[CARD, OTHER], "nvme0n1", 1 << 20);
    tree.process(80, "qemu", &["/dev/sda1"]);
    tree.process(81, "dd", &["/dev/nvme0n1"]);
    assert_eq!(holders(&tree), ["80 qemu /dev/sda1 false", "81 dd /dev/nvme0n1 false"]);
}

#[test]
fn this_machine_can_be_looked_through() {
    let host = Sysroot::host().unwrap();
    let functions = Host::read(&host).unwrap();
    let all: Vec<_> = functions.functions().map(|function| function.address).collect();
    let holders = Holders::read(&host, &functions, &all, None, &[]);
    assert!(holders.found.iter().all(|holder| holder.pid != std::process::id()));
}
