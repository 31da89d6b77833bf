#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The whole of a guest that has disks: it loads the driver, opens xvdb as soon as there is one, and keeps it open.

/bin/busybox mkdir -p /bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
insmod /xen-blkfront.ko
echo "the driver is there"
until [ -b /dev/xvdb ]; do sleep 0.1; done
exec sleep 100000 </dev/xvdb
