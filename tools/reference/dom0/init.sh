#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The whole of dom0: starts what xl needs, runs the domains that /jobs/list names one after the other, and tells what
# became of each on the second serial line, in lines:
#
#   @ready                 dom0 is up
#   @begin NAME
#   |...                   some of the domain's console, in base64: a domain may write anything
#   !...                   a line of xl's, where it complained; or of xenctx, where the domain's time was over
#   @victim well           beside a victim: whether that one came through ("well", "hurt")
#   @end NAME HOW          HOW: the reason code of its shutdown (sched.h), "timeout" or "failed" (there was no domain)
#   @done
#
# A line of /jobs/list: NAME KIND SECONDS. KIND is "plain", or "beside": beside the domain "victim", with what that one
# tells on the hostile one's command line, as tests/guest/test_hostile_kernels.py does it on pvhv; or "asked": the
# domain is made paused, and /jobs/NAME.sh is run with its id. What that prints stands in the console's place, and HOW is
# "asked".

/bin/busybox mkdir -p /bin /dev/pts
/bin/busybox --install -s /bin
export PATH=/bin:/usr/lib/xen-4.17/bin LD_LIBRARY_PATH=/lib
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts pts /dev/pts
ln -s /proc/self/fd/0 /dev/stdin
mount -t tmpfs run /run
mkdir -p /run/xen /run/xenstored /run/lock /var/log/xen/console
for module in xen-privcmd xen-evtchn xen-gntdev xen-gntalloc xenfs loop xen-blkback; do
    insmod /lib/modules/$module.ko
done
mount -t xenfs xenfs /proc/xen
stty -F /dev/ttyS1 raw -echo
exec >/dev/ttyS1

printf 'xenstored-kva = /proc/xen/xsd_kva\nxenstored-port = /proc/xen/xsd_port\n' >/etc/xen/oxenstored.conf
oxenstored --no-access-log || cat /var/log/xen/xenstored.log >/dev/console
until timeout 5 xenstore-read / >/dev/null 2>&1; do sleep 0.1; done
xen-init-dom0 >/dev/null
xenconsoled --log=guest --timestamp=none --pid-file=/run/xenconsoled.pid
echo "@ready"

now() { # in hundredths of a second
    read up idle </proc/uptime
    echo "${up%.*}${up#*.}"
}

heard() { # NAME: all it wrote on its console
    cat "/var/log/xen/console/guest-$1.log" 2>/dev/null
}

complaints() {
    sed 's/^/!/' /tmp/complaints
}

wait_until_down() { # NAME SECONDS: prints the reason code, or nothing
    local end=$(($(now) + $2 * 100)) id
    while [ "$(now)" -lt "$end" ]; do
        # Name ID Mem VCPUs State Time UUID Reason-Code ...
        set -- "$1" $(xl list -v "$1" 2>/dev/null | tail -n 1)
        case "$6" in
        ---s* | ----c* | ---sc*) echo "$9"; return ;;
        esac
        sleep 0.1
    done
}

# The victim: what it says of itself is told to the others; what is typed to it, it answers.

victim_hears() { # LINE ANSWER: false if that answer does not come
    local before=0 end=$(($(now) + 3000))
    [ -z "$1" ] || { before=$(heard victim | wc -c); echo "$1" >&3; }
    until heard victim | tail -c "+$((before + 1))" | grep -q "$2"; do
        [ "$(now)" -lt "$end" ] || return 1
        sleep 0.05
    done
}

victim_starts() {
    xl create -q -e /jobs/victim.cfg 2>/tmp/complaints || { complaints; return 1; }
    victim=$(xl domid victim)
    tty=$(xenstore-read "/local/domain/$victim/console/tty")
    exec 3<>"$tty"
    stty -F "$tty" raw -echo
    cat <&3 >/dev/null &
    victim_hears "" ready && victim_hears "for 1" "for 1: all is well"
}

facts() {
    heard victim | grep -E '^(l4|l1|secret|lent|gdt|shared)=' | tr '\n' ' '
    heard victim | grep '^port=' | tail -n 1 | tr '\n' ' '
    printf 'domid=%x' "$victim"
}

run_one() { # NAME KIND SECONDS
    local name=$1 kind=$2 seconds=$3 id how paused= extra=
    echo "@begin $name"
    if [ "$kind" = beside ]; then
        [ -n "$victim" ] || victim_starts || { echo "!the victim did not start"; echo "@end $name failed"; return; }
        paused=-p
        extra="cmdline='$(facts) $(cat "/jobs/$name.extra")'"
    fi
    if [ "$kind" = asked ]; then
        paused=-p
        dd if=/dev/zero of=/tmp/a.img bs=1M count=1 2>/dev/null # its disk, if it has one
    fi
    if xl create -q -e $paused "/jobs/$name.cfg" ${extra:+"$extra"} >/tmp/complaints 2>&1; then
        if [ "$kind" = beside ]; then
            id=$(xl domid "$name")
            victim_hears "for $id" "for $id: all is well"
            xl unpause "$name"
        fi
        if [ "$kind" = asked ]; then
            "/jobs/$name.sh" "$(xl domid "$name")" >/tmp/asked 2>&1
            how=asked
        else
            how=$(wait_until_down "$name" "$seconds")
        fi
        if [ -z "$how" ]; then # where it is instead
            id=$(xl domid "$name")
            for once in 1 2 3; do xenctx -C -S "$id"; done >>/tmp/complaints 2>&1
        fi
        sleep 0.1
        xl destroy "$name" 2>>/tmp/complaints
    else
        how=failed
        xl destroy "$name" 2>/dev/null
    fi
    if [ "$how" = asked ]; then cat /tmp/asked; else heard "$name"; fi | base64 | sed 's/^/|/'
    complaints
    if [ "$kind" = beside ]; then
        if victim_hears "after $name" "after $name: all is well"; then echo "@victim well"; else echo "@victim hurt"; fi
    fi
    echo "@end $name ${how:-timeout}"
}

victim=
while read name kind seconds; do run_one "$name" "$kind" "$seconds" </dev/null; done </jobs/list
echo "@done"
sleep 5
poweroff -f
