//! What Haiku's kernel says when a driver brings it down, made up from the formats of its debugger
//! (src/system/kernel/arch/x86/arch_debug.cpp).

/// Where the driver's file begins in memory.
const BASE: u64 = 0xffff_ffff_8209_d000;
/// The last line of a trace that is whole.
pub const END: &str =
    " 2 0000000000000000 (+   0) ffffffff800ba2b7   <kernel_x86_64> panic + 0xb7\r\n";

/// How the kernel came to its debugger.
#[derive(Clone, Copy, Debug)]
pub enum Cause<'a> {
    /// The driver touched what is not there.
    PageFault,
    /// It was interrupted by a non-maskable interrupt.
    Interrupt,
    /// It called the kernel, which panicked with this reason.
    Call(&'a str),
}

/// A panic in the image of this name, at an address of its file whose name the kernel does not know.
/// For a call it is where that returns to. `callers` is the rest of the trace, with its line ends.
pub fn panic(cause: Cause<'_>, image: &str, offset: u64, callers: &str) -> String {
    let ip = BASE + offset;
    let (reason, vector) = match cause {
        Cause::PageFault => {
            let words = "vm_page_fault: unhandled page fault in kernel space at 0x10, ip";
            (format!("{words} {ip:#x}"), Some("0xe, error code: 0x2"))
        }
        Cause::Interrupt => {
            let words = "Fatal exception \"NMI Interrupt\" occurred! Error code: 0x0";
            (words.to_owned(), Some("0x2, error code: 0x0"))
        }
        Cause::Call(reason) => (reason.to_owned(), None),
    };
    let interrupted = vector.map_or_else(String::new, |vector| {
        format!(
            "kernel iframe at 0xffffffff8130f8c0 (end = 0xffffffff8130fe70)\r\n \
             rip {ip:#x}    rbp 0xffffffff8130f900 rflags 0x10246\r\n vector: {vector}\r\n"
        )
    });
    format!(
        "PANIC: {reason}\r\n\r\n\
         Welcome to Kernel Debugging Land...\r\nrevision: hrev59000\r\n\
         Thread 28 \"test\" running on CPU 0\r\nstack trace for thread 28 \"test\"\r\n    \
         kernel stack: 0xffffffff8130b000 to 0xffffffff81310000\r\n\
         frame                       caller             <image>:function + offset\r\n \
         0 ffffffff8130f8c0 (+  32) ffffffff800ba2b7   <kernel_x86_64> panic + 0xb7\r\n\
         {interrupted} \
         1 ffffffff8130f900 (+  64) {ip:016x}   <{image}@{BASE:#x}> <unknown> + {offset:#04x}\r\n\
         {callers}"
    )
}
