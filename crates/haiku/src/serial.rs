//! What Haiku says of its state over the serial line.
//!
//! Facts about lines of text, and nothing of how they come. A line can be forged by any program in
//! the guest that writes to `/dev/dprintf`: it is believed as far as the guest itself is concerned,
//! and must never be a reason to do anything to the host.

/// What the kernel debugger asks for a command with, at the start of a line that does not end
/// (src/system/kernel/debug/debug.cpp, `kgets` of its command loop).
pub const PROMPT: &str = "kdebug> ";

/// What a line has in it that says something; one that has none of these says nothing.
pub const WORDS: [&str; 7] = [
    PROMPT,
    "Welcome to Kernel Debugging Land...",
    "Welcome to the Haiku boot loader!",
    "Welcome to kernel debugger output!",
    "Mounted boot partition: ",
    "PANIC: ",
    "Double Fault!",
];

/// Something that a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign<'a> {
    /// The boot loader begins, and with it a boot (src/system/boot/loader/main.cpp).
    Loader,
    /// The kernel begins (src/system/kernel/main.cpp).
    Kernel,
    /// The boot volume at this path is mounted (src/system/kernel/fs/vfs_boot.cpp).
    BootVolume(&'a str),
    /// The kernel panics, for this reason (src/system/kernel/debug/debug.cpp).
    Panic(&'a str),
    /// The kernel is in its debugger, which it can enter without a panic.
    Debugger,
}

/// Returns what a line says, given without its end.
pub fn sign(line: &str) -> Option<Sign<'_>> {
    // The start of a line may be another's that was never ended, so only the prompt is tied to it.
    if line.starts_with(PROMPT) || line.contains("Welcome to Kernel Debugging Land...") {
        return Some(Sign::Debugger);
    }
    if line.contains("Welcome to the Haiku boot loader!") {
        return Some(Sign::Loader);
    }
    if line.contains("Welcome to kernel debugger output!") {
        return Some(Sign::Kernel);
    }
    if let Some((_, path)) = line.split_once("Mounted boot partition: ") {
        return Some(Sign::BootVolume(path.trim()));
    }
    if let Some((_, reason)) = line.split_once("PANIC: ") {
        return Some(Sign::Panic(reason.trim()));
    }
    // It comes without the word (`debug_double_fault` there).
    (line.trim_end() == "Double Fault!").then_some(Sign::Panic("Double Fault!"))
}

/// Whether a panic's reason is that there is nothing to boot from
/// (src/system/kernel/fs/vfs_boot.cpp, `vfs_mount_boot_file_system`).
pub fn is_no_boot_volume(reason: &str) -> bool {
    reason.contains("did not find any boot partitions")
        || reason.contains("could not mount boot device")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_they_say() {
        for (line, expected) in [
            ("Welcome to the Haiku boot loader!", Some(Sign::Loader)),
            ("half a lineWelcome to kernel debugger output!\r", Some(Sign::Kernel)),
            ("Mounted boot partition: /dev/disk/ata/1/master/0\r", {
                Some(Sign::BootVolume("/dev/disk/ata/1/master/0"))
            }),
            ("PANIC: explicit \r", Some(Sign::Panic("explicit"))),
            ("Double Fault!\r", Some(Sign::Panic("Double Fault!"))),
            ("he said Double Fault! and went", None),
            ("Welcome to Kernel Debugging Land...", Some(Sign::Debugger)),
            ("kdebug> bt", Some(Sign::Debugger)),
            ("type at kdebug> to debug", None),
            ("*** PANIC ***", None),
            ("", None),
        ] {
            assert_eq!(sign(line), expected, "{line:?}");
            let has_word = WORDS.iter().any(|word| line.contains(word));
            assert!(has_word || expected.is_none(), "{line:?}");
        }
    }

    #[test]
    fn nothing_to_boot_from_is_a_reason_of_its_own() {
        assert!(is_no_boot_volume("did not find any boot partitions!"));
        assert!(is_no_boot_volume("could not mount boot device!"));
        assert!(!is_no_boot_volume("vm_page_fault: unhandled page fault"));
    }

    /// What the genuine logs in `fixtures/serial` say, boots and the debugger's prompts aside.
    #[test]
    fn genuine_logs_say_how_their_boots_went() {
        let log =
            |bytes: &[u8]| String::from_utf8_lossy(&zstd::decode_all(bytes).unwrap()).into_owned();
        let signs = |text: &str| {
            let mut words = Vec::new();
            for line in text.lines() {
                let word = sign(line).map(|sign| format!("{sign:?}"));
                words.extend(word.filter(|word| words.last() != Some(word)));
            }
            words.join(" ")
        };
        let shutdown =
            log(include_bytes!("../fixtures/serial/q35-ahci-boot-userland-shutdown.log.zst"));
        assert_eq!(signs(&shutdown), r#"Loader Kernel BootVolume("/dev/disk/scsi/0/5/0/1")"#);
        let no_volume = log(include_bytes!("../fixtures/serial/k_noboot.log.zst"));
        assert_eq!(
            signs(&no_volume),
            r#"Loader Kernel Panic("did not find any boot partitions!") Debugger"#
        );
        for (bytes, ip) in [
            (&include_bytes!("../fixtures/serial/kdl-null.log.zst")[..], "0xffffffff8164feec"),
            (include_bytes!("../fixtures/serial/kdl-null-smp2.log.zst"), "0xffffffff815a6ef4"),
        ] {
            let said = signs(&log(bytes));
            let panic = format!(
                "Panic(\"vm_page_fault: unhandled page fault in kernel space at 0x10, ip {ip}\") \
                 Debugger"
            );
            assert!(said.contains(&panic), "{said}");
            // The command `message` repeats the panic.
            assert!(said.ends_with("Debugger"), "{said}");
        }
    }
}
