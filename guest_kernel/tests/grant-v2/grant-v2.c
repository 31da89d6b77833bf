/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A grant table of version 2: what comes over when it becomes one, where its uses are told, grants of a part of a page,
 * its growth, and the way back.
 */
#include "grants2.h"

const char test_name[] = "grant-v2";

PAGE(from);
PAGE(to);
PAGE(at);

#define WHOLE FIRST_REF
#define PART (FIRST_REF + 1)
#define BOTH (GTF_reading | GTF_writing)

static unsigned self;
static unsigned long frames[64];

static int setup(unsigned count)
{
    struct gnttab_setup_table op = { .dom = DOMID_SELF, .nr_frames = count };

    set_handle(op.frame_list, frames);
    check_is(grant_op(GNTTABOP_setup_table, &op), 0);
    return op.status;
}

static int statuses(unsigned count)
{
    struct gnttab_get_status_frames op = { .dom = DOMID_SELF, .nr_frames = count };

    set_handle(op.frame_list, frames);
    check_is(grant_op(GNTTABOP_get_status_frames, &op), 0);
    return op.status;
}

static void the_change(void)
{
    unsigned handle;

    grant(5, self, from, GTF_permit_access | GTF_readonly); /* one of the first eight: the toolstack's, as a rule */
    grants[7].domid = 0x123, grants[7].frame = 0x456;
    grants[7].flags = GTF_accept_transfer;
    grant(WHOLE, self, from, GTF_permit_access);
    check_is(statuses(0), GNTST_okay);
    check_is(statuses(1), GNTST_general_error);
    check_is(grant_version(1), 0);
    check_is(grant_version(0), -XEN_EINVAL);
    check_is(grant_version(3), -XEN_EINVAL);
    check_is(grant_map(WHOLE, self, GNTMAP_host_map, at, &handle), GNTST_okay);
    check_is(grant_version(2), -XEN_EBUSY);
    check_is(grant_unmap(at, handle), GNTST_okay);
    check_is(grant_map(5, self, GNTMAP_host_map | GNTMAP_readonly, at, &handle), GNTST_okay);
    check_is(grant_version(2), 0); /* those may be in use */
    check_is(grant_status_on(), GNTST_okay);
    check_is(grants2[5].hdr.flags, GTF_permit_access | GTF_readonly);
    check_is(grants2[5].hdr.domid, self);
    check_is(grants2[5].full_page.frame, mfn_of(from));
    check_is(grant_status[5], GTF_reading);
    check_is(grants2[7].hdr.flags, GTF_accept_transfer);
    check_is(grants2[7].full_page.frame, 0x456);
    check_is(grants2[WHOLE].hdr.flags, 0); /* the others are gone */
    check_is(grants2[WHOLE].full_page.frame, 0);
    check_is(grant_unmap(at, handle), GNTST_okay);
    check_is(grant_status[5], 0);
    check_is(grant_version(2), 0);
}

static void whole_pages(void)
{
    unsigned reading, writing;

    grant2(WHOLE, GTF_permit_access, self, 0, mfn_of(from));
    check_is(grant_map(WHOLE, self, GNTMAP_host_map | GNTMAP_readonly, at, &reading), GNTST_okay);
    check_is(grant_status[WHOLE], GTF_reading);
    check_is(grant_map(WHOLE, self, GNTMAP_host_map, to, &writing), GNTST_okay);
    check_is(grant_status[WHOLE], BOTH);
    check_is(grants2[WHOLE].hdr.flags, GTF_permit_access); /* the flags are ours alone */
    *(volatile unsigned char *)to = 77;
    check_is(*(volatile unsigned char *)at, 77);
    check_is(grant_unmap(to, writing), GNTST_okay);
    check_is(grant_status[WHOLE], GTF_reading);
    check_is(grant_unmap(at, reading), GNTST_okay);
    check_is(grant_status[WHOLE], 0);
    check_is(remap(to, PTE(mfn_of(to), PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)), 0);

    grant2(WHOLE, GTF_permit_access | GTF_readonly, self, 0, mfn_of(from));
    check_is(grant_map(WHOLE, self, GNTMAP_host_map, at, &writing), GNTST_general_error);
    grant2(WHOLE, GTF_permit_access, self + 1, 0, mfn_of(from));
    check_is(grant_map(WHOLE, self, GNTMAP_host_map, at, &writing), GNTST_general_error);
    grant2(WHOLE, GTF_permit_access, self, 0, 1UL << 32 | mfn_of(from)); /* all of its 64 bits count */
    check_is(grant_map(WHOLE, self, GNTMAP_host_map, at, &writing), GNTST_bad_page);
    grant2(WHOLE, GTF_transitive, self, self, PART);
    check_is(grant_map(WHOLE, self, GNTMAP_host_map, at, &writing), GNTST_general_error);
    check_is(copy2(WHOLE, self, 0, to, 0, 16, 1), GNTST_general_error); /* to oneself it is not passed on */
    check_is(grant_map(256, self, GNTMAP_host_map, at, &writing), GNTST_bad_gntref); /* half as many entries */
    check_is(grant_status[WHOLE], 0);
}

static void parts_of_pages(void)
{
    unsigned handle;

    for (unsigned i = 0; i < PAGE_SIZE; i++)
        from[i] = (unsigned char)(i * 3), to[i] = 0;
    grant2(PART, GTF_permit_access | GTF_sub_page, self, 100 | 50 << 16, mfn_of(from));
    check_is(grant_map(PART, self, GNTMAP_host_map | GNTMAP_readonly, at, &handle), GNTST_general_error);
    check_is(copy2(PART, self, 100, to, 0, 50, 1), GNTST_okay);
    check(!memcmp(to, from + 100, 50) && !to[50]);
    check_is(copy2(PART, self, 149, to, 0, 1, 1), GNTST_okay);
    check_is(copy2(PART, self, 150, to, 0, 0, 1), GNTST_okay);
    check_is(copy2(PART, self, 99, to, 0, 10, 1), GNTST_general_error);
    check_is(copy2(PART, self, 149, to, 0, 2, 1), GNTST_general_error);
    check_is(copy2(PART, self, 151, to, 0, 0, 1), GNTST_general_error);
    check_is(copy2(PART, self, 4090, to, 0, 7, 1), GNTST_bad_copy_arg);
    check_is(copy2(PART, self, 120, to, 0, 8, 0), GNTST_okay);
    check(!memcmp(from + 120, to, 8) && from[128] == (unsigned char)(128 * 3));
    check_is(copy2(PART, self, 99, to, 0, 8, 0), GNTST_general_error);
    grant2(PART, GTF_permit_access | GTF_sub_page, self, 0x8000 | 100 | 50 << 16, mfn_of(from));
    check_is(copy2(PART, self, 100, to, 0, 50, 1), GNTST_okay); /* fifteen bits of it count */
    check_is(grant_status[PART], 0);
}

static void growth(void)
{
    struct gnttab_query_size size = { .dom = DOMID_SELF };

    check_is(statuses(2), GNTST_general_error);
    check_is(setup(9), GNTST_okay); /* 2304 entries */
    check_is(statuses(2), GNTST_okay);
    check(frames[0] != frames[1]);
    check_is(statuses(3), GNTST_general_error);
    check_is(grant_op(GNTTABOP_query_size, &size), 0);
    check_is(size.nr_frames, 9);

    /* The last entry: its status is in the second frame. */
    unsigned long second = frames[1], last = 9 * 256 - 1;
    union grant_entry_v2 *entry = (union grant_entry_v2 *)at + last % 256;
    unsigned handle;

    check_is(setup(9), GNTST_okay);
    check_is(remap(at, PTE(frames[8], PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)), 0);
    entry->full_page.frame = mfn_of(from), entry->hdr.domid = (domid_t)self;
    entry->hdr.flags = GTF_permit_access;
    check_is(remap(at, PTE(second, PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)), 0);
    check_is(grant_map(last, self, GNTMAP_host_map, to, &handle), GNTST_okay);
    check_is(((unsigned short *)at)[last % 2048], BOTH);
    check_is(grant_unmap(to, handle), GNTST_okay);
    check_is(((unsigned short *)at)[last % 2048], 0);
    check_is(grant_map(last + 1, self, GNTMAP_host_map, to, &handle), GNTST_bad_gntref);
}

static void swapping(void)
{
    struct gnttab_swap_grant_ref op = { .ref_a = WHOLE, .ref_b = PART };

    grant2(WHOLE, GTF_permit_access, self, 0, mfn_of(from));
    grant2(PART, 0, 0, 0, 7);
    grant_status[PART] = 0x4321;
    check_is(grant_op(GNTTABOP_swap_grant_ref, &op), 0);
    check_is(op.status, GNTST_okay);
    check_is(grants2[PART].full_page.frame, mfn_of(from));
    check_is(grants2[WHOLE].full_page.frame, 7);
    check_is(grant_status[WHOLE], 0x4321);
    check_is(grant_status[PART], 0);
    grant_status[WHOLE] = 0;
}

static void the_way_back(void)
{
    check_is(grant_version(1), -XEN_EBUSY); /* two status frames are mapped */
    check_is(remap(at, 0), 0);
    check_is(grant_version(1), -XEN_EBUSY);
    grant_status_off();
    grant2(3, GTF_transitive, self, 0, 0);
    check_is(grant_version(1), -XEN_ERANGE);
    grant2(3, GTF_permit_access, self, 0, 1UL << 32);
    check_is(grant_version(1), -XEN_ERANGE);
    grant2(3, GTF_permit_access, self, 0, 0xffffffff);
    grant2(4, GTF_permit_access | GTF_sub_page, self, 100 | 50 << 16, mfn_of(from));
    check_is(grant_version(1), 0);
    check_is(grants[3].frame, 0xffffffff);
    check_is(grants[4].flags, GTF_permit_access | GTF_sub_page);
    check_is(grants[5].flags, GTF_permit_access | GTF_readonly);
    check_is(grants[5].frame, mfn_of(from));
    check_is(grants[7].flags, 0); /* what accepts a transfer does not come over */
    check_is(grants[7].frame, 0);
    check_is(statuses(1), GNTST_general_error);
    check_is(copy2(4, self, 0, to, 0, PAGE_SIZE, 1), GNTST_okay); /* version 1 knows no parts: it is all of it */
    check_is(copy2(511, self, 0, to, 0, 1, 1), GNTST_general_error); /* there is such an entry again */
}

void test_main(void)
{
    self = own_domid();
    grants_init();
    the_change();
    whole_pages();
    parts_of_pages();
    growth();
    check_is(remap(to, PTE(mfn_of(to), PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)), 0);
    swapping();
    the_way_back();
}
