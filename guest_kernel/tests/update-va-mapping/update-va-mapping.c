/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * update_va_mapping: the last-level entry of one virtual address, and the TLB, in one call.
 */
#include "test.h"

const char test_name[] = "update-va-mapping";

PAGE(a);
PAGE(b);

static long update(const void *va, unsigned long pte, unsigned long flags)
{
    return HYPERVISOR_update_va_mapping((unsigned long)va, pte, flags);
}

void test_main(void)
{
    unsigned long rights = PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX, back = PTE(mfn_of(a), rights);

    a[0] = 1, b[0] = 2;
    check(*(volatile unsigned char *)a == 1); /* the TLB has it now */
    check_is(update(a, PTE(mfn_of(b), rights), UVMF_INVLPG), 0);
    check(*(volatile unsigned char *)a == 2);
    check_is(update(a, back, UVMF_TLB_FLUSH | UVMF_ALL), 0);
    check(*(volatile unsigned char *)a == 1);
    check_is(update(a, 0, UVMF_TLB_FLUSH), 0);
    check_is(probe_read(a, 0), 14);
    check_is(update(a, back, UVMF_NONE), 0);
    check(*(volatile unsigned char *)a == 1);

    check_is(update((void *)0x1000, back, UVMF_NONE), -XEN_EINVAL); /* no table there to hold the entry */
    check_is(update((void *)0xffff830000000000UL, back, UVMF_NONE), -XEN_EINVAL); /* the hypervisor's part */
    check_is(update(a, PTE(mfn_of(pte_of(a, 1)), rights), UVMF_NONE), -XEN_EBUSY); /* a table, writable */

    check_is(HYPERVISOR_update_va_mapping_otherdomain((unsigned long)a, back, UVMF_INVLPG, DOMID_SELF), 0);
    check_is(HYPERVISOR_update_va_mapping_otherdomain((unsigned long)a, back, UVMF_INVLPG, 0x7000), -XEN_ESRCH);
}
