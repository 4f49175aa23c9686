//! Single files: what the tool needs of them, and nothing else.

use std::path::Path;

use super::binary;
use super::mask::Mask;
use crate::facts::KernelConfig;

/// Parameters of the kernel that say something about passthrough, by what they begin with.
const PARAMETERS: [&str; 29] = [
    "BOOT_IMAGE=",
    "amd_iommu",
    "console=",
    "default_hugepagesz=",
    "hugepages",
    "initcall_blacklist=",
    "intel_iommu",
    "intremap",
    "iommu",
    "isolcpus=",
    "kireji",
    "kvm",
    "loglevel=",
    "mitigations=",
    "modprobe.blacklist=",
    "module_blacklist=",
    "nointremap",
    "nomodeset",
    "nomodule",
    "pci",
    "quiet",
    "rd.driver",
    "ro",
    "root=",
    "rw",
    "single",
    "splash",
    "vfio",
    "video=",
];
/// Properties of udev that the tool uses.
const PROPERTIES: [&str; 7] = [
    "ID_FS_LABEL",
    "ID_FS_TYPE",
    "ID_FS_USAGE",
    "ID_FS_UUID",
    "ID_PART_TABLE_TYPE",
    "ID_PART_TABLE_UUID",
    "ID_SERIAL_SHORT",
];

/// Whether a file is of a distribution's packages, the same for everybody: a host may be named as
/// something in it is.
pub(super) fn is_public(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("modules.") || name == "os-release" || name == "pci.ids"
}

/// Returns what is kept of a file.
pub(super) fn clean(path: &Path, bytes: &[u8], mask: &Mask) -> Vec<u8> {
    if let Some(bytes) = binary::clean(path, bytes, mask) {
        return bytes;
    }
    if is_public(path) {
        return bytes.to_vec();
    }
    // Whatever else is no text is not known to be harmless.
    let Ok(text) = std::str::from_utf8(bytes) else { return Vec::new() };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_kernels = name.starts_with("config-") || name == "config" && !path.starts_with("/sys");
    let is_menu = path.starts_with("/boot") || path.starts_with("/efi");
    let is_setting = is_menu || path.starts_with("/etc");
    let is_command_line =
        is_setting && path.iter().any(|part| part == "cmdline" || part == "cmdline.d");
    // Attributes of sysfs have some of these names too.
    let name = if path.starts_with("/proc") { name } else { "" };
    let kept = match name {
        "mountinfo" => lines(text, mount),
        "cmdline" => parameters(text),
        "status" => lines(text, |line| line.starts_with("CapEff:").then(|| line.to_owned())),
        "fib_trie" => lines(text, table_of_routes),
        "ipv6_route" | "if_inet6" => lines(text, |line| Some(addresses(line, mask))),
        "devices" if path.starts_with("/proc/bus/input") => lines(text, input),
        _ if path.starts_with("/run/udev/data") => lines(text, property),
        _ if is_kernels => KernelConfig::needed(text),
        _ if is_command_line => text.lines().map(parameters).collect(),
        _ if is_setting => lines(text, |line| setting(line, is_menu)),
        _ => text.to_owned(),
    };
    mask.text(&kept).into_bytes()
}

fn lines(text: &str, keep: impl Fn(&str) -> Option<String>) -> String {
    let kept = text.lines().filter_map(keep);
    kept.map(|line| line + "\n").collect()
}

/// Options of mounts may hold passwords; of the file system's own, only the server's address is
/// needed.
fn mount(line: &str) -> Option<String> {
    let (front, back) = line.split_once(" - ")?;
    let front: Vec<_> = front.split(' ').take(5).collect();
    let mut back = back.split(' ');
    let (kind, source) = (back.next()?, back.next()?);
    let options = back.next().unwrap_or_default();
    let address = options.split(',').find(|option| option.starts_with("addr="));
    let address = address.map_or_else(String::new, |address| format!(",{address}"));
    Some(format!("{} rw - {kind} {source} rw{address}", front.join(" ")))
}

/// What is not known to be harmless loses its value, and a word without one its name.
///
/// A word that a shell replaces is the name of a variable.
fn parameters(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let known = PARAMETERS.iter().any(|known| match known.ends_with('=') {
            true => word.starts_with(known),
            // `ro` is a word, `kvm` also begins `kvm.ignore_msrs` and `kvm-amd.nested`.
            false => word.strip_prefix(known).is_some_and(|rest| {
                !rest.starts_with(|c: char| c.is_ascii_alphanumeric()) || rest.is_empty()
            }),
        });
        match word.split_once('=') {
            _ if known || word.starts_with('$') => word.to_owned(),
            Some((name, _)) => format!("{name}=removed"),
            None => "removed".to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ") + "\n"
}

/// A line of a boot loader's menu or configuration, or of another file that a person writes. What
/// is said of passwords is left out, and what it gives the kernel is treated as its command line.
fn setting(line: &str, is_menu: bool) -> Option<String> {
    let lower = line.to_lowercase();
    if ["passw", "passphrase", "secret", "pbkdf2"].iter().any(|word| lower.contains(word)) {
        return None;
    }
    let start = line.len() - line.trim_start().len();
    let (indent, rest) = line.split_at(start);
    let kernels = |words: &str| parameters(words).trim_end().to_owned();
    if let Some((name, value)) = rest.split_once('=')
        && name.contains("CMDLINE")
    {
        let quote = value.chars().next().filter(|char| matches!(char, '"' | '\''));
        let quoted = quote.and_then(|quote| value[1..].rsplit_once(quote).map(|at| (quote, at)));
        return Some(match quoted {
            Some((quote, (inside, _))) => {
                format!("{indent}{name}={quote}{}{quote}", kernels(inside))
            }
            None => format!("{indent}{name}={}", kernels(value)),
        });
    }
    let Some((command, words)) = rest.split_once([' ', '\t']) else {
        return Some(line.to_owned());
    };
    let gap = &rest[command.len()..=command.len()];
    match command {
        // The first word is the kernel.
        "linux" | "linux16" | "linuxefi" if is_menu => {
            let (kernel, words) = words.trim_start().split_once([' ', '\t']).unwrap_or((words, ""));
            Some(format!("{indent}{command}{gap}{kernel} {}", kernels(words)).trim_end().to_owned())
        }
        // Configuration of modules has `options` too.
        "options" | "append" | "APPEND" | "cmdline:" | "kernel_cmdline:" if is_menu => {
            Some(format!("{indent}{command}{gap}{}", kernels(words)))
        }
        _ => Some(line.to_owned()),
    }
}

/// What a device is connected to, and its own number, are left out.
fn input(line: &str) -> Option<String> {
    let removed = ["U: Uniq=", "P: Phys="].iter().find(|prefix| line.starts_with(**prefix));
    Some(removed.map_or_else(|| line.to_owned(), |prefix| (*prefix).to_owned()))
}

/// The names of the tables, and which has a default route; the rest are the host's addresses.
fn table_of_routes(line: &str) -> Option<String> {
    let is_kept = !line.starts_with(' ') || line.trim_start().starts_with("/0 ");
    is_kept.then(|| line.to_owned())
}

fn property(line: &str) -> Option<String> {
    let (key, _) = line.strip_prefix("E:")?.split_once('=')?;
    PROPERTIES.contains(&key).then(|| line.to_owned())
}

/// Addresses of IPv6 in 32 digits; those of all hosts stay, and of the others the network too
/// becomes another.
fn addresses(line: &str, mask: &Mask) -> String {
    let words = line.split(' ').map(|word| {
        let is_address = word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        match word.split_at_checked(16) {
            Some((network, host)) if is_address && !host.bytes().all(|byte| byte == b'0') => {
                let is_local = network.starts_with("fe80") || network.starts_with("ff");
                let network = if is_local || network.bytes().all(|byte| byte == b'0') {
                    network.to_owned()
                } else {
                    mask.of(network)
                };
                format!("{network}{}", mask.of(host))
            }
            Some((network, host))
                if is_address
                    && !network.starts_with("fe80")
                    && network.bytes().any(|byte| byte != b'0') =>
            {
                format!("{}{host}", mask.of(network))
            }
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
