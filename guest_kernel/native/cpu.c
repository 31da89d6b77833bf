/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The small privileged things: the interrupt flag, waiting, CR2, CPUID, the FPU switch.
 */
#include "instructions.h"
#include "native.h"

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
        asm volatile("movq %0, %%cr0" : : "r"((u64)(u32)(CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_TS | CR0_MP | CR0_PE)));
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
