#!/bin/sh
# Writes what the system's disk holds to the file $1: each file with its mode, owner and contents. The
# images of the initramfs differ in times whenever they are built, so they are told by their members.
set -e
export LC_ALL=C

tell() {
    find "$1" -xdev \
        \( -path /tmp -o -path /var/log -o -path /var/cache -o -path /var/tmp \
        -o -path /var/lib/systemd -o -path /var/lib/kireji -o -path /boot/initrd.img-* \
        -o -path /root/.local \) -prune \
        -o ! -type f -printf "$2%P %M %U:%G %l\n" \
        -o -type f -printf "$2%P %M %U:%G " -exec sha256sum {} \; | sed 's/  [^ ]*$//'
}

{
    tell / /
    for image in /boot/initrd.img-*; do
        work=$(mktemp -d /var/tmp/manifest.XXXXXX)
        stat -c "$image %A %u:%g" "$image"
        if command -v unmkinitramfs > /dev/null; then
            unmkinitramfs "$image" "$work"
        else
            (cd "$work" && lsinitrd --unpack "$image")
        fi
        tell "$work" "$image: "
        rm -rf "$work"
    done
} | sort > "$1"
