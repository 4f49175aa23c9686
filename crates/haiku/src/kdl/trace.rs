//! A stack trace, as its lines come.

use std::collections::{BTreeMap, BTreeSet};

use super::parse::{self, FrameLine};
use super::report::{Damage, Frame, Thread};

/// Frames that are kept. The kernel writes 400 at most (arch_debug.cpp, `stack_trace`).
const MOST_FRAMES: usize = 400;
/// Interrupt frames that are kept.
const MOST_IFRAMES: usize = 16;
/// Registers of one that are kept; a processor has about twenty.
const MOST_REGISTERS: usize = 64;
/// The first vector that is no exception of the processor (Intel SDM volume 3, 6.2).
const FIRST_INTERRUPT: u64 = 0x20;

/// What the processor saved when it was interrupted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Iframe {
    pub(super) is_user: bool,
    /// Where it is on the stack.
    pub(super) at: u64,
    pub(super) registers: BTreeMap<String, u64>,
    pub(super) vector: Option<u64>,
    /// How many frames stand before it.
    pub(super) position: usize,
}

impl Iframe {
    /// Whether it is of an exception in the kernel.
    pub(super) fn is_exception(&self) -> bool {
        !self.is_user && self.vector.is_some_and(|vector| vector < FIRST_INTERRUPT)
    }

    /// Whether it is of an interrupt by a device, which has nothing to do with what ran.
    pub(super) fn is_interrupt(&self) -> bool {
        !self.is_user && self.vector.is_some_and(|vector| vector >= FIRST_INTERRUPT)
    }

    /// The frame pointer of what was interrupted.
    pub(super) fn frame_pointer(&self) -> Option<u64> {
        self.register(["rbp", "ebp"])
    }

    fn register(&self, names: [&str; 2]) -> Option<u64> {
        names.iter().find_map(|name| self.registers.get(*name)).copied()
    }

    /// The interrupted instruction.
    pub(super) fn instruction(&self) -> Option<u64> {
        self.register(["rip", "eip"])
    }
}

/// One trace.
#[derive(Clone, Debug, Default)]
pub(super) struct RawTrace {
    /// Whose it is; `None` where that line is lost.
    pub(super) thread: Option<Thread>,
    pub(super) frames: Vec<Frame>,
    pub(super) iframes: Vec<Iframe>,
    pub(super) more: usize,
    /// Whether something stands after it, so that it is not cut short.
    pub(super) is_over: bool,
    /// The distance of each frame from the one before, as it is written.
    pub(super) sizes: Vec<i64>,
    /// What was noticed while it was read.
    pub(super) damage: BTreeSet<Damage>,
    pub(super) has_stack: bool,
    pub(super) has_heading: bool,
    /// Whether it says of itself that it goes no further.
    pub(super) has_end: bool,
    next_index: u32,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    /// It is something else; the trace may go on after it.
    No,
    /// The trace is over.
    Over,
}

impl RawTrace {
    pub(super) fn new(thread: Option<Thread>) -> Self {
        Self { thread, ..Self::default() }
    }

    pub(super) fn take(&mut self, line: &str) -> Taken {
        if let Some(found) = parse::frame(line) {
            self.push(found);
        } else if let Some((is_user, at)) = parse::iframe_head(line) {
            if self.iframes.len() < MOST_IFRAMES {
                let position = self.frames.len();
                self.iframes.push(Iframe { is_user, at, position, ..Iframe::default() });
            }
        } else if let Some(found) = parse::registers(line) {
            let Some(iframe) = self.open_iframe() else { return self.mixed(line) };
            for (name, value) in found {
                if iframe.registers.len() < MOST_REGISTERS {
                    iframe.registers.insert(name.to_owned(), value);
                }
            }
        } else if let Some((vector, _)) = parse::vector(line) {
            let Some(iframe) = self.open_iframe() else { return self.mixed(line) };
            iframe.vector = Some(vector);
        } else if line.starts_with("    kernel stack: 0x") {
            self.has_stack = true;
        } else if is_heading(line) {
            self.has_heading = true;
        } else if line.starts_with("initial commands: ") {
            return Taken::Over;
        } else if line.ends_with(" -- read fault") || line.starts_with("circular stack frame: 0x") {
            self.has_end = true;
        } else if line.starts_with("      user stack: 0x") || is_repetition(line) {
            return Taken::Yes;
        } else {
            return self.mixed(line);
        }
        Taken::Yes
    }

    fn mixed(&mut self, line: &str) -> Taken {
        let is_odd = line.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER);
        self.damage.insert(if is_odd { Damage::Characters } else { Damage::Mixed });
        Taken::No
    }

    /// The interrupt frame whose lines are being read.
    fn open_iframe(&mut self) -> Option<&mut Iframe> {
        let frames = self.frames.len();
        self.iframes
            .last_mut()
            .filter(|iframe| iframe.position == frames && iframe.vector.is_none())
    }

    fn push(&mut self, found: FrameLine) {
        if found.index != self.next_index {
            self.damage.insert(Damage::MissingFrames);
        }
        self.next_index = found.index.saturating_add(1);
        if self.frames.len() == MOST_FRAMES {
            self.more += 1;
            return;
        }
        let FrameLine { mut frame, size, .. } = found;
        let last = self.iframes.last();
        frame.is_exact = last.is_some_and(|iframe| iframe.position == self.frames.len());
        frame.is_user = last.is_some_and(|iframe| iframe.is_user)
            || (frame.frame_pointer != 0 && !is_high(frame.frame_pointer));
        self.frames.push(frame);
        self.sizes.push(size);
    }
}

/// Whether an address is in the half of the kernel; 32-bit addresses have a half of their own.
pub(super) fn is_high(address: u64) -> bool {
    address >> 63 == 1 || (0x8000_0000..=0xffff_ffff).contains(&address)
}

/// The heading of the frames (arch_debug.cpp, `stack_trace`).
pub(super) fn is_heading(line: &str) -> bool {
    line.starts_with("frame ") && line.ends_with("<image>:function + offset")
}

/// What stands for lines that came several times (debug.cpp, `flush_pending_repeats`).
pub(super) fn is_repetition(line: &str) -> bool {
    line.starts_with("Last message repeated ") && line.ends_with(" times.")
}
