#!/bin/bash
# Takes the list of reservations and vfio-pci into the initramfs (dracut.modules(7)).
#
# Written by `kireji reserve`, which replaces it; `kireji undo` removes it.

check() {
    [[ -r ${dracutsysrootdir-}/etc/kireji/reservations ]]
}

depends() {
    return 0
}

installkernel() {
    # What this host has loaded now says nothing of what it will need.
    hostonly='' instmods vfio_pci
}

install() {
    inst_multiple modprobe readlink
    inst_simple /etc/kireji/reservations
    # What runs before udev is started, and sorts before other hooks of that point.
    # shellcheck disable=SC2154
    inst_hook pre-udev 00 "$moddir/kireji.sh"
}
