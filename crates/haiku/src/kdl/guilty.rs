//! Which frame is to be looked at first.
//!
//! It is the first of an image other than the kernel, or, where there is none, the first after the
//! panic or the exception; behind the registers of an exception stands the instruction that caused
//! it. What a device interrupted, and what runs in user space, is not to blame.

use super::report::{Frame, Kind};
use super::trace::RawTrace;

/// Functions by which the debugger is entered, and which stand inside of what entered it
/// (src/system/kernel/debug/debug.cpp), the outermost first.
const WAYS_IN: [&str; 3] = ["panic", "kernel_debugger", "kernel_debugger_internal"];

/// How many frames, counted from the innermost, are the debugger's own; `None` where none is.
pub(super) fn way_in(frames: &[Frame]) -> Option<usize> {
    let place = |name: &&str| frames.iter().position(|frame| frame.function() == Some(*name));
    WAYS_IN.iter().find_map(place).map(|at| at + 1)
}

/// What is behind the panic or the exception, and where it ends.
pub(super) struct Cause {
    /// The number of its first frame.
    start: usize,
    end: usize,
    /// Whether that which leads there is missing: the panic, or the registers of the exception.
    pub(super) is_uncertain: bool,
}

impl Cause {
    pub(super) fn of(trace: &RawTrace, kind: Kind) -> Self {
        let exception = trace.iframes.iter().find(|iframe| iframe.is_exception());
        let exception = exception.filter(|_| kind.is_exception()).map(|iframe| iframe.position);
        let found = exception.or_else(|| way_in(&trace.frames));
        let start = found.unwrap_or_default();
        let interrupts = trace.iframes.iter().filter(|iframe| iframe.is_interrupt());
        let outside = interrupts.map(|iframe| iframe.position).find(|position| *position > start);
        let user = trace.frames.iter().position(|frame| frame.is_user);
        let end = outside.into_iter().chain(user).chain([trace.frames.len()]).min();
        Self {
            start,
            end: end.unwrap_or_default(),
            is_uncertain: found.is_none()
                // Those of a double fault are on a stack of their own.
                || (exception.is_none() && kind.is_exception() && kind != Kind::DoubleFault),
        }
    }

    /// The number of the guilty frame.
    pub(super) fn guilty(&self, frames: &[Frame]) -> Option<usize> {
        let within = self.start..self.end;
        let is_add_on = |at: &usize| {
            frames.get(*at).is_some_and(|frame| frame.image.is_some() && !frame.is_kernel())
        };
        within.clone().find(is_add_on).or_else(|| within.clone().next())
    }
}
