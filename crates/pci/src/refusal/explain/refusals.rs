//! The explanations of what refuses a card.

use super::{Code, Words};

/// Explains a code; `None` for one that refuses nothing.
pub(super) fn words(code: Code) -> Option<Words> {
    Some(match code {
        Code::Bridge => (
            "The function is part of what PCI itself runs on",
            "Bridges, IOMMUs and the chipset's own controllers carry other devices or keep them \
                 apart. The kernel needs them, and VFIO does not take them.",
            "Name the card behind the bridge. A bridge that is part of a card stays with the \
                 host by itself.",
        ),
        Code::GroupShared => (
            "Another card is in the same IOMMU group",
            "The IOMMU cannot keep the functions of one group apart: a guest that has one could \
                 reach the memory of the others. VFIO therefore gives a group away only as a whole.",
            "Name the other card too, or pass --with-group to take all that is in the group; each \
                 of its functions must then pass every other check. Or put the card into another \
                 slot, one below another root port.",
        ),
        Code::NoGroup => (
            "The function is in no IOMMU group",
            "The IOMMU is switched off, is missing, or does not cover this function. Without it \
                 the card could write anywhere in the host's memory, and the kernel refuses to bind \
                 vfio-pci to it.",
            "Switch the IOMMU on in the firmware's setup (Intel: VT-d; AMD: IOMMU or AMD-Vi) and \
                 see that no kernel parameter switches it off. To hear it from the kernel itself: \
                 --allow E-NO-IOMMU-GROUP.",
        ),
        Code::VirtualFunctions => (
            "Virtual functions of it exist",
            "The function's driver keeps virtual functions alive, and they vanish with it, \
                 whoever uses them.",
            "Remove them first: write 0 to the attribute sriov_numvfs of the function in sysfs. \
                 Or give a virtual function away instead.",
        ),
        Code::StorageMounted => (
            "The host runs from a disk behind it",
            "A disk behind the function carries a mounted file system, swap space, an imported \
                 pool or the system partition that this boot started from. Taking the controller away \
                 pulls the disk out of the running system. Nothing overrides this.",
            "Unmount the file system, switch the swap space off or export the pool, if the host \
                 can do without. Otherwise move the disk to another controller.",
        ),
        Code::StorageActive => (
            "A disk behind it is open as a mapped device",
            "A volume group, a RAID, a cache or an encrypted volume on the disk is active, though \
                 nothing is known to be mounted from it. Its metadata can be damaged when the disk \
                 goes away below it.",
            "Close it: vgchange --activate n, mdadm --stop, cryptsetup close, or losetup \
                 --detach, according to the last device on the way.",
        ),
        Code::DiskData => (
            "A disk behind it has data on it",
            "The disk has a partition table, a file system or other data, mounted or not: it may \
                 be another operating system's. A guest that gets the controller can overwrite it.",
            "Make sure that it may be lost, or copy it elsewhere. Then pass --allow data-loss= \
                 with the serial number of this one disk.",
        ),
        Code::BootDisplay => (
            "The host's picture comes from it",
            "The firmware chose this display for the boot, or the boot's picture lies in its \
                 memory. Without it the console, and often the login screen, are gone.",
            "Choose another display as the primary one in the firmware's setup and connect the \
                 screen there. Over the network the host can be used without a picture: \
                 --allow E-BOOT-DISPLAY.",
        ),
        Code::LastScreen => (
            "No other display has a screen",
            "All screens of the host hang on this card. When it goes, the host shows nothing.",
            "Connect a screen to another display. If the host is used over the network: \
                 --allow E-LAST-SCREEN.",
        ),
        Code::Headless => (
            "No screen is connected to this host",
            "A display is to be reserved at boot, and the host has no screen by which it could be \
                 brought back if something goes wrong: only the network, or a serial line, would be left.",
            "Connect a screen to another display for the reboot. If the host is always used over the \
                 network, and kireji explain rescue can be followed there: --allow E-HEADLESS.",
        ),
        Code::DisplayNative => (
            "The display is on its native driver",
            "Graphics drivers are not made to let go of a card while the system runs: many crash \
                 or hang when they are unbound, and the card then stays unusable until a reboot.",
            "Reserve the card for VFIO at boot: kireji reserve. To try all the same: \
                 --force-unbind.",
        ),
        Code::NicDefaultRoute => (
            "The host's way to the network leads through it",
            "A default route leads out of an interface of this card, directly or through a \
                 bridge, bond or VLAN. Without it the host is off the network.",
            "Give the default route to another interface. If the host can do without: \
                 --allow E-NIC-DEFAULT-ROUTE.",
        ),
        Code::NicSession => (
            "This session comes in by it",
            "The remote session that kireji was started from uses an interface of this card. It \
                 would freeze, and could not give the card back.",
            "Log in by another interface or at the console. Or run in a terminal multiplexer and \
                 --allow E-NIC-SSH.",
        ),
        Code::NicStorage => (
            "Mounted storage is reached by it",
            "A file system of the network, or a disk of iSCSI, is reached by an interface of this \
                 card. Whatever uses it would hang. Nothing overrides this.",
            "Unmount the file system or log out of the target, or reach the server by another \
                 interface.",
        ),
        Code::NicUp => (
            "An interface of it is up",
            "The network interface is up, so that something may be using it; its addresses and \
                 routes are lost with it.",
            "Take it down: ip link set dev NAME down. Or --allow E-NIC-UP.",
        ),
        Code::LastKeyboard => (
            "The last keyboard hangs on it",
            "Every keyboard of the host hangs on this controller. When it goes, nobody can type \
                 at the host any more.",
            "Plug a keyboard into a port of another controller. If the host is used over the \
                 network: --allow E-LAST-KEYBOARD.",
        ),
        Code::InUse => (
            "A process has it open",
            "A program has a device of this card open. Its driver may wait for that program \
                 without end when it is unbound, and the program loses the device.",
            "End the program, or make it close the device: sound servers and login managers hold \
                 devices all the time. To go on all the same: --allow E-IN-USE.",
        ),
        Code::VfioInUse => (
            "A process drives it through VFIO",
            "The card, or its group, is open in a virtual machine or another program that drives \
                 it through VFIO. The kernel waits for that program before it lets go.",
            "Shut that virtual machine or program down.",
        ),
        Code::Unmeasured => (
            "A fact that decides could not be measured",
            "Whether the card can be given away without loss depends on something that could not \
                 be read. It is not guessed.",
            "Most often the rights are missing: run as root. The reason says what was to be read. \
                 If you know the answer, and it is not about mounted storage: --allow E-UNMEASURED.",
        ),
        _ => return None,
    })
}
