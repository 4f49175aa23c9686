//! What is on disks. The input describes a disk as [`write_pieces`] says.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::path::Path;

use bfs::Storage as _;
use haiku::image::{Content, Disk, Image, Partitions};
use host::{Measured, Sysroot};
use pci::uses::Storage;
use testkit::tree::{Function, Tree};

use crate::scratch::{Scratch, write_pieces};

/// Size of the host's disk, in bytes: small, for all of it is read each time.
const DISK: u64 = 256 << 10;
/// The largest image that is made, in bytes.
const IMAGE: u64 = 64 << 20;

/// A disk of the host, which is not to be lost.
pub fn disk(data: &[u8]) {
    const FUNCTION: &str = "0000:00:01.0";
    thread_local! {
        static HOST: OnceCell<(Tree, Sysroot, File)> = const { OnceCell::new() };
    }
    let make = || {
        let mut tree = Tree::new();
        tree.add(Function::new(FUNCTION, 0x1b36, 0x0010).class(0x01_0802));
        tree.disk(FUNCTION, "nvme0n1", DISK);
        let node = OpenOptions::new().write(true).open(tree.locate("/dev/nvme0n1"));
        let sysroot = tree.sysroot();
        (tree, sysroot, node.expect("the disk's node"))
    };
    HOST.with(|cell| {
        let (_tree, sysroot, node) = cell.get_or_init(make);
        let mut content = write_pieces(node, data, DISK);
        // The kernel would not let a disk be shorter than it says.
        node.set_len(DISK).expect("a sparse file");
        content.resize(usize::try_from(DISK).expect("a small disk"), 0);
        let examined = BTreeSet::from([FUNCTION.parse().expect("an address")]);
        let storage = Storage::read(sysroot, &examined).expect("the tree can be read");
        let [disk] = storage.disks.as_slice() else { panic!("one disk: {storage:?}") };
        let Measured::Known(contents) = &disk.contents else { panic!("unread: {disk:?}") };
        let is_blank = [0, 0xff].iter().any(|blank| content.iter().all(|byte| byte == blank));
        assert_eq!(contents.is_empty(), is_blank, "{contents:?}");
    });
}

/// An image that a user names.
pub fn haiku_image(data: &[u8]) {
    let file = Scratch::new();
    write_pieces(file.file(), data, IMAGE);
    read_and_write(&file.path());
    write_pieces(file.file(), data, IMAGE);
    let Ok(image) = Image::read(&file.path()) else { return };
    let _ = image.boots();
    let Some(Content::Anyboot(parts) | Content::Mbr(parts) | Content::Gpt(parts)) = image.content
    else {
        return;
    };
    let Partitions { bfs, esp, .. } = parts;
    for extent in [Some(bfs), esp].into_iter().flatten() {
        let end = extent.start.checked_add(extent.size);
        assert!(end.is_some_and(|end| end <= image.disk_size), "{extent:?} of {image:?}");
    }
}

/// The disk in it, whatever holds that.
fn read_and_write(image: &Path) {
    if let Ok(disk) = Disk::open(image) {
        let _ = disk.image();
        let _ = disk.partitions();
        if let Ok(place) = disk.find_volume(None) {
            let _ = disk.read_at(&mut [0; 4096], place.start);
        }
    }
    if let Ok(mut disk) = Disk::open_to_write(image) {
        let _ = disk.write_at(&[1; 700], 100);
        let _ = disk.flush();
    }
}
