modules=/boot/grub/x86_64-efi
mkdir -p "$modules" /boot/efi/EFI/BOOT /boot/loader/entries
cp /usr/lib/grub/x86_64-efi/*.mod /usr/lib/grub/x86_64-efi/*.lst "$modules"
cat > "$modules/load.cfg" << END
search --no-floppy --label root --set=root
set prefix=(\$root)/boot/grub
END
grub-mkimage -O x86_64-efi -o /boot/efi/EFI/BOOT/BOOTX64.EFI -p /boot/grub \
    -c "$modules/load.cfg" part_gpt ext2 search search_label normal
cat > /boot/grub/grub.cfg << END
serial --speed=115200 --unit=0
terminal_output serial
set timeout=0
load_env
if [ "\${next_entry}" ]; then
    set default="\${next_entry}"
    set next_entry=
    save_env next_entry
fi
insmod blsuki
blscfg --path /boot/loader/entries
END
kernel=$(cd /boot && echo vmlinuz-*)
release=${kernel#vmlinuz-}
cat > "/boot/loader/entries/$(cat /etc/machine-id)-$release.conf" << END
title Debian GNU/Linux ($release)
version $release
linux /boot/$kernel
initrd /boot/initrd.img-$release
options $(cat /etc/kernel/cmdline)
grub_users \$grub_users
grub_class debian
END
grub-editenv /boot/grub/grubenv create
echo 'LABEL=ESP /boot/efi vfat umask=0077 0 2' >> /etc/fstab
