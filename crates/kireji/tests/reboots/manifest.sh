#!/bin/sh
# Writes what the system's disk holds to the file $1: each file with its mode, owner and contents. The
# images of the initramfs differ in times whenever they are built, so they are told by their members.
set -e
export LC_ALL=C

# What is below the directory $1, with $2 before each line. A process for each file would take minutes.
tell() (
    cd "$1"
    find . -xdev \
        \( -path ./tmp -o -path ./var/log -o -path ./var/cache -o -path ./var/tmp \
        -o -path ./var/lib/systemd -o -path ./var/lib/kireji -o -path './boot/initrd.img-*' \
        -o -path ./root \) -prune \
        -o -type f -printf "$2%p %M %U:%G\n" -fprint0 /run/manifest.files \
        -o -printf "$2%p %M %U:%G %l\n"
    xargs -0 sha256sum < /run/manifest.files | sed "s|^|$2|"
)

{
    tell / ""
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
