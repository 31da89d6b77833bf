/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * System calls about disks.
 */
#include <block.h>
#include <syscall.h>

s64 sys_sync(struct trap_frame *frame)
{
    int error = 0;

    for (struct disk *disk = disks; disk; disk = disk->next) {
        int failed = disk_sync(disk);

        error = error ? error : failed;
    }
    return error;
}
