/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The kernel, in order of birth. The column (its boot.c) has brought memory, the page allocator and a way to print;
 * from here on everything is portable.
 */
#include <device.h>
#include <file.h>
#include <lib.h>
#include <process.h>
#include <pv_ops.h>
#include <tty.h>

extern const u8 initfs_start[], initfs_end[]; /* initfs.S */

void kernel_main(void)
{
    kprintf("guest_kernel (%s): %lu MiB of memory, %lu free\n", pv.name, pages_total >> 8, pages_free >> 8);
    pv.set_traps();
    ramfs_init(initfs_start, initfs_end);
    devices_init();
    tty_init();
    platform_devices();
    processes_init();
    fpu_init();
    process_start_init("/bin/init");
    schedule(); /* and never back: this stack has no process */
    panic("the first schedule() came back");
}
