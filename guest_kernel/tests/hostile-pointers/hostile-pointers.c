/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Buffers that are not there, not ours, not aligned, that wrap around or reach into the hypervisor's range: that is
 * EFAULT, and what came before was done.
 */
#include "test.h"

const char test_name[] = "hostile-pointers";

PAGE(page);
static unsigned char last[2 * PAGE_SIZE] PAGE_ALIGNED; /* of which the second page is taken away */

#define XEN_START 0xffff800000000000UL
#define XEN_END 0xffff880000000000UL

/* Where nothing can be read, by name of the reason. */
static const unsigned long bad[] = {
    8,                                       /* nothing is mapped there */
    0x00007fffffffffffUL,                    /* the end of the lower half, and over it */
    0x00007ffffffffff8UL, 0x0000800000000000UL, 0x8000000000000000UL, 0xfffeffffffffffffUL, /* not canonical */
    0xffff7ffffffffff8UL, XEN_START - 1,     /* up into the hypervisor's range */
    XEN_START + 0x8000000000UL, 0xffff82d080000000UL, 0xffff830000000000UL, XEN_END - 8, /* its text, its memory */
    XEN_END,                                 /* just behind it */
    ~0UL, ~7UL, ~0UL - 0xfff,                /* the end of everything, and over it */
};

static void everywhere(unsigned long at)
{
    void *p = (void *)at;
    struct evtchn_send send = { 0 };

    check_is(HYPERVISOR_set_trap_table(p), -XEN_EFAULT);
    check_is(HYPERVISOR_mmu_update(p, 1, 0, DOMID_SELF), -XEN_EFAULT);
    check_is(HYPERVISOR_mmuext_op(p, 1, 0, DOMID_SELF), -XEN_EFAULT);
    check_is(HYPERVISOR_multicall(p, 1), -XEN_EFAULT);
    check_is(HYPERVISOR_set_gdt(p, 512), -XEN_EFAULT);
    check_is(HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, p), -XEN_EFAULT);
    check_is(HYPERVISOR_event_channel_op(EVTCHNOP_send, p), -XEN_EFAULT);
    check_is(HYPERVISOR_xen_version(XENVER_extraversion, p), -XEN_EFAULT);
    check_is(HYPERVISOR_memory_op(XENMEM_populate_physmap, p), 0); /* that many were populated */
    check_is(HYPERVISOR_memory_op(XENMEM_exchange, p), -XEN_EFAULT);
    check_is(HYPERVISOR_memory_op(XENMEM_machphys_mapping, p), -XEN_EFAULT);
    check_is(HYPERVISOR_grant_table_op(GNTTABOP_map_grant_ref, p, 1), -XEN_EFAULT);
    check_is(HYPERVISOR_grant_table_op(GNTTABOP_setup_table, p, 1), -XEN_EFAULT);
    check_is(HYPERVISOR_grant_table_op(GNTTABOP_query_size, p, 1), -XEN_EFAULT);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_set_periodic_timer, 0, p), -XEN_EFAULT);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_get_runstate_info, 0, p), -XEN_EFAULT);
    check_is(HYPERVISOR_sched_op(SCHEDOP_poll, p), -XEN_EFAULT);
    check_is(HYPERVISOR_sched_op(SCHEDOP_watchdog, p), -XEN_EFAULT);
    check_is(HYPERVISOR_callback_op(CALLBACKOP_register, p), -XEN_EFAULT);
    check_is(HYPERVISOR_physdev_op(PHYSDEVOP_set_iopl, p), -XEN_EFAULT);

    /* Where it counts what it did, a bad address is not an error: it does not count. */
    struct mmuext_op flush = { .cmd = MMUEXT_TLB_FLUSH_LOCAL };

    check_is(HYPERVISOR_mmuext_op(&flush, 1, p, DOMID_SELF), 0);
    check_is(HYPERVISOR_event_channel_op(EVTCHNOP_send, &send), -XEN_EINVAL);
}

void test_main(void)
{
    struct mmu_update *request = (struct mmu_update *)((char *)page + 1);
    unsigned long slot = pte_maddr(page, 1), before = *pte_of(page, 1);
    unsigned done;

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        everywhere(bad[i]);

    /* Not aligned is no fault. */
    *request = (struct mmu_update){ slot, before };
    check_is(HYPERVISOR_mmu_update(request, 1, 0, DOMID_SELF), 0);

    /* A list that ends in the middle: what is there is done. */
    unsigned char *hole = last + PAGE_SIZE;

    check_is(remap(hole, 0), 0);
    request = (struct mmu_update *)(last + PAGE_SIZE - 3 * sizeof(*request) - 8);
    for (unsigned i = 0; i < 3; i++)
        request[i] = (struct mmu_update){ slot, before };
    check_is(HYPERVISOR_mmu_update(request, 4, &done, DOMID_SELF), -XEN_EFAULT);
    check_is(done, 3);
    struct multicall_entry *calls = (struct multicall_entry *)(last + PAGE_SIZE) - 2;

    calls[0] = calls[1] = (struct multicall_entry){ .op = __HYPERVISOR_xen_version };
    check_is(HYPERVISOR_multicall(calls, 3), -XEN_EFAULT);
    check_is(calls[0].result >> 16, 4);
    check_is(calls[1].result >> 16, 4);

    /* What is only to be read cannot be answered into; the call was made all the same. */
    struct evtchn_alloc_unbound *alloc = (struct evtchn_alloc_unbound *)last;

    *alloc = (struct evtchn_alloc_unbound){ .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
    check_is(readonly(last), 0);
    check_is(evtchn(EVTCHNOP_alloc_unbound, alloc), -XEN_EFAULT);
    check_is(HYPERVISOR_multicall(calls, 1), -XEN_EFAULT);
    check_is(HYPERVISOR_xen_version(XENVER_extraversion, last), -XEN_EFAULT);
    check_is(HYPERVISOR_xen_version(XENVER_extraversion, (void *)XEN_START), -XEN_EFAULT); /* the M2P is to be read */
    check_is(HYPERVISOR_mmu_update((void *)XEN_START, 1, 0, DOMID_SELF), -XEN_EFAULT);

    /* Counts beyond all measure. */
    struct multicall_entry *none = (struct multicall_entry *)8;

    check_is(HYPERVISOR_multicall(none, ~0U), -XEN_EFAULT);
    check_is(HYPERVISOR_mmu_update((void *)8, 0x7fffffff, 0, DOMID_SELF), -XEN_EFAULT);
    check_is(HYPERVISOR_mmuext_op((void *)(XEN_START - 24), 2, 0, DOMID_SELF), -XEN_EFAULT);
    check_is(HYPERVISOR_grant_table_op(GNTTABOP_map_grant_ref, (void *)8, 0x80000000), -XEN_EINVAL);
    long result = HYPERVISOR_console_io(CONSOLEIO_write, 16, (char *)XEN_START);

    check(result == -XEN_EFAULT || result == -XEN_EPERM); /* some builds let nobody write there (see console-io) */
    check_is(remap(hole, PTE(mfn_of(hole), PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)), 0);
    check_is(writable(last), 0);
}
