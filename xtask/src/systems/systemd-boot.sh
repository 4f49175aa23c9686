# As long as there is no disk, the system partition is a directory.
export SYSTEMD_ESP_PATH=/boot/efi SYSTEMD_RELAX_ESP_CHECKS=1
mkdir -p /boot/efi
bootctl --no-variables --make-entry-directory="$entries" install
update-initramfs -u
# Paths in entries begin where their partition does.
for entry in /boot/efi/loader/entries/*.conf; do
    [ ! -e "$entry" ] || sed -i 's, /boot/efi/, /,' "$entry"
done
echo 'LABEL=ESP /boot/efi vfat umask=0077 0 2' >> /etc/fstab
