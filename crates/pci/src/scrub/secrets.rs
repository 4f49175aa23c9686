//! What of a record is secret.

use std::collections::BTreeSet;
use std::path::Path;

use ::host::Record;

/// The shortest text that counts: shorter ones are everywhere by chance.
const SHORTEST: usize = 3;
/// The shortest word of a serial number that counts by itself.
const SHORTEST_WORD: usize = 6;
/// Attributes of sysfs that hold nothing but what identifies a thing.
const ATTRIBUTES: [&str; 9] =
    ["address", "cid", "eui", "nguid", "serial", "unique_id", "uuid", "vpd_pg80", "wwid"];
/// Properties of udev that do (70-persistent-storage and so on).
const PROPERTIES: [&str; 6] = [
    "ID_SERIAL",
    "ID_SERIAL_SHORT",
    "ID_WWN",
    "ID_WWN_WITH_EXTENSION",
    "ID_FS_UUID",
    "ID_PART_TABLE_UUID",
];

/// Finds all secrets: what attributes, properties and tables hold, and the given names.
pub(super) fn find(record: &Record, names: &[String]) -> BTreeSet<String> {
    let mut secrets: BTreeSet<String> = names.iter().cloned().collect();
    for (path, bytes) in &record.files {
        let text = String::from_utf8_lossy(bytes);
        if is_attribute(path) {
            let text: String =
                text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
            secrets.extend(words(&text));
        } else if path.starts_with("/run/udev/data") {
            let properties =
                text.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
            let values = properties.filter(|(key, _)| PROPERTIES.contains(key));
            secrets.extend(values.flat_map(|(_, value)| words(value)));
        } else if path.ends_with("mountinfo") {
            secrets.extend(text.lines().filter_map(server));
        } else if path == Path::new("/etc/fstab") || path == Path::new("/etc/crypttab") {
            secrets.extend(text.split_whitespace().filter_map(identifier));
        } else if path == Path::new("/proc/cmdline") {
            secrets.extend(text.split_whitespace().filter_map(|word| {
                identifier(word.trim_start_matches("root=").trim_start_matches("resume="))
            }));
        }
    }
    secrets.retain(|secret| {
        secret.chars().count() >= SHORTEST && secret.chars().any(char::is_alphanumeric)
    });
    secrets
}

/// `address` is one of a network interface; that of a PCI slot or an iSCSI connection is not.
fn is_attribute(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_of_interface = || path.components().any(|part| part.as_os_str() == "net");
    ATTRIBUTES.contains(&name) && (name != "address" || is_of_interface())
}

/// A serial number, and its words without what says of which kind it is.
fn words(text: &str) -> Vec<String> {
    let text = text.trim();
    let mut found = vec![text.to_owned()];
    for word in text.split_whitespace() {
        let bare = ["naa.", "eui.", "t10.", "uuid.", "0x"]
            .iter()
            .find_map(|prefix| word.strip_prefix(prefix))
            .unwrap_or(word);
        // A model may stand beside the number: what has no digit is none.
        if bare.len() >= SHORTEST_WORD && bare.chars().any(|char| char.is_ascii_digit()) {
            found.extend([word.to_owned(), bare.to_owned()]);
        }
    }
    found
}

/// The server of a file system of the network: `server:/export` or `//server/share`.
fn server(line: &str) -> Option<String> {
    let source = line.split_once(" - ")?.1.split_whitespace().nth(1)?;
    let name = match source.strip_prefix("//") {
        Some(rest) => rest.split('/').next()?,
        None => source.split_once(":/")?.0,
    };
    let is_address = name.chars().all(|char| char.is_ascii_hexdigit() || ".:[]".contains(char));
    (!name.contains('/') && !is_address).then(|| name.to_owned())
}

/// The UUID or serial number by which a table names a device.
fn identifier(word: &str) -> Option<String> {
    let word = word.trim_matches('"');
    for prefix in ["UUID=", "PARTUUID=", "/dev/disk/by-uuid/", "/dev/disk/by-partuuid/"] {
        if let Some(id) = word.strip_prefix(prefix) {
            return Some(id.trim_matches('"').to_owned());
        }
    }
    None
}
