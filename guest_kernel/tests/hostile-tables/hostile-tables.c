/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Page tables of all four levels, attacked: written, mapped writable, taken for tables of another level, given away.
 * While one is in use it is that and nothing else.
 */
#include "test.h"

const char test_name[] = "hostile-tables";

PAGE(page);
static unsigned long spare[512] PAGE_ALIGNED;

#define RW (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)
#define LINK (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)

static long memory_op(unsigned cmd, unsigned long frame)
{
    struct xen_memory_reservation op = { .nr_extents = 1, .domid = DOMID_SELF };

    set_handle(op.extent_start, &frame);
    return HYPERVISOR_memory_op(cmd, &op);
}

static long exchange(unsigned long in)
{
    unsigned long out = pfn_of(page);
    struct xen_memory_exchange op = { .in = { .nr_extents = 1, .domid = DOMID_SELF },
                                      .out = { .nr_extents = 1, .domid = DOMID_SELF } };

    set_handle(op.in.extent_start, &in);
    set_handle(op.out.extent_start, &out);
    return HYPERVISOR_memory_op(XENMEM_exchange, &op);
}

static void attack(unsigned long *entry, int level)
{
    unsigned long mfn = mfn_of(entry), at = maddr_of(entry), before = *entry, slot = pte_maddr(page, 1);
    static const unsigned pins[] = {
        MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE };

    /* Written as if it were memory. */
    if (!(start_info->flags & SIF_INITDOMAIN)) /* for a dom0 Xen does it unasked */
        check_is(probe_write(entry, 0), 14);
    check_is(writable(entry), -XEN_EBUSY);
    check_is(mmu_update(slot, PTE(mfn, RW)), -XEN_EBUSY);
    check_is(mmuext(MMUEXT_CLEAR_PAGE, mfn, 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_COPY_PAGE, mfn, mfn_of(page)), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_COPY_PAGE, mfn_of(page), mfn), 0); /* to be read it is */
    check_is(HYPERVISOR_update_descriptor(at, 0), -XEN_EINVAL);
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    if (level > 1) /* only L1 entries are written for us */
        check_is(probe_write(entry, before), 14);
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_disable, VMASST_TYPE_writable_pagetables), 0);

    /* Entries with bits that are not the guest's: cacheability, superpages, Xen's own mark. */
    if (level > 1 || !(start_info->flags & SIF_INITDOMAIN)) { /* a dom0 has device memory, and may */
        check_is(mmu_update(at, before | 1 << 3), -XEN_EINVAL);
        check_is(mmu_update(at, before | 1 << 4), -XEN_EINVAL);
        check_is(mmu_update(at, before | PTE_PSE), -XEN_EINVAL);
    }
    if (level > 1)
        check_is(mmu_update(at, before | 1 << 8), -XEN_EINVAL);
    check_is(mmu_update(at, before | 0x7ffUL << 52 | 0xe00), 0); /* these are nobody's */
    check_is(mmu_update(at, before), 0);
    check_is(mmu_update(at | 1 << 2, before), -XEN_ENOSYS);

    /* Taken for a table of another level, by a pin, by a root or by an entry. */
    for (int other = 1; other <= 4; other++)
        if (other != level)
            check_is(mmuext(pins[other - 1], mfn, 0), -XEN_EINVAL);
    if (level != 4) {
        check_is(mmuext(MMUEXT_NEW_BASEPTR, mfn, 0), -XEN_EINVAL);
        check_is(mmuext(MMUEXT_NEW_USER_BASEPTR, mfn, 0), -XEN_EINVAL);
    }
    for (int above = 2; above <= 4; above++) {
        unsigned long free = (pte_maddr(page, above) & ~0xfffUL) + 8 * 490;

        check_is(mmu_update(free, PTE(mfn, LINK)), above == level + 1 ? 0 : -XEN_EINVAL);
        check_is(mmu_update(free, 0), 0);
    }

    /* Given back or exchanged: it stays ours while it is used (a table in use has more than one reference). */
    check_is(exchange(mfn), -XEN_EINVAL);
    check(*entry == before);
}

void test_main(void)
{
    for (int level = 1; level <= 4; level++)
        attack(pte_of(page, level), level);

    /* A page that is given back while it is mapped, or a table while it is pinned, is not free: nobody else gets it. */
    spare[0] = 0x1234;
    check_is(memory_op(XENMEM_decrease_reservation, mfn_of(spare)), 1);
    check(*(volatile unsigned long *)spare == 0x1234);
    check_is(memory_op(XENMEM_decrease_reservation, mfn_of(spare)), 1); /* again: nothing is left to give back */
    check_is(writable(spare), 0);
    memset(page, 0, PAGE_SIZE);
    check_is(readonly(page), 0);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(page), 0), 0);
    check_is(memory_op(XENMEM_decrease_reservation, mfn_of(page)), 1);
    check_is(writable(page), -XEN_EBUSY);
    check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(page), 0), 0);
    check_is(writable(page), 0);
}
