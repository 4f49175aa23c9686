//! The command line of the reference guest's kernel.

/// What it always has. Level 6 lets the kernel introduce itself on the console and say what goes
/// wrong, and no more: what a driver logs comes in the report.
const ALWAYS: [&str; 4] = ["console=ttyS0,115200", "loglevel=6", "panic=-1", "rdinit=/init"];

/// What an emulated processor is spared (the kernel's
/// Documentation/admin-guide/kernel-parameters.txt). Together they leave a fifth of the
/// instructions between the kernel's first and kireji's; nothing of it concerns a card.
const EMULATED: [&str; 8] = [
    // The clock of an emulator that stalls looks broken when it is compared with another.
    "tsc=reliable",
    "no_timer_check",
    // Random numbers from the emulated processor, instead of waiting for its timing to vary.
    "random.trust_cpu=on",
    // Self-tests of encryption.
    "cryptomgr.notests",
    // Protection of the kernel from its own faults, and a look at every page whether it is so.
    "rodata=off",
    // Locks rewritten for a single processor.
    "noreplace-smp",
    // Timers that are measured against each other first; the oldest needs no measuring.
    "hpet=disable",
    "nolapic_timer",
];

/// Functions of the kernel's start that cost much and are not needed: tracing, self-tests,
/// statistics, and what BPF knows of types. A kernel without one of them does not mind.
const SKIPPED: [&str; 11] = [
    "blake2s_mod_init",
    "bpf_dummy_struct_ops_init",
    "bpf_tcp_ca_kfunc_init",
    "btf_module_init",
    "ftrace_check_for_weak_functions",
    "init_kprobe_trace",
    "init_trace_printk_function_export",
    "jent_mod_init",
    "param_sysfs_builtin_init",
    "slab_sysfs_init",
    "trace_eval_init",
];

/// Returns the command line; `emulated` if there is no processor but a program.
pub(super) fn command_line(emulated: bool) -> String {
    let mut line = ALWAYS.join(" ");
    if emulated {
        line.extend(EMULATED.iter().flat_map(|word| [" ", word]));
        line.push_str(" initcall_blacklist=");
        line.push_str(&SKIPPED.join(","));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_the_whole_line() {
        assert_eq!(command_line(false), "console=ttyS0,115200 loglevel=6 panic=-1 rdinit=/init");
        let line = command_line(true);
        assert!(line.contains(" tsc=reliable ") && line.ends_with(",trace_eval_init"));
        // COMMAND_LINE_SIZE of the kernel's arch/x86/include/asm/setup.h.
        assert!(line.len() < 2048);
    }
}
