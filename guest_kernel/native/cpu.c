/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The small privileged things: the interrupt flag, waiting, CR2, CPUID, the FPU switch.
 */
#include <lib.h>

#include "instructions.h"
#include "native.h"

#define HAS_HYPERVISOR (1U << 31) /* in ecx of leaf 1: a CPU alone never sets it */

void native_irq_disable(void)
{
    asm volatile("cli" : : : "memory");
}

/* sti takes effect one instruction late; without the nop, a cli behind it would let nothing in. */
void native_irq_enable(void)
{
    asm volatile("sti; nop" : : : "memory");
}

/* That same delay makes this safe: nothing can come between sti and hlt, and be slept through. */
void native_idle(void)
{
    asm volatile("sti; hlt; cli" : : : "memory");
}

/* We remember TS instead of reading it: kernels do, because where this is expensive, it is very expensive. */
void native_fpu_disable(bool disable)
{
    static bool disabled;

    if (disable && !disabled)
        write_cr0(CR0_KERNEL | CR0_TS);
    else if (!disable && disabled)
        asm volatile("clts");
    disabled = disable;
}

u64 native_fault_address(void)
{
    u64 address;

    asm volatile("movq %%cr2, %0" : "=r"(address));
    return address;
}

void native_cpuid(u32 leaf, u32 out[4])
{
    asm volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "0"(leaf), "2"(0));
}

/* Even a machine that is virtual through and through may admit it, by a name of twelve letters in ebx ecx edx. */
void native_hypervisor(char *name, size_t room)
{
    u32 r[4];

    native_cpuid(1, r);
    if (!(r[2] & HAS_HYPERVISOR))
        return;
    native_cpuid(0x40000000, r);
    memcpy(name, &r[1], MIN(room - 1, 12UL));
}
