/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Time without asking: Xen publishes, in shared memory, the system time at some moment, the TSC at that moment, and
 * how to scale TSC ticks into nanoseconds.  Reading the clock is one rdtsc and a multiplication.
 */
#include <lib.h>
#include <process.h>

#include "pv.h"

static u64 rdtsc(void)
{
    u32 low, high;

    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return ((u64)high << 32) | low;
}

u64 pv_now(void)
{
    volatile struct vcpu_time_info *time = &this_vcpu->time;
    u32 version;
    u64 delta, now;

    do { /* an odd version, or one that changed meanwhile: Xen was writing */
        version = time->version;
        barrier();
        delta = rdtsc() - time->tsc_timestamp;
        delta = time->tsc_shift < 0 ? delta >> -time->tsc_shift : delta << time->tsc_shift;
        now = time->system_time + (u64)(((unsigned __int128)delta * time->tsc_to_system_mul) >> 32);
        barrier();
    } while (version & 1 || version != time->version);
    return now;
}

/* The time of day at boot, by the host's clock, and what has passed since. */
u64 pv_wallclock(void)
{
    volatile struct shared_info *shared = shared_info;
    u32 version;
    u64 boot;

    do {
        version = shared->wc_version;
        barrier();
        boot = (((u64)shared->wc_sec_hi << 32) | shared->wc_sec) * 1000000000UL + shared->wc_nsec;
        barrier();
    } while (version & 1 || version != shared->wc_version);
    return boot + pv_now();
}

u64 pv_tsc_khz(void)
{
    u64 khz = (1000000UL << 32) / this_vcpu->time.tsc_to_system_mul;
    int shift = this_vcpu->time.tsc_shift;

    return shift < 0 ? khz << -shift : khz >> shift;
}

void pv_set_timer(u64 deadline)
{
    HYPERVISOR_set_timer_op(deadline == NEVER ? 0 : deadline);
}

static void timer_event(unsigned port)
{
    timer_interrupt();
}

void timer_init(void)
{
    /* Xen begins with a tick every 10 ms. We ask for each interrupt we want, so that an idle system is quiet. */
    HYPERVISOR_vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    if (event_bind_virq(VIRQ_TIMER, timer_event) < 0)
        panic("no timer");
}
