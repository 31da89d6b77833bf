/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * fpu_taskswitch sets CR0.TS, so that the next FPU instruction traps; Xen clears it again before our handler runs.
 */
#include "test.h"

const char test_name[] = "fpu-taskswitch";

static int traps;

static int on_no_device(struct frame *frame)
{
    traps++;
    return 1; /* try again */
}

void test_main(void)
{
    unsigned long value = 0x1122334455667788, again = 0;

    trap_hooks[7] = on_no_device;
    asm volatile("fninit");
    check_is(traps, 0);

    check_is(HYPERVISOR_fpu_taskswitch(1), 0);
    asm volatile("movq %0, %%xmm5" : : "r"(value));
    check_is(traps, 1); /* once: TS was cleared for us */
    asm volatile("movq %%xmm5, %0" : "=r"(again));
    check_is(traps, 1);
    check(again == value);

    check_is(HYPERVISOR_fpu_taskswitch(1), 0);
    check_is(HYPERVISOR_fpu_taskswitch(0), 0);
    again = 0;
    asm volatile("movq %%xmm5, %0" : "=r"(again));
    check_is(traps, 1);
    check(again == value); /* the registers are kept all the while */

    check_is(HYPERVISOR_fpu_taskswitch(1), 0);
    asm volatile("fld1; fstp %st(0)");
    check_is(traps, 2);
}
