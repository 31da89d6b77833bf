/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * MMUEXT_SET_LDT: pages of descriptors at an address of ours, mapped in when they are first used.
 */
#include "test.h"

const char test_name[] = "ldt";

static unsigned long table[512] PAGE_ALIGNED;

#define DATA_DPL3 0x00cff3000000ffffUL

void test_main(void)
{
    table[2] = DATA_DPL3;
    check_is(mmuext(MMUEXT_SET_LDT, (unsigned long)table + 8, 512), -XEN_EINVAL); /* not on a page */
    check_is(mmuext(MMUEXT_SET_LDT, (unsigned long)table, 8193), -XEN_EINVAL);
    check_is(readonly(table), 0);
    check_is(mmuext(MMUEXT_SET_LDT, (unsigned long)table, 512), 0);
    check_is(probe("movl %k1, %%es", : "r"(2 * 8 | 7)), PROBE_NONE);
    check_is(writable(table), -XEN_EBUSY); /* in use */
    asm volatile("movl %0, %%es" : : "r"(0));
    check_is(probe("movl %k1, %%es", : "r"(3 * 8 | 7)), 13); /* an empty one */
    check_is(last_trap.error, 3 * 8 | 4);
    check_is(mmuext(MMUEXT_SET_LDT, 0, 0), 0);
    check_is(writable(table), 0);
}
