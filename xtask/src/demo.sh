# The demo's part inside the rig. Each command is shown before it runs.
show() {
    echo
    echo "\$ $*"
    "$@"
}
show kireji list
show kireji take 01:00
show kireji selftest 01:00
show kireji return 01:00
show kireji run --guest linux --device 01:00 --device 02:00 --dhcp --allow data-loss=kireji2
show kireji list
