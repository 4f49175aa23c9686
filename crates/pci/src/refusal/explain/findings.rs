//! The explanations of what is diagnosed, and refuses nothing by itself.

use super::{Code, Words};

/// Explains a code of [`doctor`](crate::doctor). Refusals are explained elsewhere.
pub(super) fn words(code: Code) -> Words {
    match code {
        Code::CpuVirtualisation => (
            "The processor does not run guests",
            "The kernel shows no hardware virtualisation: flag vmx of Intel's processors, svm of \
             AMD's. Without it QEMU interprets the guest, which is ten to fifty times slower. It is \
             not the IOMMU: a card can be passed on without it.",
            "Switch it on in the firmware's setup: Intel calls it Virtualization Technology or VT-x, \
             AMD calls it SVM Mode. In a virtual machine the outer host has to pass it on, which is \
             called nested virtualisation.",
        ),
        Code::Kvm => (
            "KVM cannot be used",
            "QEMU runs guests at full speed through /dev/kvm. It is missing, or this user may not \
             open it.",
            "If it is missing, load kvm_intel or kvm_amd. If it is denied, become a member of its \
             group: sudo usermod -aG kvm NAME, then log in again.",
        ),
        Code::IommuHardware => (
            "The hardware has no IOMMU",
            "An IOMMU stands between cards and memory, and lets a guest's card reach that guest's \
             memory only. Without one no card can be given away safely, and VFIO gives none.",
            "Another processor or board is needed: any AMD Ryzen, any Intel Core since the sixth \
             generation. A virtual machine needs a virtual IOMMU from its host. kireji lab runs \
             everything without one, on emulated cards.",
        ),
        Code::IommuFirmware => (
            "The firmware has the IOMMU switched off",
            "The hardware has an IOMMU, but the firmware left no table that describes it (DMAR on \
             Intel, IVRS on AMD), so that no kernel can find it. Kernel parameters do not help.",
            "In the firmware's setup switch on, on Intel: VT-d, also called Intel Virtualization \
             Technology for Directed I/O; on AMD: IOMMU or AMD-Vi, set to Enabled rather than Auto. \
             VT-x and SVM are other switches.",
        ),
        Code::IommuKernel => (
            "The kernel does not use the IOMMU",
            "The firmware describes an IOMMU, and the kernel was built or started in a way that \
             leaves it unused.",
            "Remove the parameter that switches it off, or add the one that switches it on, as the \
             finding names it. On AMD no parameter switches it on: it is on unless it is switched \
             off.",
        ),
        Code::InterruptRemapping => (
            "Interrupts are not remapped",
            "A card sends interrupts by writing to memory. Unless the IOMMU checks those writes too, \
             a guest's card can send any interrupt to the host, and VFIO refuses the card.",
            "Remove nointremap or intremap=off from the kernel's command line, switch on x2APIC or \
             interrupt remapping in the firmware's setup, update the firmware. If the guest is \
             trusted: option allow_unsafe_interrupts=1 of the module vfio_iommu_type1.",
        ),
        Code::ReservedMemory => (
            "The firmware keeps memory mapped for the card",
            "The firmware says that the card reads or writes a range of memory behind the system's \
             back, so that it must stay mapped (RMRR on Intel, IVMD on AMD). A guest that has the \
             card could not be kept out of it, and VFIO refuses the group.",
            "Look in the firmware's setup for what uses the card by itself, and switch it off: legacy \
             USB, shared memory of a management controller, a network stack. Some servers have a \
             vendor's tool for it. Or use another slot.",
        ),
        Code::Acs => (
            "A port does not keep apart what is below it",
            "PCI Express lets cards write to each other directly, without the IOMMU in between, \
             unless each port on the way prevents it (access control services, ACS). What is below a \
             port that does not is one group.",
            "Put the card below another root port: another slot, often one that hangs on the \
             processor rather than on the chipset. Parameters that pretend otherwise exist only in \
             patched kernels, and isolate nothing.",
        ),
        Code::Reset => (
            "The kernel cannot reset the card",
            "Between two owners a card should be reset, or the next one finds it as the last one \
             left it. The kernel knows no way to reset this one alone.",
            "It may work once for each start of the host. Return the card only to a driver that \
             resets it itself, or reboot between runs.",
        ),
        Code::BusReset => (
            "A reset would touch other functions",
            "The card can only be reset together with its whole bus, and other functions sit on it. \
             VFIO resets the bus only if all of them are given away together.",
            "Give the others away with it, or put the card into a slot of its own.",
        ),
        Code::Framebuffer => (
            "The picture of the boot lies in the card's memory",
            "The firmware drew the boot's picture in a region of this card, and a driver of the \
             kernel still holds it. vfio-pci makes room on VGA controllers only.",
            "Make another card the primary display in the firmware's setup. Parameters against \
             single framebuffer drivers depend on the kernel, and often have no effect.",
        ),
        Code::OptionRom => (
            "The option ROM is for another firmware",
            "A display card shows a picture before its driver starts only if its ROM has code for \
             the guest's firmware: older cards have it for a BIOS, newer ones for UEFI, many for \
             both.",
            "Use the firmware that the ROM is for. A driver that starts the card itself needs no ROM.",
        ),
        Code::Power => (
            "The card's power is in disorder",
            "The kernel could not bring the card into a known state of power. It may not answer.",
            "Switch the machine off and on again: a warm reboot often does not cut the card's power.",
        ),
        Code::VfioModule => (
            "The kernel has no vfio-pci",
            "vfio-pci is the driver that hands a card to user space. This kernel has it neither \
             built in nor as a module.",
            "Install the package with the kernel's other modules (linux-modules-extra on Ubuntu, \
             kernel-modules on Fedora); reboot if the kernel was updated since it was started. Or use \
             a kernel that was built with CONFIG_VFIO_PCI.",
        ),
        Code::VfioAccess => (
            "VFIO's nodes cannot be used by this user",
            "QEMU opens /dev/vfio/vfio and the node of the group. This user may not.",
            "Run kireji under sudo: it opens the nodes and runs QEMU as you. Or give the group's node \
             to a group of users by a udev rule for the subsystem vfio.",
        ),
        Code::DeviceRules => (
            "The control group forbids VFIO's nodes",
            "The process runs in a container or service whose rules do not let it use VFIO's nodes, \
             whatever their permissions.",
            "Start the container or service with the devices /dev/vfio/vfio and the node of the \
             group (DeviceAllow= of systemd, --device of container tools).",
        ),
        Code::LockedMemory => (
            "Too little memory may be locked",
            "All memory of a guest with a card is locked, for the card may write to any of it. This \
             process may lock less than a small guest has, and QEMU would fail with `Cannot allocate \
             memory`.",
            "Run kireji under sudo, which raises the limit for QEMU alone. Or raise memlock in \
             a file in /etc/security/limits.d (`USER hard memlock KIB`), and log in again.",
        ),
        Code::Lockdown => (
            "The kernel is locked down",
            "With lockdown, which Secure Boot often switches on, programs cannot write to \
             configuration space and regions of cards, and only signed modules load. vfio-pci works; \
             modules from elsewhere, such as those that reset some cards, need a key of your own.",
            "Nothing, unless you need such a module: then enrol a key with mokutil and sign it, or \
             switch Secure Boot off in the firmware's setup.",
        ),
        Code::Qemu => (
            "There is no QEMU",
            "kireji runs guests in QEMU for x86, and finds none.",
            "Install it: qemu-system-x86 on Debian and Ubuntu, qemu-kvm on Fedora, \
             qemu-system-x86 on Arch, qemu-x86 on openSUSE. Or name it in KIREJI_QEMU.",
        ),
        Code::QemuDevices => (
            "This QEMU cannot pass a card on",
            "QEMU was built without the device vfio-pci.",
            "Install your distribution's full QEMU, or name another one in KIREJI_QEMU.",
        ),
        Code::QemuFirmware => (
            "There is no UEFI firmware for guests",
            "Guests that start by UEFI, and cards whose ROM is for UEFI only, need OVMF.",
            "Install it: ovmf on Debian and Ubuntu, edk2-ovmf on Fedora and Arch, \
             qemu-ovmf-x86_64 on openSUSE.",
        ),
        // `refusals::words` has all others, as a test holds.
        _ => ("", "", ""),
    }
}
