//! Reports of which no genuine log is at hand, made by the formats of the kernel's source.

use super::*;

const HEAD: &str = "Welcome to Kernel Debugging Land...\r\nrevision: hrev1\r\n\
                    Thread 28 \"test\" running on CPU 0\r\n";
const TRACE: &str = "stack trace for thread 28 \"test\"\r\n    \
                     kernel stack: 0xffffffff8130b000 to 0xffffffff81310000\r\n\
                     frame                       caller             <image>:function + offset\r\n";
const STACK: u64 = 0xffff_ffff_8130_f800;
const KERNEL: u64 = 0xffff_ffff_8000_0000;
const ADD_ON: u64 = 0xffff_ffff_8164_0000;

/// A frame, or the vector of an interrupt frame that stands before the next.
enum Part {
    Frame(&'static str, u64),
    Vector(u64),
}
use Part::{Frame as F, Vector as V};

/// Writes a trace of these frames: image and function, and the address below the image.
fn trace(parts: &[Part]) -> String {
    let mut text = TRACE.to_owned();
    let (mut index, mut iframe) = (0, None);
    for part in parts {
        let pointer = STACK + 64 * index;
        match part {
            V(vector) => iframe = Some(*vector),
            F(place, offset) => {
                let base = if place.starts_with("kernel_") { KERNEL } else { ADD_ON };
                let address = base + offset;
                if let Some(vector) = iframe.take() {
                    let before = pointer - 64;
                    text += &format!(
                        "kernel iframe at {before:#x} (end = 0xffffffff8130fff8)\r\n \
                         rip {address:#x}    rbp {pointer:#x}\r\n \
                         vector: {vector:#x}, error code: 0x0\r\n"
                    );
                }
                let (image, function) = place.split_once(' ').unwrap();
                text += &format!(
                    "{index:2} {pointer:016x} (+{:4}) {address:016x}   <{image}> {function} + \
                     0x10\r\n",
                    64
                );
                index += 1;
            }
        }
    }
    text + &format!("{index:2} {:016x} (+{:4}) {:016x}   \r\n", 0, 0, 0)
}

fn read(log: &str) -> Vec<Panic> {
    let (mut reader, mut found) = (Reader::default(), Vec::new());
    let mut keep = |event: Event<'_>| {
        if let Event::Complete(panic) = event {
            found.push(*panic);
        }
    };
    reader.push(log.as_bytes(), &mut keep);
    reader.finish(&mut keep);
    found
}

fn told(log: &str) -> String {
    let lines = read(log).into_iter().map(|panic| {
        let guilty = panic.guilty.map_or("nobody".to_owned(), |frame| {
            format!("{} {}", frame.image.unwrap_or_default(), frame.symbol.unwrap_or_default())
        });
        format!("{:?}; {guilty}; {:?}", panic.kind, panic.damage)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn each_way_into_the_debugger_has_its_guilty_frame() {
    let panics = |message: &str, parts: Vec<Part>| {
        let way_in = [
            F("kernel_x86_64 kernel_debugger_internal", 0xb96c4),
            F("kernel_x86_64 panic", 0xba2b7),
        ];
        let parts: Vec<_> = way_in.into_iter().chain(parts).collect();
        format!("boot\r\nPANIC: {message}\r\n{HEAD}{}kdebug> ", trace(&parts))
    };
    for (log, expected) in [
        (
            panics("ASSERT FAILED (a.c:1): x", vec![F("mine write_it", 0x100)]),
            "Assertion; mine write_it; []",
        ),
        // The handler of an interrupt panics, and another driver was interrupted.
        (
            panics(
                "of the kernel's own",
                vec![F("kernel_x86_64 timer", 0x1000), V(0x30), F("innocent work", 0x100)],
            ),
            "Panic; kernel_x86_64 timer; []",
        ),
        (
            panics(
                "page fault, but interrupts were disabled. Touching address 0x0 from ip \
                 0xffffffff81640100",
                vec![F("kernel_x86_64 intr_bottom", 0x1000), V(0xe), F("mine handler", 0x100)],
            ),
            "PageFault; mine handler; []",
        ),
        // What a driver gave to the kernel was wrong: the fault is in `memcpy`.
        (
            panics(
                "vm_page_fault: unhandled page fault in kernel space at 0x10, ip \
                 0xffffffff80002000",
                vec![
                    F("kernel_x86_64 intr_bottom", 0x1000),
                    V(0xe),
                    F("kernel_x86_64 memcpy", 0x2000),
                    F("mine write_it", 0x100),
                ],
            ),
            "PageFault; mine write_it; []",
        ),
        // The guest was interrupted from outside; it did nothing but wait.
        (
            panics(
                "Fatal exception \"NMI Interrupt\" occurred! Error code: 0x0",
                vec![F("kernel_x86_64 intr_bottom", 0x1000), V(2), F("kernel_x86_64 idle", 0x2000)],
            ),
            "Nmi; kernel_x86_64 idle; []",
        ),
        (
            panics(
                "Unexpected exception \"Divide Error Exception\" occurred in kernel mode!",
                vec![F("mine write_it", 0x100)],
            ),
            "DivideError; mine write_it; [NoCause]",
        ),
        // Two processors, of which one does not stop.
        (
            panics("x", vec![F("mine write_it", 0x100)]).replace(
                "Welcome",
                "PANIC: 1/2 CPUs are not trapped in the kernel debugger!\r\nWelcome",
            ),
            "Panic; mine write_it; []",
        ),
        // A double fault and `kernel_debugger` have no trace until asked.
        (format!("Double Fault!\r\n{HEAD}kdebug> "), "DoubleFault; nobody; []"),
        (
            format!(
                "Double Fault!\r\n{HEAD}kdebug> bt\r\n{}kdebug> ",
                trace(&[
                    F("kernel_x86_64 kernel_debugger_internal", 0xb96c4),
                    F("kernel_x86_64 intr_bottom", 0x1000),
                    V(8),
                    F("mine deeper", 0x100),
                    F("mine deeper", 0x100),
                ])
            ),
            "DoubleFault; mine deeper; []",
        ),
        (format!("Keyboard Requested Halt.\r\n{HEAD}kdebug> "), "Debugger; nobody; []"),
        (
            format!(
                "here I am\r\n{HEAD}kdebug> bt\r\n{}kdebug> ",
                trace(&[F("kernel_x86_64 kernel_debugger", 0xb96c4), F("mine write_it", 0x100)])
            ),
            "Debugger; mine write_it; []",
        ),
        // Before there are threads.
        (
            panics("x", vec![F("kernel_x86_64 main", 0x100)])
                .replace("Thread 28 \"test\" running on CPU 0", "Running on CPU 0")
                .replace(TRACE, TRACE.split_at(TRACE.find("frame ").unwrap()).1),
            "Panic; kernel_x86_64 main; []",
        ),
        // What is missing is said.
        (
            panics("x", vec![F("kernel_x86_64 main", 0x100)])
                .replace(TRACE, TRACE.split_at(TRACE.find("frame ").unwrap()).1),
            "Panic; kernel_x86_64 main; [MissingLines]",
        ),
        ("PANIC: x\r\n".to_owned(), "Panic; nobody; [CutShort]"),
        ("kdebug> ".to_owned(), "Debugger; nobody; [NoBeginning, MissingLines]"),
        (
            panics("x", vec![F("mine write_it", 0x100)]).replace("kdebug> ", ""),
            "Panic; mine write_it; [CutShort]",
        ),
    ] {
        assert_eq!(told(&log), expected, "{log}");
    }
}

/// Processors with 32 bits: pointers of eight digits, and registers of other names.
#[test]
fn a_report_of_32_bits_is_read_too() {
    let way_in =
        "PANIC: vm_page_fault: unhandled page fault in kernel space at 0x10, ip 0x8164a100\r\n";
    let report = format!(
        "{way_in}{HEAD}stack trace for thread 28 \"test\"\r\n    \
         kernel stack: 0x8130b000 to 0x8130f000\r\n\
         frame               caller     <image>:function + offset\r\n \
         0 8130e800 (+  32) 800ba2b7   <kernel_x86> panic + 0xb7\r\n \
         1 8130e820 (+  32) 800c1000   <kernel_x86> vm_page_fault + 0x10\r\n\
         kernel iframe at 0x8130e820 (end = 0x8130e870)\r\n \
         eax 0x10        ebx 0x0         ecx 0x8164b000  edx 0x0\r\n \
         esi 0x0         edi 0x0         ebp 0x8130e860  esp 0x8130e850\r\n \
         eip 0x8164a100  eflags 0x10246\r\n \
         vector: 0xe, error code: 0x2\r\n \
         2 8130e860 (+  64) 8164a100   </boot/home/config/non-packaged/add-ons/kernel/drivers/bin/\
         mine> write_it + 0x10\r\n \
         3 00000000 (+   0) 800c2000   <kernel_x86> sys_write + 0x10\r\nkdebug> "
    );
    assert_eq!(
        told(&report),
        "PageFault; /boot/home/config/non-packaged/add-ons/kernel/drivers/bin/mine write_it; []"
    );
    let panic = &read(&report)[0];
    assert_eq!(
        panic.title,
        "vm_page_fault: unhandled page fault in kernel space at 0x10 in mine: write_it"
    );
    assert_eq!(panic.registers.get("eip"), Some(&0x8164_a100));
    // A pointer that lost a digit, and one that is another.
    for (from, to) in [("8164a100   <", "8164a10   <"), ("8130e860 (+", "8130e8a0 (+")] {
        let damaged = report.replace(from, to);
        assert!(read(&damaged)[0].corrupted, "{damaged}");
    }
}

/// What is made up can be harmed like what is genuine: another frame is not blamed without a mark.
#[test]
fn a_made_up_report_that_loses_a_line_says_so() {
    for (vector, message) in [
        (Some(8), "Double Fault!\r\n".to_owned()),
        (
            Some(2),
            "PANIC: Fatal exception \"NMI Interrupt\" occurred! Error code: 0x0\r\n".to_owned(),
        ),
        (
            Some(0xe),
            "PANIC: page fault, but interrupts were disabled. Touching address 0x0 from ip \
               0xffffffff81640100\r\n"
                .to_owned(),
        ),
        (None, "here I am\r\n".to_owned()),
    ] {
        let asked = if message.starts_with("PANIC") { "" } else { "kdebug> bt\r\n" };
        let way_in = match vector {
            Some(vector) => vec![
                F("kernel_x86_64 kernel_debugger_internal", 0xb96c4),
                F("kernel_x86_64 panic", 0xba2b7),
                F("kernel_x86_64 intr_bottom", 0x1000),
                V(vector),
            ],
            None => vec![F("kernel_x86_64 kernel_debugger", 0xb96c4)],
        };
        let running = [F("mine handler", 0x100), F("other work", 0x40100)];
        let outermost = F("kernel_x86_64 idle", 0x2000);
        let parts: Vec<_> = way_in.into_iter().chain(running).chain([outermost]).collect();
        let whole = format!("boot\r\n{message}{HEAD}{asked}{}kdebug> ", trace(&parts));
        let blamed = |panics: &[Panic]| -> Vec<_> {
            panics.iter().filter(|p| !p.corrupted).filter_map(|p| p.guilty.clone()).collect()
        };
        let expected = blamed(&read(&whole));
        assert_eq!(expected.len(), 1, "{whole}");
        let lines: Vec<_> = whole.split_inclusive('\n').collect();
        for gone in 0..lines.len() {
            let kept = lines.iter().enumerate().filter(|(number, _)| *number != gone);
            let damaged: String = kept.map(|(_, line)| *line).collect();
            let found = blamed(&read(&damaged));
            assert!(found.iter().all(|frame| expected.contains(frame)), "{damaged}\n{found:?}");
        }
        for cut in 0..whole.len() {
            let found = blamed(&read(&whole[..cut]));
            assert!(
                found.iter().all(|frame| expected.contains(frame)),
                "{}\n{found:?}",
                &whole[..cut]
            );
            let found = blamed(&read(&whole[cut..]));
            assert!(
                found.iter().all(|frame| expected.contains(frame)),
                "{}\n{found:?}",
                &whole[cut..]
            );
        }
    }
}

#[test]
fn a_panic_is_another_only_if_it_is() {
    let one = |message: &str, offset| {
        let parts = [F("kernel_x86_64 panic", 0xba2b7), F("mine write_it", offset)];
        format!("PANIC: {message}\r\n{HEAD}{}kdebug> ", trace(&parts))
    };
    let repeated =
        format!("{}message\r\nPANIC: x\r\nkdebug> es\r\n{}", one("x", 0x100), one("x", 0x100));
    let quoted = format!(
        "{}syslog | tail 9\r\nWelcome to kernel debugger output!\r\nPANIC: old\r\nkdebug> ",
        one("x", 0x100)
    );
    let boot = "\r\nWelcome to the Haiku boot loader!\r\n";
    for (log, count) in [
        (repeated, 1),
        (quoted, 1),
        (format!("{}es\r\n{}", one("x", 0x100), one("y", 0x200)), 2),
        (format!("{}{boot}{}", one("x", 0x100), one("x", 0x100)), 2),
        ("he said PANIC\r\nWelcome to the Haiku boot loader!\r\n".to_owned(), 0),
        // A program wrote the word, and the guest went on.
        (format!("PANIC: at the disco\r\n{}", "line\r\n".repeat(300)), 0),
    ] {
        assert_eq!(read(&log).len(), count, "{log}");
    }
}

#[test]
fn what_the_line_adds_is_left_out() {
    let parts = [F("kernel_x86_64 panic", 0xba2b7), F("mine write_it", 0x100)];
    let plain = format!("PANIC: x\r\n{HEAD}{}kdebug> ", trace(&parts));
    let expected = read(&plain);
    assert!(!expected[0].corrupted);
    for log in [
        plain.replace("\r\n", "\n"),
        plain.replace("\r\n", "\r\r\n"),
        plain.replace("write_it", "wri\x1b[33mte_it").replace("revision", "\x1b[0mrevision"),
        plain.replace("frame  ", "Last message repeated 2 times.\r\nframe  "),
        plain.replace("write_it", "wriKERN: te_it"),
        plain.lines().map(|line| format!("2026-11-22 12:00:00 KERN: {line}\n")).collect(),
    ] {
        assert_eq!(read(&log), expected, "{log}");
    }
}
