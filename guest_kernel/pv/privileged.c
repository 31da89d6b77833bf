/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Privileged operations on their own, many times over, for `bench` to time.  Each checks that it did something.
 */
#include <api/errno.h>
#include <api/syscalls.h>
#include <lib.h>
#include <pv_ops.h>

#include "pv.h"

static int null_calls(u64 count)
{
    long version = HYPERVISOR_xen_version(XENVER_version, NULL);

    for (u64 i = 0; i < count; i++)
        if (HYPERVISOR_xen_version(XENVER_version, NULL) != version)
            return -EIO;
    return 0;
}

/* Change what a page-table entry allows, back and forth: the physmap's own entry for a page we hold. */
static int pte_updates(u64 count, u64 batch)
{
    struct page *page = page_alloc();
    paddr_t frame;
    pte_t *slot;

    if (!page)
        return -ENOMEM;
    frame = page_phys(page);
    slot = virt(physmap_tables + (frame >> PAGE_SHIFT) * sizeof(pte_t));
    for (u64 done = 0; done < count; done += batch) {
        pv.batch_begin();
        for (u64 i = 0; i < batch; i++)
            pv.set_pte(slot, pv.make_pte(frame, (done + i) & 1 ? PTE_KERNEL_RW : PTE_KERNEL_RO));
        pv.batch_end();
        if (!(*slot & PTE_WRITE) != !((done + batch - 1) & 1)) /* is it what we wrote last? */
            return -EIO;
    }
    if (!(*slot & PTE_WRITE)) /* after an odd number of them */
        pv.set_pte(slot, pv.make_pte(frame, PTE_KERNEL_RW));
    page_put(page);
    return 0;
}

static volatile u64 events_seen;

static void count_event(unsigned port)
{
    events_seen++;
}

/* An event channel with both ends here: send into one, and be interrupted by the other. */
static int event_round_trips(u64 count)
{
    int receiver = event_alloc_unbound(DOMID_SELF, count_event), sender;

    if (receiver < 0)
        return -EIO;
    sender = event_bind_interdomain(DOMID_SELF, receiver, count_event);
    if (sender < 0) {
        event_close(receiver);
        return -EIO;
    }
    /* Binding made the new end pending once; take that one first. */
    pv.irq_enable();
    pv.irq_disable();
    events_seen = 0;
    for (u64 i = 0; i < count; i++) {
        event_send(sender);
        pv.irq_enable();
        pv.irq_disable();
    }
    event_close(sender);
    event_close(receiver);
    return events_seen == count ? 0 : -EIO;
}

int pv_privileged(int op, u64 count)
{
    switch (op) {
    case PRIVILEGED_NULL_CALL:
        return null_calls(count);
    case PRIVILEGED_PTE_UPDATE:
        return pte_updates(count, 1);
    case PRIVILEGED_PTE_BATCH:
        return pte_updates(count, 512);
    case PRIVILEGED_EVENT:
        return event_round_trips(count);
    case PRIVILEGED_PORT_READ: /* no ports, and no priorities either: devices are rings, interrupts are events */
    case PRIVILEGED_CR8_WRITE:
        return -ENODEV;
    case PRIVILEGED_GRANT_COPY:
    case PRIVILEGED_GRANT_MAP:
        return grants_time(op, count);
    }
    return -EINVAL;
}
