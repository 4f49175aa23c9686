//! Storage, from whole trees; the smaller parts have their tests beside them.

use std::collections::BTreeSet;

use proptest::prelude::*;
use testkit::tree::{Function as Fake, Port, Tree};

use super::*;

const NVME: &str = "0000:03:00.0";
const MIB: u64 = 1 << 20;

fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.add(Fake::port("0000:00:1d.0", Port::Root, 3).slot());
    tree.add(Fake::new(NVME, 0x144d, 0xa80a).class(0x01_0802).below("0000:00:1d.0").driver("nvme"));
    tree.add(Fake::new("0000:00:17.0", 0x8086, 0xa282).class(0x01_0601).driver("ahci"));
    tree.disk(NVME, "nvme0n1", 64 * MIB);
    tree
}

fn storage(tree: &Tree) -> Storage {
    let examined = BTreeSet::from([NVME.parse().unwrap()]);
    Storage::read(&tree.sysroot(), &examined).unwrap()
}

/// The uses of the first disk, each as one line.
fn uses(tree: &Tree) -> Vec<String> {
    let storage = storage(tree);
    let uses = storage.disks[0].uses.known().unwrap();
    uses.iter()
        .map(|one| {
            let way: Vec<_> = one
                .way
                .iter()
                .map(|node| match &node.label {
                    Some(label) => format!("{} ({label})", node.name),
                    None => node.name.clone(),
                })
                .collect();
            format!("{}: {:?}", way.join(" "), one.purpose)
        })
        .collect()
}

fn mounted(points: &[&str], file_system: &str) -> String {
    format!("Mounted {{ points: {points:?}, file_system: {file_system:?} }}")
}

#[test]
fn a_disk_is_described() {
    let tree = tree();
    let storage = storage(&tree);
    let disk = &storage.disks[0];
    assert_eq!(disk.functions, ["0000:03:00.0".parse().unwrap(), "0000:00:1d.0".parse().unwrap()]);
    assert_eq!((disk.size, disk.identity()), (64 * MIB, "SERIAL-nvme0n1"));
    assert_eq!(disk.model.as_deref(), Some("A disk"));
    assert_eq!(disk.uses, Measured::Known(vec![]));
    assert_eq!(disk.contents, Measured::Known(vec![]));
    assert_eq!(storage.behind(&["0000:00:1d.0".parse().unwrap()]).count(), 1);
    assert_eq!(storage.behind(&["0000:00:17.0".parse().unwrap()]).count(), 0);
}

#[test]
fn serial_numbers_come_from_wherever_they_are() {
    let tree = tree();
    tree.disk("0000:00:17.0", "sda", MIB);
    let directory = format!("{}/controller/sda", tree.device("0000:00:17.0"));
    tree.remove(&format!("{directory}/device/serial"));
    let identity = |tree: &Tree| storage(tree).disks[1].identity().to_owned();
    assert_eq!(identity(&tree), "sda");
    tree.write(&format!("{directory}/wwid"), "naa.5000\n");
    assert_eq!(identity(&tree), "naa.5000");
    let number = tree.block_number("sda");
    tree.write(&format!("/run/udev/data/b{number}"), "E:ID_SERIAL_SHORT=UDEV1\n");
    assert_eq!(identity(&tree), "UDEV1");
    tree.write(&format!("{directory}/device/vpd_pg80"), b"\0\x80\0\x04 S1 \0");
    assert_eq!(identity(&tree), "S1");
}

#[test]
fn mounts_are_found_through_what_is_stacked() {
    let tree = tree();
    tree.partition("nvme0n1", "nvme0n1p2", 32 * MIB);
    tree.stacked("dm-0", Some("cryptroot"), &["nvme0n1p2"]);
    tree.stacked("dm-1", Some("vg-root"), &["dm-0"]);
    tree.stacked("dm-2", Some("vg-swap"), &["dm-0"]);
    tree.stacked("dm-3", Some("vg-spare"), &["dm-0"]);
    tree.mount(&tree.block_number("dm-1"), "/var/lib", "ext4", "/dev/mapper/vg-root");
    tree.mount(&tree.block_number("dm-1"), "/", "ext4", "/dev/mapper/vg-root");
    tree.write("/proc/swaps", "Filename Type\n/dev/mapper/vg-swap partition\n");
    let way = "nvme0n1 nvme0n1p2 dm-0 (cryptroot)";
    assert_eq!(
        uses(&tree),
        [
            format!("{way} dm-1 (vg-root): {}", mounted(&["/", "/var/lib"], "ext4")),
            format!("{way} dm-2 (vg-swap): Swap"),
            format!("{way} dm-3 (vg-spare): Active"),
        ]
    );
}

#[test]
fn a_mount_of_another_disk_is_none_of_this_one() {
    let tree = tree();
    tree.disk("0000:00:17.0", "sda", MIB);
    tree.mount(&tree.block_number("sda"), "/", "ext4", "/dev/sda");
    assert_eq!(uses(&tree), [""; 0]);
    assert_eq!(storage(&tree).disks[1].uses.known().unwrap().len(), 1);
}

#[test]
fn a_raid_over_two_functions_is_found_from_both() {
    let tree = tree();
    tree.disk("0000:00:17.0", "sda", MIB);
    tree.stacked("md0", None, &["nvme0n1", "sda"]);
    tree.partition("md0", "md0p1", MIB);
    tree.mount(&tree.block_number("md0p1"), "/srv", "xfs", "/dev/md0p1");
    let expected = mounted(&["/srv"], "xfs");
    assert_eq!(uses(&tree), [format!("nvme0n1 md0 md0p1: {expected}")]);
    assert_eq!(storage(&tree).disks[1].uses.known().unwrap()[0].way[0].name, "sda");
}

#[test]
fn file_systems_over_several_disks_have_no_number_of_their_own() {
    let tree = tree();
    tree.partition("nvme0n1", "nvme0n1p1", MIB);
    tree.disk("0000:00:17.0", "sda", MIB);
    // The mount names the other member.
    tree.mount("0:35", "/home", "btrfs", "/dev/sda");
    tree.directory("/sys/fs/btrfs/features");
    for member in ["sda", "nvme0n1p1"] {
        tree.link(&format!("/sys/fs/btrfs/0000-1111/devices/{member}"), "/sys/devices");
    }
    assert_eq!(uses(&tree), [format!("nvme0n1 nvme0n1p1: {}", mounted(&["/home"], "btrfs"))]);

    let tree = self::tree();
    tree.mount("0:36", "/data", "bcachefs", "/dev/sda:/dev/nvme0n1");
    tree.link("/sys/fs/bcachefs/0000-2222/dev-0/block", "/sys/devices/x/nvme0n1");
    assert_eq!(uses(&tree), [format!("nvme0n1: {}", mounted(&["/data"], "bcachefs"))]);
}

#[test]
fn a_member_of_a_zfs_pool_is_in_use_unless_it_tells_otherwise() {
    let member = |name: &[u8]| {
        let tree = tree();
        tree.put("nvme0n1", 128 << 10, b"\x0c\xb1\xba\0\0\0\0\0");
        if !name.is_empty() {
            let mut pair = b"\0\0\0\x04name\0\0\0\x09\0\0\0\x01\0\0\0\x04".to_vec();
            pair.extend(name);
            tree.put("nvme0n1", 16 << 10, &pair);
        }
        tree
    };
    let tree = member(b"tank");
    assert_eq!(uses(&tree), [""; 0]);
    tree.mount("0:40", "/tank", "zfs", "tank/data");
    assert_eq!(uses(&tree), ["nvme0n1: Zfs { pool: Some(\"tank\") }"]);

    let tree = member(b"cold");
    tree.mount("0:40", "/tank", "zfs", "tank/data");
    assert_eq!(uses(&tree), [""; 0]);
    // Imported, with nothing mounted.
    tree.directory("/proc/spl/kstat/zfs/cold");
    tree.write("/proc/spl/kstat/zfs/arcstats", "");
    assert_eq!(uses(&tree), ["nvme0n1: Zfs { pool: Some(\"cold\") }"]);

    let tree = member(b"");
    tree.mount("0:40", "/tank", "zfs", "tank");
    assert_eq!(uses(&tree), ["nvme0n1: Zfs { pool: None }"]);
}

#[test]
fn a_disk_of_two_ports_hangs_on_both() {
    let mut tree = Tree::new();
    tree.add(Fake::new(NVME, 0x144d, 0xa80a).class(0x01_0802));
    tree.add(Fake::new("0000:04:00.0", 0x144d, 0xa80a).class(0x01_0802));
    tree.multipath_disk(&[NVME, "0000:04:00.0"], "nvme0n1", MIB);
    tree.partition("nvme0n1", "nvme0n1p1", MIB);
    tree.mount(&tree.block_number("nvme0n1p1"), "/", "ext4", "/dev/nvme0n1p1");
    let storage = storage(&tree);
    assert_eq!(storage.disks.len(), 1);
    let functions: Vec<_> = storage.disks[0].functions.iter().map(Address::to_string).collect();
    assert_eq!(functions, [NVME, "0000:04:00.0"]);
    assert_eq!(storage.disks[0].identity(), "SERIAL-nvme0n1");
    assert_eq!(uses(&tree), [format!("nvme0n1 nvme0n1p1: {}", mounted(&["/"], "ext4"))]);
}

#[test]
fn a_loop_device_over_a_partition_counts() {
    let tree = tree();
    tree.stacked("loop0", None, &[]);
    tree.write("/sys/devices/virtual/block/loop0/loop/backing_file", "/dev/nvme0n1\n");
    tree.mount(&tree.block_number("loop0"), "/mnt", "ext4", "/dev/loop0");
    assert_eq!(uses(&tree), [format!("nvme0n1 loop0: {}", mounted(&["/mnt"], "ext4"))]);
}

#[test]
fn the_partition_that_this_boot_started_from_is_known() {
    let tree = tree();
    tree.partition("nvme0n1", "nvme0n1p1", MIB);
    let mut variable = vec![6, 0, 0, 0];
    variable.extend("ABCD-01\0".encode_utf16().flat_map(u16::to_le_bytes));
    tree.write(
        "/sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
        variable,
    );
    assert_eq!(uses(&tree), [""; 0]);
    tree.link_text("/dev/disk/by-partuuid/abcd-01", "../../nvme0n1p1");
    assert_eq!(uses(&tree), ["nvme0n1 nvme0n1p1: BootPartition"]);
}

#[test]
fn what_the_host_means_to_mount_is_told() {
    let tree = tree();
    tree.partition("nvme0n1", "nvme0n1p1", MIB);
    tree.put("nvme0n1p1", 0x438, b"\x53\xef");
    tree.put("nvme0n1p1", 0x478, b"music");
    tree.link_text("/dev/disk/by-uuid/11-22", "../../nvme0n1p1");
    tree.write(
        "/etc/fstab",
        "LABEL=music /music ext4\nUUID=11-22 /two ext4\n/dev/sda /other ext4\nproc /proc proc\n",
    );
    let points: Vec<_> =
        storage(&tree).disks[0].mentions.iter().map(|mention| mention.purpose.clone()).collect();
    assert_eq!(points, ["/music", "/two"]);
}

fn contents(tree: &Tree) -> String {
    match &storage(tree).disks[0].contents {
        Measured::Known(contents) => {
            contents.iter().map(Content::to_string).collect::<Vec<_>>().join(", ")
        }
        Measured::Unmeasured { unmeasured } => format!("unmeasured: {unmeasured}"),
    }
}

#[test]
fn what_is_on_a_disk_is_read_from_it() {
    let tree = tree();
    assert_eq!(contents(&tree), "");
    tree.put("nvme0n1", 4096, b"something");
    assert_eq!(contents(&tree), "data of an unknown kind on nvme0n1");
    tree.put("nvme0n1", 512, b"EFI PART");
    tree.partition("nvme0n1", "nvme0n1p1", MIB);
    tree.put("nvme0n1p1", 3, b"NTFS    ");
    tree.partition("nvme0n1", "nvme0n1p2", MIB);
    tree.put("nvme0n1p2", 0, b"encrypted without a header");
    assert_eq!(contents(&tree), "gpt partition table on nvme0n1, ntfs on nvme0n1p1");
}

#[test]
fn what_cannot_be_read_is_not_blank() {
    let tree = tree();
    tree.remove("/dev/nvme0n1");
    assert!(contents(&tree).starts_with("unmeasured: /dev/nvme0n1 cannot be read"));
    // The node ends before the disk does.
    tree.write("/dev/nvme0n1", "");
    assert!(contents(&tree).starts_with("unmeasured: "));
    // What udev and the kernel tell is evidence for data, and never against it.
    let number = tree.block_number("nvme0n1");
    tree.write(&format!("/run/udev/data/b{number}"), "E:ID_PART_TABLE_TYPE=\nS:disk\n");
    assert!(contents(&tree).starts_with("unmeasured: "));
    tree.partition("nvme0n1", "nvme0n1p1", MIB);
    let number = tree.block_number("nvme0n1p1");
    tree.write(
        &format!("/run/udev/data/b{number}"),
        "E:ID_FS_USAGE=filesystem\nE:ID_FS_TYPE=ntfs\nE:ID_FS_LABEL=Windows\n",
    );
    assert_eq!(contents(&tree), "other partition table on nvme0n1, ntfs \"Windows\" on nvme0n1p1");
}

#[test]
fn disks_of_other_cards_are_left_asleep() {
    let tree = tree();
    tree.disk("0000:00:17.0", "sda", MIB);
    tree.disk("0000:00:17.0", "sr0", MIB);
    let storage = storage(&tree);
    let contents =
        |name: &str| &storage.disks.iter().find(|disk| disk.name == name).unwrap().contents;
    assert!(contents("sda").known().is_none());
    assert_eq!(*contents("sr0"), Measured::Known(vec![]));
}

#[test]
fn the_facts_are_plain_data() {
    let tree = tree();
    tree.mount(&tree.block_number("nvme0n1"), "/", "ext4", "/dev/nvme0n1");
    let host = Host::read(&tree.sysroot()).unwrap();
    let uses = Uses::read(&tree.sysroot(), &host, &Scope::default());
    let json = serde_json::to_value(&uses).unwrap();
    let disk = &json["storage"]["disks"][0];
    assert_eq!(disk["functions"][0], NVME);
    assert_eq!(disk["uses"][0]["purpose"]["type"], "mounted");
    assert!(disk["contents"]["unmeasured"].is_string());
}

/// Text that looks like the tables of the kernel, with their separators.
fn table() -> impl Strategy<Value = String> {
    "([0-9a-f]{0,40}|eth0|/dev/nvme0n1|UUID=|0000:03:00\\.0|BOOTFB|[NSB]: (KEY|Sysfs|EV)=|\\PC{0,3}|[ \t\n:,\\\\/-]| - | : ){0,60}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_the_tables_hold_is_read(
        path in proptest::sample::select(vec![
            "/proc/self/mountinfo",
            "/proc/swaps",
            "/proc/net/route",
            "/proc/net/ipv6_route",
            "/proc/net/if_inet6",
            "/proc/bus/input/devices",
            "/proc/iomem",
            "/etc/fstab",
            "/etc/crypttab",
            "/sys/class/net/eth0/flags",
            "/run/udev/data/b259:1",
        ]),
        text in table(),
        raw: Vec<u8>,
        is_raw: bool,
    ) {
        let tree = tree();
        tree.interface(NVME, "eth0", true);
        tree.write(path, if is_raw { raw } else { text.into_bytes() });
        let sysroot = tree.sysroot();
        let host = Host::read(&sysroot).unwrap();
        let scope = Scope { session: Some("10.0.0.1".into()), ..Scope::default() };
        let uses = Uses::read(&sysroot, &host, &scope);
        prop_assert!(uses.storage.known().is_some());
    }
}
