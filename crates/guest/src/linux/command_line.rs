//! The command line of the reference guest's kernel.

/// What it always has. Level 6 lets the kernel introduce itself on the console and say what goes
/// wrong, and no more: what a driver logs comes in the report.
const ALWAYS: [&str; 5] =
    ["console=ttyS0,115200", "loglevel=6", "panic=-1", "rdinit=/init", "nvme_core.multipath=N"];

/// Returns the command line; `emulated` if there is no processor but a program.
pub(super) fn command_line(emulated: bool) -> String {
    let mut words = ALWAYS.to_vec();
    if emulated {
        words.extend(EMULATED);
    }
    words.join(" ")
}

/// What an emulated processor is spared.
const EMULATED: [&str; 0] = [];
