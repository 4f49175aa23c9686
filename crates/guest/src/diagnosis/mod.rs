//! What QEMU's and VFIO's error lines mean, and what to do.
//!
//! A pure function over QEMU's standard error. Each entry of `known` says where its line comes
//! from; those that a test can provoke in a real QEMU are.

mod known;

use known::KNOWN;
use serde::Serialize;

/// A line that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cause<'a> {
    /// QEMU's own words.
    pub line: &'a str,
    /// What kind of trouble it is.
    pub kind: Kind,
    /// What it means.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// Where in QEMU's or the kernel's source the line, or the error in it, comes from.
    pub source: &'static str,
}

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nothing is wrong; the line only looks so.
    Harmless,
    /// Something works worse than it could.
    Degraded,
    /// The user may not.
    Permission,
    /// Somebody else has the card, the image or the port.
    Busy,
    /// The host cannot: its IOMMU, memory or kernel.
    Host,
    /// The card is unwell or cannot do what is wanted.
    Card,
    /// A file is missing or is not what it should be.
    File,
    /// A disk of the host is full.
    Space,
    /// This QEMU has not got what is needed.
    Qemu,
    /// The command line contradicts itself; with arguments of the user's own, theirs.
    Arguments,
}

/// One line that is known.
#[derive(Debug)]
struct Known {
    /// Texts that the line holds, in this order.
    parts: &'static [&'static str],
    kind: Kind,
    cause: &'static str,
    remedy: &'static str,
    source: &'static str,
}

impl Known {
    fn matches(&self, line: &str) -> bool {
        let mut rest = line;
        self.parts.iter().all(|part| match rest.find(part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    }
}

/// Returns what the lines of QEMU's log mean, in their order, each meaning once.
pub fn diagnose(log: &str) -> Vec<Cause<'_>> {
    let mut causes: Vec<Cause<'_>> = Vec::new();
    for line in log.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some(known) = KNOWN.iter().find(|known| known.matches(line)) else { continue };
        if causes.iter().all(|cause| cause.cause != known.cause) {
            let Known { kind, cause, remedy, source, .. } = *known;
            causes.push(Cause { line, kind, cause, remedy, source });
        }
    }
    causes
}

/// Returns the first cause in a log that can have ended QEMU.
pub fn reason(log: &str) -> Option<Cause<'_>> {
    diagnose(log).into_iter().find(|cause| !matches!(cause.kind, Kind::Harmless | Kind::Degraded))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line for every entry, as QEMU writes it.
    const SAMPLES: [&str; 44] = [
        "qemu-system-x86_64: -device vfio-pci,host=0000:29:00.0: vfio 0000:29:00.0: group 14 is not viable",
        "qemu-system-x86_64: -device vfio-pci,host=01:00.0: vfio 0000:01:00.0: no iommu_group found: No such file or directory",
        "qemu-system-x86_64: -device vfio-pci,host=ff:1f.0: vfio /sys/bus/pci/devices/0000:ff:1f.0: no such host device: No such file or directory",
        "vfio 0000:29:00.0: failed to open /dev/vfio/14: No such file or directory",
        "vfio 0000:29:00.0: Could not open '/dev/vfio/14': Permission denied",
        "vfio 0000:29:00.0: failed to open /dev/vfio/14: Device or resource busy",
        "vfio 0000:29:00.0: failed to setup container for group 14: failed to open /dev/vfio/vfio: No such file or directory",
        "vfio 0000:29:00.0: failed to setup container for group 14: failed to open /dev/vfio/vfio: Permission denied",
        "vfio 0000:29:00.0: failed to setup container for group 14: Failed to set iommu for container: Operation not permitted",
        "vfio 0000:29:00.0: failed to setup container for group 14: Failed to set group container: Invalid argument",
        "vfio 0000:29:00.0: failed to setup container for group 14: No available IOMMU models",
        "qemu-system-x86_64: VFIO_MAP_DMA failed: Cannot allocate memory",
        "qemu-system-x86_64: vfio_container_dma_map(0x5, 0x0, 0xa0000, 0x7) = -12 (Cannot allocate memory)",
        "qemu-system-x86_64: VFIO_MAP_DMA failed: Invalid argument",
        "qemu-system-x86_64: VFIO_MAP_DMA failed: Bad address",
        "qemu-system-x86_64: warning: IOMMU_IOAS_MAP failed: Bad address, PCI BAR?",
        "vfio 0000:29:00.0: error getting device from group 14: No such device",
        "vfio 0000:29:00.0: device is already attached",
        "qemu-system-x86_64: vfio: Cannot reset device 0000:00:04.0, no available reset mechanism.",
        "qemu-system-x86_64: vfio: Cannot reset device 0000:29:00.0, depends on group 15 which is not owned.",
        "qemu-system-x86_64: warning: Failed to mmap 0000:29:00.0 BAR 0. Performance may be slow",
        "qemu-system-x86_64: vfio-pci: Cannot read device rom at 0000:29:00.0",
        "vfio_err_notifier_handler(0000:29:00.0) Unrecoverable error detected. Please collect any data possible and then kill the guest",
        "vfio 0000:29:00.0: device does not support requested feature x-vga",
        "qemu-system-x86_64: warning: vfio 0000:29:00.0: Could not enable error recovery for the device",
        "qemu-system-x86_64: VFIO dma-buf not supported in kernel, using mmap fallback",
        "Could not access KVM kernel module: No such file or directory",
        "Could not access KVM kernel module: Permission denied",
        "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69",
        "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory",
        "qemu-system-x86_64: -device nosuch: 'nosuch' is not a valid device model name",
        "qemu-system-x86_64: -object iommufd,id=x: Parameter 'qom-type' does not accept value 'iommufd'",
        "qemu-system-x86_64: -device e1000e,nosuch=1: Property 'e1000e.nosuch' not found",
        "qemu-system-x86_64: -device e1000e,addr=01.0: PCI: slot 1 function 0 not available for e1000e, in use by VGA,id=display",
        "qemu-system-x86_64: -device e1000e,bus=nosuch: Bus 'nosuch' not found",
        "qemu-system-x86_64: Display 'gtk' is not available.",
        "gtk initialization failed",
        "audio: Unknown audio driver `pa'",
        "qemu-system-x86_64: -device ide-hd,drive=d: Failed to get \"write\" lock",
        "qemu-system-x86_64: -device e1000e: failed to find romfile \"/nonexistent.rom\"",
        "qemu-system-x86_64: Image is not in qcow2 format",
        "qemu-system-x86_64: Could not open '/images/haiku.iso': No such file or directory",
        "qemu-system-x86_64: Could not open '/run/disk': No space left on device",
        "qemu-system-x86_64: -netdev user,id=n: Could not set up host forwarding rule 'tcp:127.0.0.1:2222-:22'",
    ];

    #[test]
    fn every_entry_has_a_sample_that_it_is_the_first_to_match() {
        let found: Vec<&Known> = SAMPLES
            .iter()
            .map(|line| KNOWN.iter().find(|known| known.matches(line)).expect(line))
            .collect();
        for known in &KNOWN {
            assert!(
                found.iter().any(|other| std::ptr::eq(*other, known)),
                "no sample for {:?}",
                known.parts
            );
            assert!(known.source.contains('/'), "{:?} has no source", known.parts);
            assert!(!known.remedy.is_empty());
        }
    }

    #[test]
    fn a_whole_log_gives_each_meaning_once_and_the_reason_last_of_all_noise() {
        let log = "qemu-system-x86_64: warning: nic dev1.0 has no peer\n\
            vfio: Cannot reset device 0000:00:04.0, no available reset mechanism.\n\
            vfio: Cannot reset device 0000:00:04.0, no available reset mechanism.\n\
            qemu-system-x86_64: -device vfio-pci,host=0000:29:00.0,id=dev1.0: vfio 0000:29:00.0: \
            group 14 is not viable\n\
            Please ensure all devices within the iommu_group are bound to their vfio bus driver.\n";
        let kinds: Vec<Kind> = diagnose(log).iter().map(|cause| cause.kind).collect();
        assert_eq!(kinds, [Kind::Degraded, Kind::Busy]);
        assert!(reason(log).unwrap().line.ends_with("group 14 is not viable"));
        assert_eq!(reason("something else\n"), None);
        let full =
            "qemu: -blockdev node-name=d: Could not open '/run/d': No space left on device\n";
        assert_eq!(reason(full).unwrap().kind, Kind::Space);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|\n|vfio|failed to open /dev/vfio/){0,40}") {
            drop(diagnose(&text));
        }
    }
}
