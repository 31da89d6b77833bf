# SPDX-License-Identifier: GPL-2.0-or-later
# What is done in the new root file system, whose packages are unpacked and not configured. With systemd it becomes a
# Debian that asks for a login on hvc0 (root, without a password); without it, busybox is init.
set -e
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
info=/var/lib/dpkg/info

[ -e /usr/bin/chmod ] || busybox --install -s 2>/dev/null || true  # it keeps what is there
[ -e /usr/bin/awk ] || ln -s mawk /usr/bin/awk
[ -e /bin/sh ] || ln -s dash /bin/sh

# What debootstrap does as well before it configures anything: nothing is started here.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
mkdir -p /etc/initramfs-tools/conf.d

cat >/etc/fstab <<'END'
/dev/xvda / ext4 errors=remount-ro 0 1
END
echo debian >/etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 debian\n' >/etc/hosts
if [ -x /usr/sbin/mkinitramfs ]; then
    # The drivers of this disk, here and on QEMU's PC. To copy all that Debian has takes an emulated processor minutes.
    printf 'MODULES=list\nCOMPRESS=gzip\n' >/etc/initramfs-tools/conf.d/pvhv
    [ -e /etc/initramfs-tools/modules.dpkg-new ] && cp /etc/initramfs-tools/modules.dpkg-new /etc/initramfs-tools/modules
    printf 'xen_blkfront\nvirtio_pci\nvirtio_blk\next4\n' >>/etc/initramfs-tools/modules
fi

for script in $info/*.preinst; do
    [ -e "$script" ] || break
    package=$(basename "$script" .preinst)
    DPKG_MAINTSCRIPT_PACKAGE=${package%:*} DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_ARCH=amd64 \
        DPKG_RUNNING_VERSION=1.21 "$script" install || echo "the preinst of $package failed"
done
options="--force-depends --force-confold --force-unsafe-io"
[ -e $info/base-passwd.list ] && dpkg $options --configure base-passwd
dpkg $options --configure base-files
dpkg $options --configure --pending
rm /usr/sbin/policy-rc.d

if [ -d /etc/systemd ]; then
    passwd -d root >/dev/null
    : >/etc/machine-id
else
    ln -sf /bin/busybox /sbin/init
    cat >/etc/inittab <<'END'
::sysinit:/bin/mount -t proc proc /proc
::sysinit:/bin/mount -t sysfs sysfs /sys
::sysinit:/bin/mount -o remount,rw /
hvc0::respawn:-/bin/sh
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/umount -a -r
END
    busybox --install -s
fi
if [ -e /vmlinuz ]; then
    mkdir -p /boot/grub
    cat >/boot/grub/grub.cfg <<'END'
set timeout=1
menuentry "Debian" {
    linux /vmlinuz root=/dev/xvda ro console=hvc0
    initrd /initrd.img
}
END
fi
