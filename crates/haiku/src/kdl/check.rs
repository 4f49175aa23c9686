//! Whether a stack trace can be believed.
//!
//! A report says much of itself twice: frames are numbered, each says how far it is from the one
//! before, an interrupt frame repeats the address and the pointer of the frame after it, functions
//! begin at one place. What is left of a report in which these agree is what the kernel wrote.

use std::collections::{BTreeSet, HashMap};

use super::report::{Damage, Frame};
use super::trace::{Iframe, RawTrace, is_high};

/// Where the kernel is (src/system/ldscripts/x86_64/kernel.ld); it is never moved.
pub(super) const KERNEL_X86_64: u64 = 0xffff_ffff_8000_0000;
/// Bytes that it has at most (src/system/boot/platform/bios_ia32/mmu.cpp).
const LARGEST_KERNEL: u64 = 16 << 20;

/// What is wrong with a trace.
pub(super) fn damage(trace: &RawTrace) -> BTreeSet<Damage> {
    let mut found = trace.damage.clone();
    // Before there are threads, a trace has neither a name nor bounds of the stack.
    if !trace.has_heading || trace.has_stack != trace.thread.is_some() {
        found.insert(Damage::MissingLines);
    }
    if !trace.is_over || !has_end(trace) {
        found.insert(Damage::CutShort);
    }
    let agrees = pointers_agree(trace)
        && trace.iframes.iter().all(|iframe| iframe_agrees(trace, iframe))
        && trace.frames.iter().all(is_in_its_image);
    if !agrees {
        found.insert(Damage::Contradiction);
    }
    found
}

/// A stack ends where there is no frame before.
fn has_end(trace: &RawTrace) -> bool {
    let last = trace.frames.last();
    trace.has_end || trace.more > 0 || last.is_some_and(|frame| frame.frame_pointer == 0)
}

/// Each distance is that of the two frames, or 0 where they are on two stacks
/// (arch_debug.cpp, `print_stack_frame`).
fn pointers_agree(trace: &RawTrace) -> bool {
    let pairs = trace.frames.iter().zip(trace.frames.iter().skip(1));
    pairs.zip(trace.sizes.iter().skip(1)).all(|((before, after), size)| {
        let (before, after) = (before.frame_pointer, after.frame_pointer);
        if is_high(before) != is_high(after) || after < before {
            return *size == 0;
        }
        i64::try_from(after - before) == Ok(*size)
    })
}

fn iframe_agrees(trace: &RawTrace, iframe: &Iframe) -> bool {
    let before = iframe.position.checked_sub(1).and_then(|at| trace.frames.get(at));
    // Without frames after it, the trace is cut short, or it is of the outermost program.
    let after = trace.frames.get(iframe.position);
    before.is_none_or(|frame| frame.frame_pointer == iframe.at)
        && iframe.vector.is_some()
        && after.is_none_or(|frame| {
            iframe.instruction() == Some(frame.address)
                && iframe.frame_pointer() == Some(frame.frame_pointer)
        })
}

/// The kernel and its add-ons are in its half of the address space.
fn is_in_its_image(frame: &Frame) -> bool {
    match frame.image.as_deref() {
        None => true,
        Some("kernel_x86_64") => {
            (KERNEL_X86_64..KERNEL_X86_64 + LARGEST_KERNEL).contains(&frame.address)
        }
        Some(_) => is_high(frame.address) != frame.is_user,
    }
}

/// Whether every function of these traces begins at one place, and no two at the same.
pub(super) fn functions_agree<'a>(traces: impl Iterator<Item = &'a RawTrace>) -> bool {
    let mut starts: HashMap<(&str, &str), u64> = HashMap::new();
    let mut names: HashMap<u64, (&str, &str)> = HashMap::new();
    traces.flat_map(|trace| &trace.frames).all(|frame| {
        // Arguments stand only where the name is exact, and only once an add-on tells them.
        let name = frame.function().or(frame.nearest_symbol.as_deref());
        let (Some(image), Some(name), Some(offset)) =
            (frame.image.as_deref(), name, frame.symbol_offset)
        else {
            return true;
        };
        let Some(start) = frame.address.checked_sub(offset) else { return false };
        *starts.entry((image, name)).or_insert(start) == start
            && *names.entry(start).or_insert((image, name)) == (image, name)
    })
}

/// Whether two traces of one thread agree from the function on by which it came into the debugger;
/// before it are the debugger's own.
pub(super) fn same_thread(one: &RawTrace, other: &RawTrace) -> bool {
    let tail = |trace: &RawTrace| -> Vec<Frame> {
        let start = super::guilty::way_in(&trace.frames).unwrap_or_default();
        trace.frames.iter().skip(start).cloned().collect()
    };
    tail(one) == tail(other)
}
