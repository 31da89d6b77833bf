# SPDX-License-Identifier: GPL-2.0-or-later
"""The root file system a fetched kernel boots to: one static busybox and what makes a system of it.

busybox's own init is process 1: it gives hvc0 a login shell, again and again, and knows `poweroff` and `reboot`
(both give every process two seconds to end; with -f they do not). The links to its applets are made in the
guest's boot, by `busybox --install`, before anything else runs. So any build of busybox will do, and no program of the
guest's is executed here.

With `root=/dev/xvda` on the kernel's command line, the system on that disk is the root, and this one is forgotten.

If there is a disk, its driver is loaded at the start, and when a disk is plugged in later. `mount` then has the kernel
load the file system. All modules come as a second archive, behind this one (modules.py).

A file handed over as `extra` lands under /root, executable: how tests and benchmarks bring programs along.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from tools.linux.cpio import Archive

MOUNTS = """\
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /usr/bin /usr/sbin
/bin/busybox --install -s
export PATH=/sbin:/usr/sbin:/bin:/usr/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
hostname debian
for disk in /sys/bus/xen/devices/vbd-*; do [ -e "$disk" ] && modprobe -q xen-blkfront; done
"""

INIT = f"""\
{MOUNTS}for word in $(cat /proc/cmdline); do case $word in root=/dev/*) root=${{word#root=}} ;; esac; done
if [ -n "$root" ] && mount -o ro "$root" /mnt; then
    for place in dev proc sys run; do mkdir -p /mnt/$place; mount --move /$place /mnt/$place; done
    exec switch_root /mnt /sbin/init </mnt/dev/console >/mnt/dev/console 2>&1
fi
exec /bin/busybox init </dev/console >/dev/console 2>&1
"""

INITTAB = """\
hvc0::respawn:-/bin/sh
::respawn:/bin/busybox uevent /etc/hotplug
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/umount -a -r
"""

HOTPLUG = """\
#!/bin/busybox sh
# What udev does on a larger system: a processor that is plugged in (pvhv vcpu-set) is used, and a device's driver is
# loaded.
[ "$ACTION $SUBSYSTEM" = "add cpu" ] && echo 1 >"/sys$DEVPATH/online"
[ "$ACTION $SUBSYSTEM" = "add xen" ] && modprobe -q "$MODALIAS"
"""

PROFILE = """\
export PATH=/sbin:/usr/sbin:/bin:/usr/bin:/root HOME=/root TERM=${TERM:-linux}
PS1='\\h:\\w\\$ '
cd /root
"""

PASSWD = "root::0:0:root:/root:/bin/sh\n"
FILESYSTEMS = "ext4\n"  # what `mount` tries without -t, beside what the kernel has: the kernel loads it then

# What an archive is made of but for busybox: another recipe makes another archive.
RECIPE = hashlib.sha256("\0".join((INIT, INITTAB, HOTPLUG, PROFILE, PASSWD, FILESYSTEMS)).encode()).hexdigest()[:16]


def build(busybox: bytes, extra: Mapping[str, bytes] | None = None, modules: bytes = b"") -> bytes:
    """The initramfs: a cpio archive, and behind it that of the kernel's modules."""
    archive = Archive()
    for name in ("proc", "sys", "dev", "tmp", "run", "root", "mnt", "sbin", "usr/bin", "usr/sbin"):
        archive.directory(name)
    archive.file("bin/busybox", busybox, 0o755)
    archive.file("init", INIT.encode(), 0o755)
    archive.file("etc/inittab", INITTAB.encode())
    archive.file("etc/hotplug", HOTPLUG.encode(), 0o755)
    archive.file("etc/profile", PROFILE.encode())
    archive.file("etc/passwd", PASSWD.encode())
    archive.file("etc/filesystems", FILESYSTEMS.encode())
    archive.file("etc/group", b"root:x:0:\n")
    # The kernel opens /dev/console before it starts process 1; devtmpfs comes only later.
    archive.character_device("dev/console", 5, 1)
    archive.character_device("dev/null", 1, 3, 0o666)
    for name, data in (extra or {}).items():
        archive.file(f"root/{name}", data, 0o755)
    return archive.to_bytes() + modules
