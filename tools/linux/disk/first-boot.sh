# SPDX-License-Identifier: GPL-2.0-or-later
# What process 1 does in the boot that makes a disk (tools/linux/installer.py), after the example's mounts. The disk is
# /dev/xvda, the packages are a tar on /dev/xvdb, and what the host gets back is a tar on /dev/xvdc.
# The host shows lines that begin with "== ", and waits for the last.
exec </dev/console >/dev/console 2>&1
stty -onlcr
export LC_ALL=C DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
failed() { echo "== failed: $*"; poweroff -f; sleep 9; }

echo "== making the file system"
/sbin/mke2fs -q -t ext4 -L "$label" /dev/xvda || failed "mke2fs could not make a file system"
mount -t ext4 /dev/xvda /mnt || failed "the file system cannot be mounted"
echo "== unpacking"
tar -x -f /dev/xvdb -C /mnt || failed "the packages do not fit on the disk, or it cannot be written"
for made in dev proc sys; do
    mkdir -p /mnt/$made
    mount --bind /$made /mnt/$made
done
mount --bind /dev/pts /mnt/dev/pts
mount -t tmpfs tmpfs /mnt/run
mount -t tmpfs tmpfs /mnt/tmp
echo "== configuring"
chroot /mnt /bin/sh /root/configure.sh || failed "the packages could not be configured"
rm -f /mnt/root/configure.sh
echo "== handing back"
umount /mnt/dev/pts /mnt/dev /mnt/proc /mnt/sys /mnt/run /mnt/tmp
# The newest of them, by the links that the kernel's package makes in /.
mkdir -p /tmp/back
for name in vmlinuz initrd.img; do
    [ -e /mnt/$name ] && cp -L "/mnt/$(readlink /mnt/$name)" /tmp/back/$name
done
tar -c -f /dev/xvdc -C /tmp/back . || failed "the kernel could not be handed back"
sync
umount /mnt || failed "the file system is in use"
sync
echo "== done"
poweroff -f
