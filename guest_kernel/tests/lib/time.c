/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * pvclock: system time = a base that Xen publishes + the TSC since then, scaled.
 */
#include "test.h"

unsigned long rdtsc(void)
{
    unsigned low, high;

    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return ((unsigned long)high << 32) | low;
}

unsigned long now(void)
{
    volatile struct vcpu_time_info *time = &shared_info->vcpu_info[0].time;
    unsigned version;
    unsigned long result;

    do { /* an odd version, or one that changed, means Xen was writing */
        version = time->version;
        barrier();
        unsigned long delta = rdtsc() - time->tsc_timestamp;

        if (time->tsc_shift >= 0)
            delta <<= time->tsc_shift;
        else
            delta >>= -time->tsc_shift;
        result = time->system_time + (unsigned long)(((unsigned __int128)delta * time->tsc_to_system_mul) >> 32);
        barrier();
    } while ((version & 1) || version != time->version);
    return result;
}

void delay_until(unsigned long time)
{
    while (now() < time)
        for (unsigned i = 0; i < 20000; i++)
            asm volatile("");
}
