//! Boot entries of type 1 of the UAPI group's Boot Loader Specification, and systemd-boot's
//! `loader.conf` (loader.conf(5)): lines of a key and its value.

use super::{Change, words};

/// Returns the values of a key, in order.
pub fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(pair);
    lines.filter(|(found, _)| *found == key).map(|(_, value)| value).collect()
}

/// Returns the words of the command line: the values of `options`, which may come several times.
pub fn options(text: &str) -> Vec<&str> {
    values(text, "options").into_iter().flat_map(words::split).collect()
}

/// Returns the entry with its command line changed; every other byte stays.
pub fn apply(text: &str, change: &Change) -> String {
    let present: Vec<_> = options(text).into_iter().filter(|word| !change.removes(word)).collect();
    let missing = change.missing(&present);
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let is_options = |line: &&str| pair(line).is_some_and(|(key, _)| key == "options");
    let last = lines.iter().rposition(is_options);
    let remove = Change { add: Vec::new(), remove: change.remove.clone() };
    let mut result = String::new();
    for (index, line) in lines.iter().enumerate() {
        if !is_options(line) {
            result.push_str(line);
            continue;
        }
        let value_at = line.find("options").map_or(0, |at| at + "options".len());
        let (key, value) = line.split_at(value_at);
        let mut value = remove.apply(value);
        if last == Some(index) && !missing.is_empty() {
            value = Change::add(missing.iter().copied()).apply(&value);
            if !value.starts_with([' ', '\t']) {
                value.insert(0, ' ');
            }
        }
        result.push_str(key);
        result.push_str(&value);
    }
    if last.is_none() && !missing.is_empty() {
        if !result.is_empty() && !result.ends_with('\n') {
            result.push('\n');
        }
        result.push_str(&format!("options {}\n", missing.join(" ")));
    }
    result
}

/// The key and the value of a line, if it has one.
fn pair(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    Some((key, value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEDORA: &str = "\
title Fedora Linux (6.17.1-300.fc43.x86_64) 43 (Workstation Edition)
version 6.17.1-300.fc43.x86_64
linux /vmlinuz-6.17.1-300.fc43.x86_64
initrd /initramfs-6.17.1-300.fc43.x86_64.img $tuned_initrd
options root=UUID=1 ro rhgb quiet $tuned_params
grub_users $grub_users
";

    #[test]
    fn entries_are_read_and_changed() {
        assert_eq!(values(FEDORA, "version"), ["6.17.1-300.fc43.x86_64"]);
        let change = Change { add: vec!["intel_iommu=on".into()], remove: vec!["quiet".into()] };
        let changed = apply(FEDORA, &change);
        let expected =
            FEDORA.replace("rhgb quiet $tuned_params", "rhgb $tuned_params intel_iommu=on");
        assert_eq!(changed, expected);
        assert_eq!(apply(&changed, &change), changed);
    }

    #[test]
    fn odd_entries_keep_what_is_odd_about_them() {
        let change = Change::add(["new"]);
        for (before, after) in [
            ("# options a\nlinux\t/x", "# options a\nlinux\t/x\noptions new\n"),
            ("options a\noptions\tb  c \n\n", "options a\noptions\tb  c new \n\n"),
            ("  options\n", "  options new\n"),
            ("options a\noptions new\n", "options a\noptions new\n"),
        ] {
            assert_eq!(apply(before, &change), after, "{before:?}");
        }
    }
}
