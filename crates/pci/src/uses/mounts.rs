//! What the host has mounted, swaps to, and means to mount.

use std::collections::BTreeSet;

use ::host::{Measured, ReadError, Sysroot};
use serde::Serialize;

/// A table of mounts grows with containers; it is cut off far above what any host has.
const MOST: u64 = 16 << 20;

/// One mounted file system (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Major and minor number of its device, as `259:2`; `0:NN` where it has none of its own.
    pub device: String,
    /// Where it is mounted.
    pub point: String,
    /// Its kind, such as `ext4`.
    pub file_system: String,
    /// What was mounted: a path, a pool's data set, a server's export.
    pub source: String,
    /// Its options as the file system shows them.
    pub options: String,
    /// A process whose mount namespace has it, where that is not kireji's own.
    pub in_namespace_of: Option<u32>,
}

/// Reads the mounts of this process's namespace and of all others that can be seen.
///
/// A disk that only a service or a container has mounted is in use too.
pub(super) fn read(host: &Sysroot) -> Measured<Vec<Mount>> {
    let own = ["/proc/self", "/proc/1"].into_iter().find_map(|process| {
        let text = host.read_limited(format!("{process}/mountinfo"), MOST).ok()?;
        Some((process, text))
    });
    let Some((process, text)) = own else {
        return Measured::unmeasured("/proc/self/mountinfo cannot be read");
    };
    let mut mounts = parse(&text, None);
    let mut seen = BTreeSet::new();
    seen.extend(namespace(host, process));
    for pid in super::processes(host) {
        let process = format!("/proc/{pid}");
        // A process that is gone by now, or is another user's, shows none.
        let Some(namespace) = namespace(host, &process) else { continue };
        if seen.insert(namespace)
            && let Ok(text) = host.read_limited(format!("{process}/mountinfo"), MOST)
        {
            mounts.extend(parse(&text, Some(pid)));
        }
    }
    Measured::Known(mounts)
}

fn namespace(host: &Sysroot, process: &str) -> Option<String> {
    Some(host.link(format!("{process}/ns/mnt")).ok()?.to_str()?.to_owned())
}

fn parse(text: &[u8], in_namespace_of: Option<u32>) -> Vec<Mount> {
    let text = String::from_utf8_lossy(text);
    text.lines().filter_map(|line| mount(line, in_namespace_of)).collect()
}

fn mount(line: &str, in_namespace_of: Option<u32>) -> Option<Mount> {
    // The optional fields end with a lone hyphen.
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ');
    let mut back = back.split(' ');
    Some(Mount {
        device: front.nth(2)?.to_owned(),
        point: unescape(front.nth(1)?),
        file_system: back.next()?.to_owned(),
        source: unescape(back.next()?),
        options: back.next().unwrap_or_default().to_owned(),
        in_namespace_of,
    })
}

/// Reads which devices and files the host swaps to (proc_swaps(5)).
pub(super) fn swaps(host: &Sysroot) -> Measured<Vec<String>> {
    let text = host.optional_text("/proc/swaps");
    Measured::from(text).map(|text| {
        let text = text.unwrap_or_default();
        text.lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next())
            .map(unescape)
            .collect()
    })
}

/// A line of `/etc/fstab` or `/etc/crypttab` that names a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mention {
    /// The file.
    pub file: &'static str,
    /// How it names the device: a path, or `UUID=…` and the like.
    pub device: String,
    /// What for: a mount point, or a name below `/dev/mapper`.
    pub purpose: String,
}

/// Reads what the host means to mount and to open (fstab(5), crypttab(5)).
pub(super) fn mentions(host: &Sysroot) -> Result<Vec<Mention>, ReadError> {
    let mut mentions = Vec::new();
    for (file, device, purpose) in [("/etc/fstab", 0, 1), ("/etc/crypttab", 1, 0)] {
        let text = host.optional_text(file)?.unwrap_or_default();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let words: Vec<_> = line.split_whitespace().take(2).collect();
            if let (Some(device), Some(purpose)) = (words.get(device), words.get(purpose)) {
                let device = unescape(device).replace('"', "");
                mentions.push(Mention { file, device, purpose: unescape(purpose) });
            }
        }
    }
    Ok(mentions)
}

/// Undoes the octal escapes with which the kernel and fstab(5) write white space.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) if *byte == b'\\' => {
                plain.push(escaped);
                at += 4;
            }
            _ => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use testkit::tree::Tree;

    use super::*;

    #[test]
    fn reads_a_line_of_mountinfo() {
        let line =
            r"36 35 98:0 /mnt1 /my\040disk rw,noatime master:1 shared:2 - ext3 /dev/a\134b rw,x=y";
        let mount = mount(line, None).unwrap();
        assert_eq!((mount.device.as_str(), mount.point.as_str()), ("98:0", "/my disk"));
        assert_eq!((mount.source.as_str(), mount.file_system.as_str()), (r"/dev/a\b", "ext3"));
        assert_eq!(mount.options, "rw,x=y");
        for line in ["", " - ", "1 2 3:4", "1 2 3:4 / - x"] {
            assert!(super::mount(line, None).is_none(), "{line}");
        }
    }

    #[test]
    fn other_namespaces_count() {
        let tree = Tree::new();
        let line = |device: &str, point: &str| format!("1 0 {device} / {point} rw - ext4 x rw\n");
        for (process, namespace, mounts) in [
            ("self", 1, line("8:1", "/")),
            ("77", 1, line("8:1", "/")),
            ("78", 2, line("8:2", "/srv")),
            ("79", 2, line("8:3", "/not-read-twice")),
        ] {
            tree.link_text(&format!("/proc/{process}/ns/mnt"), &format!("mnt:[{namespace}]"));
            tree.write(&format!("/proc/{process}/mountinfo"), mounts);
        }
        let mounts = read(&tree.sysroot()).known().unwrap().clone();
        let brief: Vec<_> =
            mounts.iter().map(|mount| (mount.point.as_str(), mount.in_namespace_of)).collect();
        assert_eq!(brief, [("/", None), ("/srv", Some(78))]);
        tree.remove("/proc/self/mountinfo");
        assert!(read(&tree.sysroot()).known().is_none());
    }

    #[test]
    fn reads_swaps_and_mentions() {
        let tree = Tree::new();
        tree.write(
            "/proc/swaps",
            "Filename\t\t\tType\t\tSize\n/dev/dm-1       partition\t8\n/swap\\040file file 1\n",
        );
        tree.write(
            "/etc/fstab",
            "# UUID=0\nUUID=\"ab\" /my\\040disk ext4 defaults 0 2\n\n/dev/sda\n",
        );
        tree.write("/etc/crypttab", "cryptroot /dev/sda2 none luks\n");
        let host = tree.sysroot();
        assert_eq!(swaps(&host).known().unwrap(), &["/dev/dm-1", "/swap file"]);
        let mention = |file, device: &str, purpose: &str| Mention {
            file,
            device: device.into(),
            purpose: purpose.into(),
        };
        assert_eq!(
            mentions(&host).unwrap(),
            [
                mention("/etc/fstab", "UUID=ab", "/my disk"),
                mention("/etc/crypttab", "/dev/sda2", "cryptroot"),
            ]
        );
    }
}
