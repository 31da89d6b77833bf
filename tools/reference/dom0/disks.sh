#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What xl does with a domain's disks, and what stands in xenstore meanwhile. Run in dom0 with the id of a domain that is
# paused, has xvda, and is a Linux with guest-init.sh. Prints a line "## TITLE" before each part.

id=$1
xvda=51712 xvdb=51728 xvdc=51744 xvdd=51760

store() { # DEVICE: its nodes, with their permissions
    for path in "/local/domain/$id/device/vbd" "/local/domain/0/backend/vbd/$id" "/libxl/$id/device/vbd" \
        "/local/domain/0/error/backend/vbd/$id" "/local/domain/$id/error/device/vbd"; do
        xenstore-ls -fp "$path/$1" 2>/dev/null
    done
    true
}

say() {
    echo "## $*"
}

try() { # a command of xl's: what it says, and how it ends
    echo "\$ $*"
    "$@" 2>&1
    echo "status $?"
}

now() { # in hundredths of a second
    read up idle </proc/uptime
    echo "${up%.*}${up#*.}"
}

state() { # DEVICE STATE: wait for both ends'
    local end=$(($(now) + 6000))
    until [ "$(xenstore-read "/local/domain/0/backend/vbd/$id/$1/state" 2>/dev/null)" = "$2" ] &&
        [ "$(xenstore-read "/local/domain/$id/device/vbd/$1/state" 2>/dev/null)" = "$2" ]; do
        [ "$(now)" -lt "$end" ] || { echo "device $1 never came to state $2"; return; }
        sleep 0.1
    done
}

for name in b c d; do dd if=/dev/zero of=/tmp/$name.img bs=1M count=1 2>/dev/null; done

say made
store $xvda
say a disk that no driver found
try xl block-attach "$id" /tmp/d.img,raw,xvdd,w
try xl block-detach "$id" xvdd
store $xvdd
try xl block-detach --force "$id" xvdd
store $xvdd
xl unpause "$id"
state $xvda 4
say connected
store $xvda
say attached
try xl block-attach "$id" /tmp/b.img,raw,xvdb,w
try xl block-attach "$id" vdev=xvdc access=ro target=/tmp/c.img
state $xvdb 4
state $xvdc 4
store $xvdc
say listed
try xl block-list "$id"
say refused
try xl block-attach "$id" /tmp/d.img,raw,xvda,w
try xl block-attach "$id" /tmp/none.img,raw,xvde,w
try xl block-detach "$id" xvdz
try xl block-detach "$id" 12345
say detached
try xl block-detach "$id" $xvdc
store $xvdc
say open in the guest
sleep 2
try xl block-detach "$id" xvdb
store $xvdb
say paused
xl pause "$id"
try xl block-detach "$id" xvda
store $xvda
try xl block-detach --force "$id" xvda
store $xvda
try xl block-list "$id"
