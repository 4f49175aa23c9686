//! What a panic is called.

use super::report::{Frame, Kind, leaf};

/// Kinds by words of the kernel's messages; the first that fits (src/system/kernel: vm/vm.cpp,
/// arch/x86/arch_int.cpp, debug/debug.cpp, smp.cpp, locks/lock.cpp, slab, fs/vfs_boot.cpp, and
/// headers/private/kernel/debug.h).
const KINDS: &[(&str, Kind)] = &[
    ("vm_page_fault: ", Kind::PageFault),
    ("page fault", Kind::PageFault),
    ("SMEP violation", Kind::PageFault),
    ("SMAP violation", Kind::PageFault),
    ("ASSERT FAILED", Kind::Assertion),
    ("Double Fault", Kind::DoubleFault),
    ("NMI Interrupt", Kind::Nmi),
    ("General Protection Exception", Kind::GeneralProtection),
    ("Divide Error Exception", Kind::DivideError),
    ("Invalid Opcode Exception", Kind::InvalidOpcode),
    ("breakpoint exception", Kind::Breakpoint),
    ("Unexpected exception \"", Kind::Exception),
    ("Fatal exception \"", Kind::Exception),
    ("unhandled trap ", Kind::Exception),
    ("did not find any boot partitions", Kind::NoBootVolume),
    ("could not mount boot device", Kind::NoBootVolume),
    ("spinlock", Kind::Lock),
    ("mutex", Kind::Lock),
    ("rw_lock", Kind::Lock),
    ("recursive_lock", Kind::Lock),
    ("object_cache: ", Kind::Heap),
    ("double free", Kind::Heap),
    ("slab", Kind::Heap),
    ("with interrupts disabled", Kind::Blocking),
];

/// The kind of a panic with this message.
pub(super) fn kind(message: &str) -> Kind {
    let found = KINDS.iter().find(|(words, _)| message.contains(words));
    found.map_or(Kind::Panic, |(_, kind)| *kind)
}

/// Numbers below this are kept: they are members of a structure at a null pointer, error codes,
/// and no addresses.
const PAGE: u64 = 0x1000;

/// The title of a panic.
pub(super) fn title(message: Option<&str>, kind: Kind, guilty: Option<&Frame>) -> String {
    let mut title = match message {
        // The instruction's address says the same as the frame.
        Some(message) if kind == Kind::PageFault => {
            without_numbers(message.split(", ip 0x").next().unwrap_or(message))
        }
        Some(message) => without_numbers(message),
        None if kind == Kind::Debugger => "the kernel's debugger was entered".to_owned(),
        None => "a panic whose message is lost".to_owned(),
    };
    let Some(frame) = guilty else { return title };
    let image = frame.image_name().filter(|_| !frame.is_kernel());
    match (image, frame.function()) {
        (Some(image), Some(function)) => title.push_str(&format!(" in {image}: {function}")),
        (Some(name), None) | (None, Some(name)) => title.push_str(&format!(" in {name}")),
        (None, None) => {}
    }
    title
}

/// A message without addresses, numbers of threads and lines, and directories of a build.
fn without_numbers(message: &str) -> String {
    let mut words = Vec::new();
    for word in message.split_ascii_whitespace() {
        // `(` and `:` and so on around a number are not of it.
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-');
        let mut text = String::new();
        let mut rest = word;
        while let Some(start) = rest.find(is_part) {
            let (between, from) = rest.split_at(start);
            let end = from.find(|c| !is_part(c)).unwrap_or(from.len());
            let (part, after) = from.split_at(end);
            text.push_str(between);
            text.push_str(normal(part));
            rest = after;
        }
        text.push_str(rest);
        words.push(text);
    }
    words.join(" ")
}

fn normal(part: &str) -> &str {
    let (number, dot) = match part.strip_suffix('.') {
        Some(number) => (number, true),
        None => (part, false),
    };
    if let Some(digits) = number.strip_prefix("0x") {
        return match u64::from_str_radix(digits, 16) {
            Ok(value) if value < PAGE => part,
            Ok(_) => "ADDRESS",
            Err(_) => part,
        };
    }
    let digits = number.strip_prefix('-').unwrap_or(number);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return if dot { "N." } else { "N" };
    }
    if digits.len() >= 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return "ADDRESS";
    }
    if part.starts_with('/') || part.starts_with("../") { leaf(part) } else { part }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_keeps_what_the_defect_is_and_nothing_else() {
        let add_on = Frame {
            image: Some("/boot/home/config/non-packaged/add-ons/kernel/drivers/bin/mine".into()),
            nearest_symbol: Some("find_device".into()),
            ..Frame::default()
        };
        let known = Frame { symbol: Some("write_it(int)".into()), ..add_on.clone() };
        let kernel = Frame {
            image: Some("kernel_x86_64".into()),
            symbol: Some("vfs_mount_boot_file_system()".into()),
            ..Frame::default()
        };
        for (message, guilty, expected) in [
            (
                "vm_page_fault: unhandled page fault in kernel space at 0x10, ip 0xffffffff8164feec",
                Some(&add_on),
                "vm_page_fault: unhandled page fault in kernel space at 0x10 in mine",
            ),
            (
                "vm_page_fault: unhandled page fault in kernel space at 0xffffffff82000010, ip 0x1",
                Some(&known),
                "vm_page_fault: unhandled page fault in kernel space at ADDRESS in mine: write_it",
            ),
            (
                "_mutex_unlock() failure: thread 28 is trying to release mutex 0xffffffff81651220 \
                 (current holder -1)",
                None,
                "_mutex_unlock() failure: thread N is trying to release mutex ADDRESS (current \
                 holder N)",
            ),
            (
                "ASSERT FAILED (/home/axel/haiku/src/kernel/a.cpp:123): x86_64 == 0x2",
                None,
                "ASSERT FAILED (a.cpp:N): x86_64 == 0x2",
            ),
            (
                "did not find any boot partitions!",
                Some(&kernel),
                "did not find any boot partitions! in vfs_mount_boot_file_system",
            ),
            ("Unexpected exception \"Divide\" Error code: 0x0", None, {
                "Unexpected exception \"Divide\" Error code: 0x0"
            }),
            ("it is 12. Yes, é 0xzz", None, "it is N. Yes, é 0xzz"),
        ] {
            assert_eq!(title(Some(message), kind(message), guilty), expected);
        }
    }

    #[test]
    fn kinds_are_told_by_the_message() {
        for (message, expected) in [
            ("page fault, but interrupts were disabled. Touching address 0x0 from ip 0x1", {
                Kind::PageFault
            }),
            ("Fatal exception \"NMI Interrupt\" occurred! Error code: 0x0", Kind::Nmi),
            ("Unexpected exception \"Overflow Exception\" occurred in kernel mode!", {
                Kind::Exception
            }),
            ("acquire_spinlock: attempt to acquire lock 0x1 twice on non-SMP system", Kind::Lock),
            ("common_snooze_etc(): called with interrupts disabled, timeout 1000", Kind::Blocking),
            ("crash driver: deliberate panic, value 42", Kind::Panic),
        ] {
            assert_eq!(kind(message), expected, "{message}");
        }
    }
}
