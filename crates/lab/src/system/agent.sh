#!/bin/sh
# Runs what comes through the rig's second serial port, and sends back what it wrote: the number of
# bytes of a script and a line's end, then the script; the answer is `= CODE OUT ERR`, with the
# numbers of bytes of both outputs, which follow.
work=/run/kireji-rig
mkdir -p "$work"
exec < /dev/ttyS1 > /dev/ttyS1 2> /dev/null
stty raw -echo clocal
read -r boot < /proc/sys/kernel/random/boot_id
printf '\nkireji-rig-up %s\n' "$boot"
while read -r length; do
    head -c "$length" > "$work/script"
    sh "$work/script" < /dev/null > "$work/out" 2> "$work/err"
    code=$?
    printf '= %d %d %d\n' "$code" "$(stat -c %s "$work/out")" "$(stat -c %s "$work/err")"
    cat "$work/out" "$work/err"
done
