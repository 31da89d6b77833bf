/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Grant tables, made short.
 */
#include "grants.h"

PAGE(window);

struct grant_entry_v1 *grants = (struct grant_entry_v1 *)window;

int grant_op(unsigned cmd, void *op)
{
    return (int)HYPERVISOR_grant_table_op(cmd, op, 1);
}

void grants_init(void)
{
    unsigned long frame = 0;
    struct gnttab_setup_table op = { .dom = DOMID_SELF, .nr_frames = 1 };

    set_handle(op.frame_list, &frame);
    check_is(grant_op(GNTTABOP_setup_table, &op), 0);
    check_is(op.status, GNTST_okay);
    check_is(remap(window, PTE(frame, PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)), 0);
}

void grant(unsigned ref, unsigned domid, const void *page, unsigned flags)
{
    grants[ref].domid = (domid_t)domid;
    grants[ref].frame = (unsigned)mfn_of(page);
    barrier();
    *(volatile unsigned short *)&grants[ref].flags = (unsigned short)flags;
}

int grant_map(unsigned ref, unsigned domid, unsigned flags, const void *at, unsigned *handle)
{
    struct gnttab_map_grant_ref op = {
        .host_addr = (unsigned long)at, .flags = flags, .ref = ref, .dom = (domid_t)domid };

    check_is(grant_op(GNTTABOP_map_grant_ref, &op), 0);
    *handle = op.handle;
    return op.status;
}

int grant_unmap(const void *at, unsigned handle)
{
    struct gnttab_unmap_grant_ref op = { .host_addr = (unsigned long)at, .handle = handle };

    check_is(grant_op(GNTTABOP_unmap_grant_ref, &op), 0);
    return op.status;
}

int grant_copy(struct gnttab_copy *op)
{
    op->status = 99;
    check_is(grant_op(GNTTABOP_copy, op), 0);
    return op->status;
}
