modules=/boot/grub/i386-pc
mkdir -p "$modules"
cp /usr/lib/grub/i386-pc/*.mod /usr/lib/grub/i386-pc/*.lst /usr/lib/grub/i386-pc/boot.img "$modules"
cat > "$modules/load.cfg" << END
search --no-floppy --label root --set=root
set prefix=(\$root)/boot/grub
END
grub-mkimage -O i386-pc -o "$modules/core.img" -p /boot/grub -c "$modules/load.cfg" \
    biosdisk part_gpt ext2 search search_label normal
kernel=$(cd /boot && echo vmlinuz-*)
cat > /boot/grub/grub.cfg << END
serial --speed=115200 --unit=0
terminal_output serial
linux /boot/$kernel root=LABEL=root ro console=ttyS0 no_timer_check
initrd /boot/initrd.img-${kernel#vmlinuz-}
boot
END
grub-editenv /boot/grub/grubenv create
