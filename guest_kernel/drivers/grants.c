/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The grant table: how a domain lets another one at a page of its own.
 *
 * An entry says who may map which frame, and whether to write; its index, the *reference*, is told to the other side,
 * usually through xenstore.  The table is memory of Xen's that we map; we write entries, Xen marks those in use.
 */
#include <api/errno.h>
#include <api/syscalls.h>
#include <lib.h>

#include "../pv/pv.h"

static struct grant_entry_v1 table_window[PAGE_SIZE / sizeof(struct grant_entry_v1)] PAGE_ALIGNED;
static u8 map_window[PAGE_SIZE] PAGE_ALIGNED; /* where a granted page is mapped for a moment */

#define FIRST_REFERENCE 8 /* the lower ones are reserved: console, xenstore */

static bool ready;

int grants_init(void)
{
    unsigned long frame;
    struct gnttab_setup_table op = { .dom = DOMID_SELF, .nr_frames = 1 };
    long error;

    set_xen_guest_handle(op.frame_list, &frame);
    error = HYPERVISOR_grant_table_op(GNTTABOP_setup_table, &op, 1);
    if (!error && op.status == GNTST_okay)
        error = HYPERVISOR_update_va_mapping((u64)table_window, (frame << PAGE_SHIFT) | PTE_KERNEL_RW, UVMF_INVLPG);
    if (error || op.status != GNTST_okay) {
        kprintf("no grant table: error %ld, status %d\n", error, op.status);
        return -ENODEV;
    }
    ready = true;
    return 0;
}

int grant_access(unsigned domid, paddr_t page, bool readonly)
{
    static unsigned last = FIRST_REFERENCE - 1; /* the next one is the likeliest to be free */

    for (unsigned tries = FIRST_REFERENCE; ready && tries < ARRAY_SIZE(table_window); tries++) {
        unsigned ref = last = last + 1 < ARRAY_SIZE(table_window) ? last + 1 : FIRST_REFERENCE;
        struct grant_entry_v1 *entry = &table_window[ref];

        if (entry->flags)
            continue;
        entry->domid = (domid_t)domid;
        entry->frame = (u32)machine_frame(page);
        barrier(); /* the flags last: from then on the entry counts */
        *(volatile u16 *)&entry->flags = GTF_permit_access | (readonly ? GTF_readonly : 0);
        return (int)ref;
    }
    return -ENOMEM;
}

/* Fails while the other side still has it mapped. */
int grant_end(int reference)
{
    u16 *flags = &table_window[reference].flags, old = *(volatile u16 *)flags;

    do {
        if (old & (GTF_reading | GTF_writing))
            return -EAGAIN;
    } while (!__atomic_compare_exchange_n(flags, &old, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return 0;
}

static int copy_once(int reference, struct page *to)
{
    struct gnttab_copy op = { .flags = GNTCOPY_source_gref, .len = PAGE_SIZE };

    op.source.u.ref = reference;
    op.source.domid = DOMID_SELF;
    op.dest.u.gmfn = machine_frame(page_phys(to));
    op.dest.domid = DOMID_SELF;
    return !HYPERVISOR_grant_table_op(GNTTABOP_copy, &op, 1) && op.status == GNTST_okay ? 0 : -EIO;
}

static int map_once(int reference, u64 expected)
{
    struct gnttab_map_grant_ref map = {
        .host_addr = (u64)map_window, .flags = GNTMAP_host_map, .ref = reference, .dom = (domid_t)own_domid() };
    struct gnttab_unmap_grant_ref unmap = { .host_addr = (u64)map_window };
    u64 seen;

    if (HYPERVISOR_grant_table_op(GNTTABOP_map_grant_ref, &map, 1) || map.status != GNTST_okay)
        return -EIO;
    seen = *(volatile u64 *)map_window;
    unmap.handle = map.handle;
    if (HYPERVISOR_grant_table_op(GNTTABOP_unmap_grant_ref, &unmap, 1) || unmap.status != GNTST_okay)
        return -EIO;
    return seen == expected ? 0 : -EIO;
}

/* Grant a page to ourselves, which Xen allows, and use the grant `count` times. */
int grants_time(int op, u64 count)
{
    struct page *from = page_alloc_zeroed(), *to = page_alloc_zeroed();
    int error = from && to ? 0 : -ENOMEM, reference = -1;

    if (!error && (reference = grant_access(own_domid(), page_phys(from), false)) < 0)
        error = reference;
    for (u64 i = 1; !error && i <= count; i++) {
        *(u64 *)page_virt(from) = i;
        if (op == PRIVILEGED_GRANT_MAP) {
            error = map_once(reference, i);
        } else {
            error = copy_once(reference, to);
            if (!error && *(u64 *)page_virt(to) != i)
                error = -EIO;
        }
    }
    if (reference >= 0 && grant_end(reference))
        error = -EIO;
    if (from)
        page_put(from);
    if (to)
        page_put(to);
    return error;
}
