# The demo's part inside the rig. Each command is shown before it runs.
show() {
    echo
    echo "\$ $*"
    "$@"
}
show kireji list
show kireji status
