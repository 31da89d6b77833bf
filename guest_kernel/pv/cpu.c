/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The small privileged things: the interrupt flag, waiting, CR2, CPUID, the FPU switch, the power switch.
 */
#include <api/syscalls.h>
#include <lib.h>

#include "pv.h"

void pv_irq_disable(void)
{
    this_vcpu->evtchn_upcall_mask = 1;
    barrier();
}

/*
 * Clearing the mask delivers nothing by itself: Xen does not see a store to memory.  What became pending while the
 * mask was set must be looked for; any hypercall makes Xen look, and the cheapest will do.
 */
void pv_irq_enable(void)
{
    barrier();
    this_vcpu->evtchn_upcall_mask = 0;
    barrier();
    if (*(volatile u8 *)&this_vcpu->evtchn_upcall_pending)
        HYPERVISOR_xen_version(XENVER_version, NULL);
}

/* `block` clears the mask and sleeps in one step, unless something is pending: there is no gap to lose a wake-up in. */
void pv_idle(void)
{
    HYPERVISOR_sched_op(SCHEDOP_block, NULL);
    pv_irq_disable();
}

void pv_fpu_disable(bool disable)
{
    queue_call(__HYPERVISOR_fpu_taskswitch, disable, 0, 0, 0);
}

u64 pv_fault_address(void)
{
    return this_vcpu->arch.cr2;
}

/* A plain cpuid does not trap and would show the host's CPU. Behind this prefix it is Xen who answers. */
void pv_cpuid(u32 leaf, u32 out[4])
{
    asm volatile(XEN_CPUID : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "0"(leaf), "2"(0));
}

void pv_hypervisor(char *name, size_t room)
{
    u32 r[4];

    pv_cpuid(0x40000001, r);
    format(name, room, "Xen %u.%u", r[0] >> 16, r[0] & 0xffff);
}

void pv_shutdown(int how)
{
    static const unsigned reasons[] = {
        [SHUTDOWN_HOW_POWEROFF] = SHUTDOWN_poweroff,
        [SHUTDOWN_HOW_REBOOT] = SHUTDOWN_reboot,
        [SHUTDOWN_HOW_CRASH] = SHUTDOWN_crash,
    };
    struct sched_shutdown op = { .reason = reasons[how] };

    for (;;)
        HYPERVISOR_sched_op(SCHEDOP_shutdown, &op);
}
