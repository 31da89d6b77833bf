/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The end, in order: whatever is mounted is made clean on its disk, and then the machine goes.
 *
 * That takes a process, for it has to wait for disks.  A program that asks for the end is one.  Where nobody is,
 * because the wish comes from outside, it is the first process: to be killed means that to it.
 */
#include <api/syscalls.h>
#include <block.h>
#include <lib.h>
#include <mount.h>
#include <process.h>
#include <pv_ops.h>
#include <shutdown.h>

static int wish;

void shutdown_machine(int how)
{
    int error = mounts_end(), failed = disks_sync();

    if (error || failed)
        kprintf("Not all of what was written is on the disks: error %d\n", error ? -error : -failed);
    pv.shutdown(how);
}

void shutdown_ask(int how)
{
    wish = how;
    process_kill_init();
}

void shutdown_asked(void)
{
    shutdown_machine(wish);
}
