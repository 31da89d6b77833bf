/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Multicalls that call themselves, that change the table of calls they are read from or the memory it stands in, and
 * that do what a call may not do in one.
 */
#include "test.h"

const char test_name[] = "hostile-multicall";

static struct multicall_entry calls[64] PAGE_ALIGNED, inner[2] PAGE_ALIGNED;
static struct mmu_update updates[4];

#define CALL(n, number, ...) \
    calls[n] = (struct multicall_entry){ .op = (number), .args = { __VA_ARGS__ } }

void test_main(void)
{
    unsigned long self = (unsigned long)calls;

    /* In itself: refused, and the others are made. */
    CALL(0, __HYPERVISOR_multicall, self, 64);
    CALL(1, __HYPERVISOR_multicall, (unsigned long)inner, 1);
    CALL(2, __HYPERVISOR_xen_version, XENVER_version);
    CALL(3, 63);
    CALL(4, ~0UL);
    CALL(5, 1UL << 32 | __HYPERVISOR_xen_version, XENVER_version);
    check_is(HYPERVISOR_multicall(calls, 6), 0);
    check_is((int)calls[0].result, -XEN_EINVAL);
    check_is((int)calls[1].result, -XEN_EINVAL);
    check_is((int)calls[2].result >> 16, 4);
    check_is((int)calls[3].result, -XEN_ENOSYS);
    check_is((int)calls[4].result, -XEN_ENOSYS);
    check_is((int)calls[5].result, -XEN_ENOSYS); /* the number is a whole word here */

    /* One that makes the rest of the list unreadable: those before are done, and the call itself is the last. */
    CALL(0, __HYPERVISOR_xen_version, XENVER_version);
    CALL(1, __HYPERVISOR_update_va_mapping, (unsigned long)calls, 0, UVMF_INVLPG);
    CALL(2, __HYPERVISOR_xen_version, XENVER_version);
    check_is(HYPERVISOR_multicall(calls, 3), -XEN_EFAULT);
    check_is(writable(calls), 0);
    check_is((int)calls[0].result >> 16, 4);
    check_is((int)calls[2].result, 0);

    /* One that makes it read-only: the answer has nowhere to go. */
    unsigned long before = *pte_of(calls, 1);

    CALL(0, __HYPERVISOR_update_va_mapping, (unsigned long)calls, before & ~PTE_RW, UVMF_INVLPG);
    CALL(1, __HYPERVISOR_xen_version, XENVER_version);
    check_is(HYPERVISOR_multicall(calls, 2), -XEN_EFAULT);
    check_is(writable(calls), 0);
    check_is((int)calls[1].result, 0);

    /* One whose answers fall on the entries still to come: they are read when their turn has come. */
    updates[0] = (struct mmu_update){ maddr_of(&calls[1].op), __HYPERVISOR_sched_op }; /* plain memory: a write */
    CALL(0, __HYPERVISOR_mmu_update, (unsigned long)updates, 1, 0, DOMID_SELF);
    CALL(1, 63, SCHEDOP_yield);
    check_is(HYPERVISOR_multicall(calls, 2), 0);
    check_is((int)calls[0].result, 0);
    check_is((int)calls[1].result, 0); /* it was a sched_op by then */

    /* None, too many, and a list that is no list. */
    check_is(HYPERVISOR_multicall(0, 0), 0);
    check_is(HYPERVISOR_multicall(0, 1), -XEN_EFAULT);
}
