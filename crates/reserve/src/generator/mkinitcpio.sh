#!/bin/bash
# Takes the list of reservations and vfio-pci into the initramfs (mkinitcpio(8), "ABOUT HOOKS").
#
# Written by `kireji reserve`, which replaces it; `kireji undo` removes it.

build() {
    [[ -r /etc/kireji/reservations ]] || return 0
    add_module vfio_pci
    add_file /etc/kireji/reservations
    add_runscript

    # An init of systemd runs units. It has a shell only with the hook `base`.
    [[ -e $BUILDROOT/usr/bin/busybox ]] ||
        add_binary /usr/lib/initcpio/busybox /usr/bin/busybox
    [[ -e $BUILDROOT/usr/bin/modprobe ]] || add_binary /usr/bin/kmod /usr/bin/modprobe
    [[ -e $BUILDROOT/usr/bin/readlink ]] || add_binary /usr/bin/readlink
    local units=$BUILDROOT/usr/lib/systemd/system
    mkdir -p "$units/sysinit.target.wants"
    cat >"$units/kireji.service" <<'UNIT'
[Unit]
Description=Give reserved PCI functions to vfio-pci
DefaultDependencies=no
Before=systemd-udevd.service systemd-udev-trigger.service systemd-modules-load.service

[Service]
Type=oneshot
ExecStart=/usr/bin/busybox ash -c '. /hooks/kireji; run_earlyhook'
UNIT
    ln -sf ../kireji.service "$units/sysinit.target.wants/kireji.service"
}

help() {
    echo "Gives reserved PCI functions to vfio-pci before udev looks for devices."
}
