/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A guest has a GDT of its own pages, which Xen checks like page tables: none may hold a TSS or anything
 * else that gives more than ring 3 has.
 */
#include "test.h"

const char test_name[] = "descriptors";

static unsigned long gdt[512] PAGE_ALIGNED;

#define DATA_DPL3 0x00cff3000000ffffUL /* flat, 4 GiB */
#define DATA_BASE 0x00cff3100000ffffUL /* the same from 0x100000 */
#define TASK_STATE 0x0000890000000067UL

static unsigned read_selector(void)
{
    unsigned selector;

    asm volatile("movl %%es, %0" : "=r"(selector));
    return selector;
}

void test_main(void)
{
    unsigned long frame = mfn_of(gdt);

    gdt[1] = DATA_DPL3;
    check_is(HYPERVISOR_set_gdt(&frame, 512), -XEN_EINVAL); /* still mapped writable */
    check_is(readonly(gdt), 0);
    check_is(HYPERVISOR_set_gdt(&frame, 512), 0);
    check_is(writable(gdt), -XEN_EBUSY);
    check_is(probe_write(&gdt[2], DATA_DPL3), 14);

    check_is(probe("movl %k1, %%es", : "r"(8 | 3)), PROBE_NONE);
    check_is(read_selector(), 8 | 3);
    check_is(probe("movl %k1, %%es", : "r"(3 * 8 | 3)), 13); /* an empty one */
    check_is(last_trap.error, 3 * 8);

    check_is(HYPERVISOR_update_descriptor(maddr_of(&gdt[3]), DATA_BASE), 0);
    check(gdt[3] == DATA_BASE);
    check_is(probe("movl %k1, %%es", : "r"(3 * 8 | 3)), PROBE_NONE);
    asm volatile("movl %0, %%es" : : "r"(0));

    check_is(HYPERVISOR_update_descriptor(maddr_of(&gdt[4]), TASK_STATE), -XEN_EINVAL);
    check(gdt[4] == 0);
    check_is(HYPERVISOR_update_descriptor(maddr_of(&gdt[3]) + 1, 0), -XEN_EINVAL); /* not on a boundary */

    check_is(HYPERVISOR_set_gdt(0, 0), 0); /* gone */
    check_is(writable(gdt), 0);
    check_is(HYPERVISOR_set_gdt(&frame, FIRST_RESERVED_GDT_ENTRY + 1), -XEN_EINVAL);

    /* A page with a bad descriptor cannot become a GDT. */
    gdt[4] = TASK_STATE;
    check_is(readonly(gdt), 0);
    check_is(HYPERVISOR_set_gdt(&frame, 512), -XEN_EINVAL);
    check_is(writable(gdt), 0);
}
