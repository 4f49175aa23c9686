//! Volumes that we write, read by somebody else: Linux's `befs` driver, in a rig.
//!
//! It only reads, and knows nothing of attributes, indices and the log. Blocks of 8192 bytes it
//! refuses (fs/befs/super.c of Linux, befs_check_sb). In the double indirect range it finds the
//! first run of an array only (datastream.c, befs_find_brun_dblindirect), so no file has one here.
//!
//! This test needs a provisioned lab (`cargo xtask test` makes one) and fails without it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use bfs::{MakeOptions, Volume, check};
use sha2::{Digest, Sha256};

const RIG: &str = r#"
description = "reads Be File Systems"
iommu = "none"
memory-mib = 1024
modules = ["loop", "befs"]
"#;

/// Tells every file and link of the volumes, with the sum of what is in it.
const READ: &str = r#"
mkdir /befs
for size in 1024 2048 4096; do
    mount -t befs -o ro,loop /data/$size /befs || exit 1
    cd /befs
    find . -type f -exec sha256sum {} + | sed "s/^/$size /"
    find . -type l | while read path; do
        echo "$size $(readlink -n "$path" | sha256sum | cut -c1-64)  $path"
    done
    cd /
    umount /befs
done"#;

/// A volume, and the sum of what is in each file and link of it.
struct Written {
    volume: Volume<File>,
    sums: BTreeMap<String, String>,
}

impl Written {
    fn make(size: u32, path: &Path) -> Self {
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        file.set_len(24 << 20).unwrap();
        let options = MakeOptions { block_size: size, ..MakeOptions::new("Befs") };
        let mut volume = Volume::make(file, &options).unwrap();
        volume.batch();
        Self { volume, sums: BTreeMap::new() }
    }

    fn told(&mut self, path: String, content: &[u8]) {
        let sum = Sha256::digest(content).iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        self.sums.insert(path, sum);
    }

    fn file(&mut self, path: &str, content: &[u8]) {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = self.volume.lookup(above.as_bytes()).unwrap();
        let (mut source, length) = (content, content.len() as u64);
        self.volume.write_file(directory, name.as_bytes(), 0o644, &mut source, length).unwrap();
        self.told(path.to_owned(), content);
    }

    fn link(&mut self, name: &str, target: &str) {
        let root = self.volume.root();
        self.volume.create_symlink(root, name.as_bytes(), target.as_bytes()).unwrap();
        // The last byte of a long one it takes for the end of the text, which is none (linuxvfs.c,
        // befs_symlink_read_folio); short ones are in the inode.
        let is_long = target.len() >= 144;
        let seen = &target.as_bytes()[..target.len() - usize::from(is_long)];
        self.told(name.to_owned(), seen);
    }

    fn remove(&mut self, path: &str) {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = self.volume.lookup(above.as_bytes()).unwrap();
        self.volume.remove(directory, name.as_bytes()).unwrap();
        self.sums.remove(path);
    }

    fn free(&self) -> u64 {
        let info = self.volume.info();
        (info.blocks - info.used_blocks) * u64::from(info.block_size)
    }

    /// Files and links of each kind that there is.
    fn fill(&mut self) {
        for size in [0, 1, 1023, 1024, 4097, 300_000, 3_000_001] {
            self.file(&format!("file{size}"), &pattern(size));
        }
        self.file(&"n".repeat(255), b"a long name");
        self.link("short", "file1");
        self.link("long", &"../far/".repeat(100));
        let root = self.volume.root();
        self.volume.create_directory(root, b"many", 0o755).unwrap();
        for index in 0..1500 {
            self.file(&format!("many/entry{index}"), &pattern(index));
        }
        for index in (0..1500).step_by(2) {
            self.remove(&format!("many/entry{index}"));
        }
        self.file("file300000", b"replaced");
        // What is left of the space is in holes of a few blocks, which one file fills: it has some
        // hundred runs, most of them in the indirect range.
        let mut holes = 0;
        while self.free() > 300_000 {
            self.file(&format!("hole{holes}"), &pattern(4096));
            self.file(&format!("kept{holes}"), &pattern(12_000));
            holes += 1;
        }
        for index in 0..holes {
            self.remove(&format!("hole{index}"));
        }
        self.volume.sync().unwrap();
        self.file("pieces", &pattern(1_500_000));
        self.volume.sync().unwrap();
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

#[test]
fn linux_reads_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let rig = directory.path().join("befs.toml");
    std::fs::write(&rig, RIG).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kireji"));
    command.args(["lab", "run"]).arg(&rig);
    let mut expected = BTreeSet::new();
    for size in [1024, 2048, 4096] {
        let path = directory.path().join(size.to_string());
        let mut written = Written::make(size, &path);
        written.fill();
        let mut file = written.volume.into_storage();
        assert!(check(&mut file).unwrap().is_clean());
        command.arg("--put").arg(format!("{}:/data/{size}", path.display()));
        let lines = written.sums.iter().map(|(path, sum)| format!("{size} {sum}  ./{path}"));
        expected.extend(lines);
    }
    let output = command.args(["--", "/bin/sh", "-c", READ]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).unwrap();
    let found: BTreeSet<_> = text.lines().map(str::to_owned).collect();
    let missing: Vec<_> = expected.difference(&found).take(5).collect();
    let more: Vec<_> = found.difference(&expected).take(5).collect();
    assert!(missing.is_empty() && more.is_empty(), "missing {missing:?}, not ours {more:?}");
    assert!(expected.len() > 3 * 1000, "{}", expected.len());
}
