/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * For the tests of version 2 grant tables: the table of grants.h taken for one of those, its first status frame, and
 * the operations that know the difference. (All of it here, for the reason that fifo.h gives.)
 */
#pragma once

#include "grants.h"

#define grants2 ((union grant_entry_v2 *)grants)

static unsigned short grant_status[PAGE_SIZE / 2] PAGE_ALIGNED; /* the first status frame, as long as it is mapped here */

/* GNTTABOP_set_version; whatever the answer, one is told what one has. */
static int grant_version(unsigned version)
{
    struct gnttab_set_version op = { .version = version };
    struct gnttab_get_version get = { .dom = DOMID_SELF };
    int result = grant_op(GNTTABOP_set_version, &op);

    check_is(grant_op(GNTTABOP_get_version, &get), 0);
    check_is(op.version, get.version);
    return result;
}

/* Map the status frame; what get_status_frames says. */
static int grant_status_on(void)
{
    unsigned long frame = 0;
    struct gnttab_get_status_frames op = { .dom = DOMID_SELF, .nr_frames = 1 };

    set_handle(op.frame_list, &frame);
    check_is(grant_op(GNTTABOP_get_status_frames, &op), 0);
    if (!op.status)
        check_is(remap(grant_status, PTE(frame, PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)), 0);
    return op.status;
}

static void grant_status_off(void)
{
    check_is(remap(grant_status, 0), 0);
}

/* An entry by its parts. */
static void grant2(unsigned ref, unsigned flags, unsigned domid, unsigned low, unsigned long high)
{
    *(volatile unsigned short *)&grants2[ref].hdr.flags = 0;
    barrier();
    grants2[ref].full_page.pad0 = low;
    grants2[ref].full_page.frame = high;
    grants2[ref].hdr.domid = (domid_t)domid;
    barrier();
    *(volatile unsigned short *)&grants2[ref].hdr.flags = (unsigned short)flags;
}

/* Copy `length` bytes out of a grant, from `offset` on, to `at` in a page of ours; or the other way. */
static int copy2(unsigned ref, unsigned domid, unsigned offset, const void *page, unsigned at, unsigned length, int out)
{
    struct gnttab_copy op = { .len = (unsigned short)length, .flags = out ? GNTCOPY_source_gref : GNTCOPY_dest_gref };

    (out ? &op.source : &op.dest)->u.ref = ref;
    (out ? &op.source : &op.dest)->domid = (domid_t)domid;
    (out ? &op.source : &op.dest)->offset = (unsigned short)offset;
    (out ? &op.dest : &op.source)->u.gmfn = mfn_of(page);
    (out ? &op.dest : &op.source)->domid = DOMID_SELF;
    (out ? &op.dest : &op.source)->offset = (unsigned short)at;
    return grant_copy(&op);
}
