# Gives the functions that are reserved to vfio-pci, before any other driver is loaded.
#
# Written by `kireji reserve`, which replaces it; `kireji undo` removes it. It acts on the list
# that it is given, and only where the function at an address is the very one that was reserved.
# One boot goes without it if `kireji.off` is on the kernel's command line.

# The first argument is the list, the second what stands before /proc, /sys and /dev.
kireji_reserve() (
    list=$1
    root=$2
    devices=$root/sys/bus/pci/devices
    set -f

    # Six is for information, four for a warning.
    say() {
        echo "<$1>kireji: $2" >> "$root/dev/kmsg"
    }

    content() {
        value=
        [ ! -r "$1" ] || IFS= read -r value < "$1" || :
    }

    driver() {
        value=
        [ ! -L "$1/driver" ] || value=$(readlink "$1/driver") && value=${value##*/}
    }

    # Whether the function at an address is the one that was reserved.
    is_it() {
        if [ ! -d "$devices/$1" ]; then
            say 4 "$1: there is no function at this address, so its card is left alone"
            return 1
        fi
        for pair in "vendor:$2" "device:$3" "subsystem_vendor:$4" "subsystem_device:$5" "class:$6"
        do
            content "$devices/$1/${pair%%:*}"
            if [ "$value" != "0x${pair#*:}" ]; then
                say 4 "$1: ${pair%%:*} is $value, not 0x${pair#*:}: another card, left alone"
                return 1
            fi
        done
    }

    [ -r "$list" ] || exit 0
    command_line=
    [ ! -r "$root/proc/cmdline" ] || read -r command_line < "$root/proc/cmdline" || :
    trial=
    for word in $command_line; do
        case $word in
        kireji.off)
            say 6 "kireji.off is on the command line: nothing is reserved in this boot"
            exit 0
            ;;
        kireji.trial=*) trial=${word#kireji.trial=} ;;
        esac
    done

    # First look at all, since a card goes as a whole or not at all.
    wanted=
    foreign=" "
    while read -r card address vendor device subvendor subdevice class rest; do
        case $card in
        "" | "#"*) continue ;;
        trial)
            wanted=$address
            continue
            ;;
        esac
        if [ -z "$class" ]; then
            say 4 "the list of reservations is damaged: nothing is reserved"
            exit 0
        fi
        is_it "$address" "$vendor" "$device" "$subvendor" "$subdevice" "$class" ||
            foreign="$foreign$card "
    done < "$list"
    if [ -n "$wanted" ] && [ "$wanted" != "$trial" ]; then
        say 6 "only a trial is reserved, and kireji.trial=$wanted is not on the command line"
        exit 0
    fi

    reserved=
    while read -r card address vendor device subvendor subdevice class rest; do
        case $card in
        "" | "#"* | trial) continue ;;
        esac
        case $foreign in
        *" $card "*) continue ;;
        esac
        driver "$devices/$address"
        case $value:$class in
        : | :* | vfio-pci:*) ;;
        *:03*)
            # A display's driver that is built into the kernel might not let go of it.
            say 4 "$address: $value has it already, and is left alone"
            continue
            ;;
        esac
        echo vfio-pci > "$devices/$address/driver_override"
        if [ -n "$value" ] && [ "$value" != vfio-pci ]; then
            say 6 "$address: $value is built into the kernel and has to let go"
            echo "$address" > "$devices/$address/driver/unbind"
        fi
        reserved="$reserved $address"
    done < "$list"

    [ -n "$reserved" ] || exit 0
    modprobe vfio-pci || say 4 "vfio-pci cannot be loaded"
    for address in $reserved; do
        driver "$devices/$address"
        [ "$value" = vfio-pci ] || echo "$address" > "$root/sys/bus/pci/drivers_probe"
        driver "$devices/$address"
        if [ "$value" = vfio-pci ]; then
            say 6 "$address: vfio-pci has it"
        else
            say 4 "$address: vfio-pci did not take it"
        fi
    done
    exit 0
)
