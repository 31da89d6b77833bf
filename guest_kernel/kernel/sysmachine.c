/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * System calls about the machine.
 */
#include <lib.h>
#include <nanobench.h>
#include <process.h>
#include <pv_ops.h>
#include <shutdown.h>
#include <syscall.h>

s64 sys_uptime(struct trap_frame *frame)
{
    return pv.now();
}

s64 sys_time(struct trap_frame *frame)
{
    return pv.wallclock();
}

s64 sys_memory(struct trap_frame *frame)
{
    struct memory_info info = { pages_total, pages_free, pages_tables };

    return copy_to_user(ARG1(frame), &info, sizeof(info));
}

s64 sys_dmesg(struct trap_frame *frame)
{
    char text[256];
    size_t n = log_read(ARG1(frame), text, MIN(ARG3(frame), sizeof(text)));

    return copy_to_user(ARG2(frame), text, n) ? -EFAULT : (s64)n;
}

/* The strings that cpuid spells in registers: the vendor in ebx edx ecx. */
s64 sys_machine(struct trap_frame *frame)
{
    struct machine_info info = { 0 };
    u32 r[4];

    pv.cpuid(0, r);
    memcpy(info.vendor + 0, &r[1], 4);
    memcpy(info.vendor + 4, &r[3], 4);
    memcpy(info.vendor + 8, &r[2], 4);
    pv.cpuid(0x80000000, r);
    if (r[0] >= 0x80000004)
        for (u32 leaf = 0; leaf < 3; leaf++) {
            pv.cpuid(0x80000002 + leaf, r);
            memcpy(info.model + 16 * leaf, r, 16);
        }
    pv.hypervisor(info.hypervisor, sizeof(info.hypervisor));
    info.tsc_khz = pv.tsc_khz();
    return copy_to_user(ARG1(frame), &info, sizeof(info));
}

/* Time an operation that only the kernel may do, on behalf of `bench`. */
s64 sys_privileged(struct trap_frame *frame)
{
    u64 count = MIN(ARG2(frame), 1000000UL), start = pv.now();
    int op = (int)ARG1(frame);
    int error = op & PRIVILEGED_MARKED ? nanobench(op & ~PRIVILEGED_MARKED, count) : pv.privileged(op, count);

    return error ? error : (s64)(pv.now() - start);
}

static __attribute__((noinline)) void crash_on_purpose(void)
{
    *(volatile u64 *)0xdead0000dead0000UL = 1; /* not even a canonical address */
}

s64 sys_shutdown(struct trap_frame *frame)
{
    switch (ARG1(frame)) {
    case SHUTDOWN_HOW_CRASH:
        crash_on_purpose();
    case SHUTDOWN_HOW_POWEROFF:
    case SHUTDOWN_HOW_REBOOT:
        shutdown_machine((int)ARG1(frame));
    }
    return -EINVAL;
}
