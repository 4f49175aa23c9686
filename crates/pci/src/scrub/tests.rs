//! Secrets of every kind, in every place where they are known to occur.

use std::collections::BTreeSet;

use ::host::{Record, Sysroot};
use proptest::prelude::*;
use testkit::tree::{Function as Fake, Tree};

use super::*;
use crate::facts::{Devices, Facts};
use crate::uses::{Scope, Uses};
use crate::{Address, Host};

const NVME: &str = "0000:01:00.0";
const KEY: [u8; 32] = [7; 32];
/// What must be nowhere afterwards, as text or as bytes.
const SECRETS: [&str; 14] = [
    "S64DNF0R123456",
    "5002538f42a1b2c3",
    "aa:bb:cc:dd:ee:01",
    "aabbccddee02",
    "workstation7",
    "alice",
    "11111111-2222-3333-4444-555555555555",
    "66666666-7777-8888-9999-aaaaaaaaaaaa",
    "1234-ABCD",
    "fileserver.example",
    "hunter2",
    "SECRETSN",
    "MONSERIAL",
    "aabbccfffeddee03",
];

fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.kernel(
        "6.12.1",
        "root=UUID=11111111-2222-3333-4444-555555555555 rd.luks.key=hunter2 hunter2 \
         ip=10.0.0.1::10.0.0.2:255.255.255.0:workstation7:eth0 intel_iommu=on",
        "CONFIG_VFIO_PCI=m\nCONFIG_DEFAULT_HOSTNAME=\"workstation7\"\n",
    );
    tree.add(Fake::new(NVME, 0x144d, 0xa80a).class(0x01_0802).driver("nvme").express());
    tree.add(Fake::new("0000:00:02.0", 0x8086, 0x3e92).class(0x03_0000));
    tree.add(Fake::new("0000:00:19.0", 0x8086, 0x10d3).class(0x02_0000));
    tree.disk(NVME, "nvme0n1", 1 << 20);
    let disk = format!("{}/controller/nvme0n1", tree.device(NVME));
    tree.write(&format!("{disk}/device/serial"), "S64DNF0R123456\n");
    tree.write(&format!("{disk}/wwid"), "eui.5002538f42a1b2c3\n");
    tree.write(&format!("{disk}/device/vpd_pg80"), b"\0\x80\0\x0eS64DNF0R123456");
    let number = tree.block_number("nvme0n1");
    tree.write(
        &format!("/run/udev/data/b{number}"),
        "S:disk/by-id/nvme-SAMSUNG_S64DNF0R123456\nE:ID_SERIAL=SAMSUNG_S64DNF0R123456\n\
         E:ID_SERIAL_SHORT=S64DNF0R123456\nE:ID_WWN=eui.5002538f42a1b2c3\n\
         E:ID_FS_UUID=1234-ABCD\nE:ID_FS_USAGE=filesystem\nE:ID_FS_TYPE=vfat\n",
    );
    tree.write("/etc/fstab", "UUID=1234-ABCD /home/alice vfat defaults 0 0\n");
    tree.write("/etc/crypttab", "vault UUID=66666666-7777-8888-9999-aaaaaaaaaaaa none luks\n");
    tree.write(
        "/etc/default/grub",
        "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet rd.luks.key=hunter2\"\n\
         GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX intel_iommu=on\"\n",
    );
    tree.write(
        "/boot/grub/grub.cfg",
        "password_pbkdf2 alice grub.pbkdf2.sha512.hunter2\nmenuentry 'Debian' {\n\
         \tlinux\t/vmlinuz root=UUID=11111111-2222-3333-4444-555555555555 hunter2 quiet\n}\n",
    );
    tree.write("/boot/loader/entries/a.conf", "title A\noptions ro rd.luks.key=hunter2\n");
    tree.write("/etc/kernel/cmdline", "hunter2 iommu=pt\n");
    tree.mount("0:50", "/home/alice/share", "nfs4", "fileserver.example:/export/alice");
    let mounts = tree.read("/proc/self/mountinfo");
    let more = "31 1 0:51 / /mnt rw,password=hunter2 - cifs //fileserver.example/x \
                rw,username=alice,password=hunter2,addr=10.0.0.9\n";
    tree.write("/proc/self/mountinfo", mounts + more);
    tree.link("/sys/fs/btrfs/11111111-2222-3333-4444-555555555555/devices/nvme0n1", "/sys/devices");
    tree.interface("0000:00:19.0", "enxaabbccddee02", true);
    let device = tree.device("0000:00:19.0").to_owned();
    tree.write(&format!("{device}/net/enxaabbccddee02/address"), "aa:bb:cc:dd:ee:01\n");
    tree.write(
        "/proc/net/if_inet6",
        "fe80000000000000aabbccfffeddee03 02 40 20 80 enxaabbccddee02\n",
    );
    tree.write(
        "/proc/bus/input/devices",
        "N: Name=\"alice's keyboard\"\nP: Phys=aa:bb:cc:dd:ee:01\nS: Sysfs=/devices/x\n\
         U: Uniq=aa:bb:cc:dd:ee:01\nB: EV=120013\n\n",
    );
    tree.connector("0000:00:02.0", "card0", "DP-1", true);
    tree.monitor("card0", "DP-1", "DELL U2412");
    let edid = format!("{}/drm/card0/card0-DP-1/edid", tree.device("0000:00:02.0"));
    let mut bytes = std::fs::read(tree.locate(&edid)).unwrap();
    bytes[90..95].copy_from_slice(&[0, 0, 0, 0xff, 0]);
    bytes[95..104].copy_from_slice(b"MONSERIAL");
    tree.write(&edid, bytes);
    tree.write(
        "/sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
        [&b"\x06\0\0\0"[..], &wide("66666666-7777-8888-9999-AAAAAAAAAAAA\0")].concat(),
    );
    tree
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Everything that the looking commands read.
fn look(sysroot: &Sysroot) -> Record {
    let host = Host::read(sysroot).unwrap();
    let _ = Facts::read(sysroot, &host);
    let _ = Devices::read(sysroot, &host, host.functions());
    let examined: BTreeSet<Address> = host.functions().map(|function| function.address).collect();
    let _ = Uses::read(sysroot, &host, &Scope { examined, session: None });
    for function in host.functions() {
        let _ = function.config(sysroot);
    }
    // What lies about beside it, too.
    for path in [
        "/sys/class/net/enxaabbccddee02/address",
        "/etc/fstab",
        "/etc/default/grub",
        "/etc/kernel/cmdline",
        "/boot/grub/grub.cfg",
        "/boot/loader/entries/a.conf",
    ] {
        let _ = sysroot.text(path);
    }
    sysroot.recorded()
}

fn names() -> Vec<String> {
    ["workstation7", "alice"].map(str::to_owned).to_vec()
}

fn scrub(record: &Record) -> Result<Record, Leak> {
    let scrub = Scrub::new(record, &names(), &KEY);
    let clean = scrub.record(record);
    scrub.check(&clean).map(|()| clean)
}

fn contains(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.to_ascii_lowercase().windows(secret.len()).any(|part| part == secret.to_ascii_lowercase())
}

#[test]
fn no_secret_survives() {
    let tree = tree();
    let mut sysroot = tree.sysroot();
    sysroot.record();
    let record = look(&sysroot);
    let mut before = Vec::new();
    ::host::pack(&record, &mut before).unwrap();
    let before = zstd::decode_all(&before[..]).unwrap();
    let clean = scrub(&record).unwrap();
    let mut packed = Vec::new();
    ::host::pack(&clean, &mut packed).unwrap();
    let archive = zstd::decode_all(&packed[..]).unwrap();
    for secret in SECRETS {
        let forms = [secret.as_bytes().to_vec(), wide(secret)];
        assert!(forms.iter().any(|form| contains(&before, form)), "{secret} was never there");
        assert!(!forms.iter().any(|form| contains(&archive, form)), "{secret} is still there");
    }
    // What hangs together still does.
    let again = Sysroot::unpack(&packed[..]).unwrap();
    let host = Host::read(&again).unwrap();
    assert_eq!(host.functions().count(), 3);
    let uses = Uses::read(&again, &host, &Scope::default());
    let disk = &uses.storage.known().unwrap().disks[0];
    assert!(disk.mentions.iter().any(|mention| mention.file == "/etc/fstab"), "{disk:?}");
    assert_eq!(disk.serial.as_ref().map(String::len), Some("S64DNF0R123456".len()));
    assert!(disk.uses.known().is_some_and(|uses| !uses.is_empty()), "{disk:?}");
    let screens = &uses.displays.known().unwrap()[0].screens;
    assert_eq!(screens.known().unwrap()[0].monitor.as_deref(), Some("DELL U2412"));
    let facts = Facts::read(&again, &host);
    assert_eq!(facts.kernel.parameter("intel_iommu"), Some("on"));
    // What a plan needs of a configuration is as it was.
    for (path, kept) in [
        ("/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet rd.luks.key=removed\"\n"),
        ("/etc/default/grub", "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX intel_iommu=on\""),
        ("/etc/kernel/cmdline", "removed iommu=pt"),
        ("/boot/grub/grub.cfg", "menuentry 'Debian' {\n\tlinux\t/vmlinuz root=UUID="),
        ("/boot/grub/grub.cfg", " removed quiet\n}"),
        ("/boot/loader/entries/a.conf", "title A\noptions ro rd.luks.key=removed"),
    ] {
        let text = again.text(path).unwrap();
        assert!(text.contains(kept), "{path}: {text}");
    }
}

#[test]
fn a_secret_that_is_missed_is_told() {
    let mut record = Record::default();
    record.files.insert("/sys/x/serial".into(), b"TOPSECRET1\n".to_vec());
    record.files.insert("/sys/firmware/acpi/tables/DMAR".into(), b"DMAR TOPSECRET1 ".to_vec());
    let leak = scrub(&record).unwrap_err();
    assert_eq!(leak.path, Path::new("/sys/firmware/acpi/tables/DMAR"));
}

proptest! {
    #[test]
    fn a_mask_keeps_the_form(secret in "[a-zA-Z0-9:._-]{3,40}", key: [u8; 32]) {
        let mask = Mask::new(BTreeSet::from([secret.clone()]), &key);
        let masked = mask.of(&secret);
        prop_assert_eq!(masked.len(), secret.len());
        prop_assert_eq!(&mask.of(&secret), &masked);
        if secret.chars().filter(char::is_ascii_alphanumeric).count() > 2 {
            prop_assert_ne!(&masked, &secret);
        }
        for (one, other) in secret.chars().zip(masked.chars()) {
            prop_assert_eq!(one.is_ascii_digit(), other.is_ascii_digit());
            prop_assert_eq!(one.is_ascii_uppercase(), other.is_ascii_uppercase());
        }
    }
}
