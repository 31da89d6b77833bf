/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * multicall runs its entries in order, each with its own result; one that fails stops nobody.
 */
#include "test.h"

const char test_name[] = "multicall";

PAGE(page);

void test_main(void)
{
    struct multicall_entry calls[5] = {
        { .op = __HYPERVISOR_xen_version, .args = { XENVER_version } },
        { .op = __HYPERVISOR_xen_version, .args = { 999 } },
        { .op = __HYPERVISOR_update_va_mapping, .args = { (unsigned long)page, 0, UVMF_INVLPG } },
        { .op = __HYPERVISOR_update_va_mapping,
          .args = { (unsigned long)page, PTE(mfn_of(page), PTE_P | PTE_RW | PTE_US | PTE_NX), UVMF_INVLPG } },
        { .op = 63 },
    };
    struct multicall_entry nested = { .op = __HYPERVISOR_multicall, .args = { (unsigned long)calls, 1 } };

    page[0] = 7;
    check_is(HYPERVISOR_multicall(calls, 5), 0);
    check_is(calls[0].result >> 16, 4);
    check_is(calls[1].result, -XEN_ENOSYS);
    check_is(calls[2].result, 0);
    check_is(calls[3].result, 0); /* after the one before: mapped again, not unmapped */
    check_is(calls[4].result, -XEN_ENOSYS);
    check(page[0] == 7);

    check_is(HYPERVISOR_multicall(calls, 0), 0);
    check_is(HYPERVISOR_multicall(&nested, 1), 0);
    check_is(nested.result, -XEN_EINVAL); /* not within each other */
    check_is(HYPERVISOR_multicall((struct multicall_entry *)8, 1), -XEN_EFAULT);
}
