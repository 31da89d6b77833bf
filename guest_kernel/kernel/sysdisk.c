/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * System calls about disks and their file systems.
 */
#include <block.h>
#include <lib.h>
#include <mount.h>
#include <syscall.h>
#include <vm.h>

s64 sys_sync(struct trap_frame *frame)
{
    return disks_sync();
}

s64 sys_mount(struct trap_frame *frame)
{
    char device[sizeof(((struct mount_info *)0)->device)], directory[PATH_MAX];
    int error = copy_string_from_user(device, ARG1(frame), sizeof(device));

    if (error == -ENAMETOOLONG)
        return -ENODEV; /* no disk has a name like that */
    if (error >= 0)
        error = copy_string_from_user(directory, ARG2(frame), sizeof(directory));
    return error < 0 ? error : mount_add(device, directory, (int)ARG3(frame));
}

s64 sys_umount(struct trap_frame *frame)
{
    char directory[PATH_MAX];
    int error = copy_string_from_user(directory, ARG1(frame), sizeof(directory));

    return error < 0 ? error : mount_remove(directory);
}

s64 sys_mounts(struct trap_frame *frame)
{
    struct mount_info info = { 0 };
    int result = mounts_list(ARG1(frame), &info);

    return result == 1 && copy_to_user(ARG2(frame), &info, sizeof(info)) ? -EFAULT : result;
}
