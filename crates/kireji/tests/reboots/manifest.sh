#!/bin/sh
# Writes what the system's disk holds to the file $1: each file with its mode, owner and contents. The
# images of the initramfs differ in times whenever they are built, so they are told by their members, without
# the one in which dracut writes down how it was called; unified images are told by their sections.
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

# The members of the initramfs $1, with $2 before each line.
members() {
    work=$(mktemp -d /var/tmp/manifest.XXXXXX)
    if command -v unmkinitramfs > /dev/null; then
        unmkinitramfs "$1" "$work"
    else
        (cd "$work" && lsinitrd --unpack "$1")
    fi
    # What unpacks to nothing would always be the same.
    [ -n "$(find "$work" -name init)" ]
    tell "$work" "$2: "
    rm -rf "$work"
}

# The sections of the unified image $1; its initramfs is left in the file $2.
sections() {
    python3 - "$1" "$2" << 'END'
import hashlib, pefile, sys
image = pefile.PE(sys.argv[1], fast_load=True)
for section in image.sections:
    name = section.Name.rstrip(b"\0").decode()
    data = section.get_data(length=section.Misc_VirtualSize)
    if name == ".initrd":
        open(sys.argv[2], "wb").write(data)
    else:
        print(f"{sys.argv[1]}: {name} {hashlib.sha256(data).hexdigest()}")
END
}

{
    tell / ""
    find /boot -name 'initrd.img-*' -printf '%p %M %U:%G\n'
    for image in $(find /boot -name 'initrd.img-*'); do
        members "$image" "$image"
    done
    if [ -d /boot/efi/loader ]; then
        cd /boot/efi
        # The seed is another one after each start.
        find . -printf '/boot/efi: %p %M %U:%G\n'
        find . -type f ! -name random-seed ! -name 'initrd.img-*' ! -path './EFI/Linux/*' \
            -exec sha256sum {} +
        for image in /boot/efi/EFI/Linux/*.efi; do
            [ -e "$image" ] || continue
            sections "$image" /run/manifest.initrd
            members /run/manifest.initrd "$image"
        done
    fi
} > /run/manifest.all
grep -v /lib/dracut/build-parameter.txt /run/manifest.all | sort > "$1"
