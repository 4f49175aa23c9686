#!/bin/sh
# Takes the list of reservations and vfio-pci into the initramfs (initramfs-tools(7), hooks).
#
# Written by `kireji reserve`, which replaces it; `kireji undo` removes it.

case $1 in
prereqs) exit 0 ;;
esac

. /usr/share/initramfs-tools/hook-functions

[ -r /etc/kireji/reservations ] || exit 0
mkdir -p "$DESTDIR/etc/kireji"
cp -p /etc/kireji/reservations "$DESTDIR/etc/kireji/reservations"
manual_add_modules vfio_pci
