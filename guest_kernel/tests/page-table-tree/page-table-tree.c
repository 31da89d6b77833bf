/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A whole tree of tables, built with plain stores, becomes an address space by one pin, and the one in use by one
 * NEW_BASEPTR.  The hypervisor's slots are in it though we never wrote them.
 */
#include "test.h"

const char test_name[] = "page-table-tree";

static unsigned long l4[512] PAGE_ALIGNED, l3[512] PAGE_ALIGNED, l2[512] PAGE_ALIGNED, l1[512] PAGE_ALIGNED;
PAGE(data);

#define VA 0x0000123456789000UL
#define INDEX(level) ((VA >> (12 + 9 * ((level) - 1))) & 511)
#define TABLE (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)

void test_main(void)
{
    unsigned long boot_l4 = mfn_of((void *)start_info->pt_base), value;

    data[0] = 42;
    l4[511] = ((unsigned long *)start_info->pt_base)[511]; /* the kernel stays mapped */
    l4[INDEX(4)] = PTE(mfn_of(l3), TABLE);
    l3[INDEX(3)] = PTE(mfn_of(l2), TABLE);
    l2[INDEX(2)] = PTE(mfn_of(l1), TABLE);
    l1[INDEX(1)] = PTE(mfn_of(data), PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX);

    check_is(probe_read((void *)VA, 0), 14);
    /* One of the four still writable: no. */
    check_is(readonly(l4) | readonly(l3) | readonly(l2), 0);
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(l4), 0), -XEN_EINVAL);
    check_is(readonly(l1), 0);
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(l4), 0), 0);
    check_is(mmuext(MMUEXT_NEW_BASEPTR, mfn_of(l4), 0), 0);

    check_is(probe_read((void *)VA, &value), PROBE_NONE);
    check(value == 42);
    *(volatile unsigned long *)VA = 43;
    check(*(volatile unsigned long *)data == 43);
    check(pfn_of_mfn(mfn_of(data)) == pfn_of(data)); /* the M2P is here, too */

    check_is(mmuext(MMUEXT_NEW_BASEPTR, boot_l4, 0), 0);
    check_is(probe_read((void *)VA, 0), 14);
    check_is(mmuext(MMUEXT_NEW_BASEPTR, mfn_of(data), 0), -XEN_EINVAL); /* data is no root */

    /* Unpinned and unused, all four are ordinary pages again. */
    check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(l4), 0), 0);
    check_is(writable(l4) | writable(l3) | writable(l2) | writable(l1), 0);
    l1[INDEX(1)] = 0;
}
