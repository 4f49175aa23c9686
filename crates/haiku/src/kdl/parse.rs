//! The lines of a report, taken apart.
//!
//! Formats are those of src/system/kernel/arch/x86/arch_debug.cpp (`print_stack_frame`,
//! `print_iframe`, `stack_trace`) and src/system/kernel/debug/debug.cpp. They are read strictly: a
//! line that has lost a character is none.

use super::report::{Frame, Thread};

/// A line of a stack trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FrameLine {
    pub(super) index: u32,
    /// Bytes from the frame before to this one, as they are written.
    pub(super) size: i64,
    pub(super) frame: Frame,
}

/// `%2d %016lx (+%4ld) %016lx   ` and what the address is in; on 32 bits there are 8 digits.
pub(super) fn frame(line: &str) -> Option<FrameLine> {
    let digits = line.trim_start_matches(' ');
    let padding = line.len() - digits.len();
    let (index, rest) = digits.split_once(' ')?;
    if index.len() > 3 || padding + index.len() != index.len().max(2) {
        return None;
    }
    let index = decimal(index)?;
    let (pointer, rest) = rest.split_once(" (+")?;
    let (size, rest) = rest.split_once(") ")?;
    let (address, place) = rest.split_once("   ")?;
    if size.len() < 4 || (size.len() > 4 && size.starts_with(' ')) || pointer.len() != address.len()
    {
        return None;
    }
    let mut frame = Frame {
        frame_pointer: pointer_digits(pointer)?,
        address: pointer_digits(address)?,
        ..Frame::default()
    };
    in_place(place, &mut frame)?;
    Some(FrameLine { index, size: size.trim_start_matches(' ').parse().ok()?, frame })
}

fn in_place(place: &str, frame: &mut Frame) -> Option<()> {
    if place.is_empty() {
        return Some(());
    }
    let (place, offset) = place.rsplit_once(" + ")?;
    let offset = short_hex(offset)?;
    if let Some(inner) = place.strip_prefix('<') {
        if let Some(inner) = inner.strip_suffix("> <unknown>") {
            let (path, base) = inner.rsplit_once('@')?;
            // The offset is from where the image begins, and so the address.
            if base.strip_prefix("0x").and_then(hex)?.checked_add(offset)? != frame.address {
                return None;
            }
            frame.image = Some(image(path)?);
            frame.offset = Some(offset);
            return Some(());
        }
        let (path, symbol) = inner.split_once("> ")?;
        frame.image = Some(image(path)?);
        frame.symbol_offset = Some(offset);
        match symbol.strip_suffix(" (nearest)") {
            Some(nearest) => frame.nearest_symbol = Some(name(nearest)?),
            None => frame.symbol = Some(name(symbol)?),
        }
        return Some(());
    }
    let (id, area) = place.split_once(':')?;
    let (area, base) = area.rsplit_once('@')?;
    decimal::<i32>(id)?;
    if base.strip_prefix("0x").and_then(hex)?.checked_add(offset)? != frame.address {
        return None;
    }
    frame.area = Some(area.to_owned());
    Some(())
}

/// A name as the kernel would have it: of printing characters, and not one thing after another.
fn name(text: &str) -> Option<String> {
    let fits = !text.is_empty()
        && !text.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER)
        && !text.contains(" + 0x")
        && !text.starts_with(' ')
        && !text.ends_with(' ');
    fits.then(|| text.to_owned())
}

/// The name of an image: the path that it was loaded from, or a name alone (elf.cpp).
fn image(text: &str) -> Option<String> {
    name(text).filter(|text| text.starts_with('/') || !text.contains('/'))
}

/// `stack trace for thread %d "%s"`.
pub(super) fn trace_head(line: &str) -> Option<Thread> {
    let rest = line.strip_prefix("stack trace for thread ")?;
    thread(rest.strip_suffix('"')?)
}

/// `Thread %d "%.64s" running on CPU %d`, or `Running on CPU %d` before there are threads.
pub(super) fn running(line: &str) -> Option<(Option<Thread>, u32)> {
    if let Some(cpu) = line.strip_prefix("Running on CPU ") {
        return Some((None, decimal(cpu)?));
    }
    let (rest, cpu) = line.strip_prefix("Thread ")?.rsplit_once("\" running on CPU ")?;
    Some((Some(thread(rest)?), decimal(cpu)?))
}

fn thread(text: &str) -> Option<Thread> {
    let (id, name) = text.split_once(" \"")?;
    Some(Thread { id: decimal(id)?, name: name.to_owned() })
}

/// `kernel iframe at %p (end = %p)`, or `user iframe …`: whether it is of a program, and where.
pub(super) fn iframe_head(line: &str) -> Option<(bool, u64)> {
    let (kind, rest) = line.split_once(" iframe at 0x")?;
    let (at, end) = rest.split_once(" (end = 0x")?;
    hex(end.strip_suffix(')')?)?;
    let is_user = match kind {
        "user" => true,
        "kernel" => false,
        _ => return None,
    };
    Some((is_user, hex(at)?))
}

/// ` rax %#-18lx    rbx %#-18lx    rcx %#lx` and so on: names of at most six characters, each with
/// a number.
pub(super) fn registers(line: &str) -> Option<Vec<(&str, u64)>> {
    let mut words = line.strip_prefix(' ')?.split_ascii_whitespace();
    let mut found = Vec::new();
    while let Some(name) = words.next() {
        let is_name =
            name.len() <= 6 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !is_name || name.as_bytes()[0].is_ascii_digit() {
            return None;
        }
        found.push((name, words.next()?.strip_prefix("0x").and_then(hex)?));
    }
    (!found.is_empty() && found.len() <= 4).then_some(found)
}

/// ` vector: %#lx, error code: %#lx`.
pub(super) fn vector(line: &str) -> Option<(u64, u64)> {
    let (vector, code) = line.strip_prefix(" vector: 0x")?.split_once(", error code: 0x")?;
    Some((hex(vector)?, hex(code)?))
}

/// `%p  id  %p  %p  protection lock  name` of the command `areas`: name, start, size.
pub(super) fn area(line: &str) -> Option<(&str, u64, u64)> {
    let mut rest = line;
    let mut word = || {
        let (word, more) = rest.trim_start_matches(' ').split_once(' ')?;
        rest = more;
        Some(word)
    };
    let address =
        |text: &str| matches!(text.len(), 10 | 18).then(|| hex(text.strip_prefix("0x")?)).flatten();
    address(word()?)?;
    word()?;
    let (start, size) = (address(word()?)?, address(word()?)?);
    // The protection, and the lock.
    word()?;
    word()?;
    Some((rest.trim_start_matches(' '), start, size))
}

/// Number of a digit string of the full width of a pointer.
fn pointer_digits(text: &str) -> Option<u64> {
    matches!(text.len(), 8 | 16).then(|| hex(text)).flatten()
}

/// `%#04lx`.
fn short_hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    let is_padded = digits.len() == 2 || (digits.len() > 2 && !digits.starts_with('0'));
    is_padded.then(|| hex(digits)).flatten()
}

/// A hexadecimal number in small letters, as `%lx` writes them.
pub(super) fn hex(digits: &str) -> Option<u64> {
    let fits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    digits.bytes().all(fits).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

fn decimal<T: std::str::FromStr>(digits: &str) -> Option<T> {
    (!digits.starts_with('+')).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: &str = "/boot/system/non-packaged/add-ons/kernel/drivers/dev/misc/crash";

    fn parsed(line: &str) -> String {
        let Some(FrameLine { index, size, frame }) = frame(line) else { return "-".to_owned() };
        let Frame { image, symbol, nearest_symbol, offset, symbol_offset, area, .. } = &frame;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let number = |n: &Option<u64>| n.map(|n| format!("{n:#x}")).unwrap_or_default();
        format!(
            "{index} {:x} {size} {:x} {}|{}|{}|{}|{}|{}",
            frame.frame_pointer,
            frame.address,
            text(image),
            text(symbol),
            text(nearest_symbol),
            number(symbol_offset),
            number(offset),
            text(area)
        )
    }

    #[test]
    fn frames_are_read_to_the_letter_or_not_at_all() {
        let nearest = format!(
            " 7 ffffffff8130fed0 (+  64) ffffffff815a6d46   <{CRASH}> find_device (nearest) + 0xa6"
        );
        let with_nearest =
            format!("7 ffffffff8130fed0 64 ffffffff815a6d46 {CRASH}||find_device|0xa6||");
        for (line, expected) in [
            (nearest.as_str(), with_nearest.as_str()),
            (
                "10 00007fbf0aa318c0 (+   0) 000000a6a7fe69c4   \
                 </boot/system/lib/libroot.so> _kern_write + 0x0c",
                "10 7fbf0aa318c0 0 a6a7fe69c4 /boot/system/lib/libroot.so|_kern_write||0xc||",
            ),
            (
                " 8 ffffffff8130ff20 (+  80) ffffffff800f8ec1   <kernel_x86_64> \
                 common_user_io(int, long, void*) + 0x1d1",
                "8 ffffffff8130ff20 80 ffffffff800f8ec1 \
                 kernel_x86_64|common_user_io(int, long, void*)||0x1d1||",
            ),
            (
                " 5 ffffffff81f51bb0 (+  80) ffffffff81afd0c4   \
                 <drv@0xffffffff81afc000> <unknown> + 0x10c4",
                "5 ffffffff81f51bb0 80 ffffffff81afd0c4 drv||||0x10c4|",
            ),
            (
                " 6 0000000000000000 (+   0) ffffffff82713fe0   \
                 131:main2_16_kstack@0xffffffff8270f000 + 0x4fe0",
                "6 0 0 ffffffff82713fe0 |||||main2_16_kstack",
            ),
            (" 6 ffffffff8130fe90 (+ 248) 0000000000000000   ", "6 ffffffff8130fe90 248 0 |||||"),
            (
                " 3 ffff0000024f1e30 (+ 176) ffff0000000dbbcc   <kernel_arm64> panic() + 0x8c",
                "3 ffff0000024f1e30 176 ffff0000000dbbcc kernel_arm64|panic()||0x8c||",
            ),
            (
                " 3 80f51e30 (+ 176) 8010dbbc   <kernel_x86> panic + 0x8c",
                "3 80f51e30 176 8010dbbc kernel_x86|panic||0x8c||",
            ),
            (" 3 80f51e30 (+ 176) 8010dbbc   <kernel_x86> panic + 0x8", "-"),
            (" 3 80f51e30 (+ 176) 8010dbbc   <kernel_x86> panic + 0x08c", "-"),
            (" 3 80f51e30 (+176) 8010dbbc   <kernel_x86> panic + 0x8c", "-"),
            ("3 80f51e30 (+ 176) 8010dbbc   <kernel_x86> panic + 0x8c", "-"),
            (" 3 80f51e30 (+ 176) 8010dbbc  <kernel_x86> panic + 0x8c", "-"),
            (" 3 80f51e30 (+ 176) 8010dbbc   <kernel_x86> pan\u{fffd}c + 0x8c", "-"),
            (" 3 80f51e30 (+ 176) 8010dbbc   <a@0x80100000> <unknown> + 0xdbbd", "-"),
            ("", "-"),
        ] {
            assert_eq!(parsed(line), expected, "{line}");
        }
    }

    #[test]
    fn other_lines_are_read() {
        let thread = |id, name: &str| Thread { id, name: name.to_owned() };
        assert_eq!(trace_head(r#"stack trace for thread 28 "a "b"""#), Some(thread(28, "a \"b\"")));
        assert_eq!(trace_head(r#"stack trace for thread 28 "a"#), None);
        assert_eq!(
            running(r#"Thread 28 "launch_daemon" running on CPU 1"#),
            Some((Some(thread(28, "launch_daemon")), 1))
        );
        assert_eq!(running("Running on CPU 0"), Some((None, 0)));
        assert_eq!(running("Running on CPU x"), None);
        assert_eq!(iframe_head("user iframe at 0x10 (end = 0x20)"), Some((true, 16)));
        assert_eq!(iframe_head("kernel iframe at 0x10 (end = 0x20)"), Some((false, 16)));
        assert_eq!(iframe_head("kernel iframe at 0x10"), None);
        assert_eq!(
            registers(" rax 0x1                   rbx 0xff    rcx 0x0"),
            Some(vec![("rax", 1), ("rbx", 255), ("rcx", 0)])
        );
        assert_eq!(registers(" rax 0x1  rbx"), None);
        assert_eq!(registers("rax 0x1"), None);
        assert_eq!(vector(" vector: 0xe, error code: 0x2"), Some((14, 2)));
        let line = "0xffffffff828e7910   d96  0xffffffff8209f000  0x0000000000001000   30    2  \
                    edu regs";
        assert_eq!(area(line), Some(("edu regs", 0xffff_ffff_8209_f000, 0x1000)));
        assert_eq!(area("addr                  id  base                size"), None);
    }
}
