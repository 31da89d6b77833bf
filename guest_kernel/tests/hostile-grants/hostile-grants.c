/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Grants that are not for us, for less than we want, taken back, or unmapped twice, at the wrong place or by the wrong
 * handle; and those we make of what is not ours to give.
 */
#include "grants.h"

const char test_name[] = "hostile-grants";

PAGE(page);
PAGE(at);
PAGE(at2);

#define LENT FIRST_REF
#define SHOWN (FIRST_REF + 1)
#define NOT_OURS (FIRST_REF + 2)
#define MINE (FIRST_REF + 20)
#define OTHER (FIRST_REF + 21)

static int map_at(unsigned ref, unsigned domid, unsigned flags, unsigned long where)
{
    unsigned handle;

    return grant_map(ref, domid, flags | GNTMAP_host_map, (void *)where, &handle);
}

static int copy(unsigned from, unsigned from_domid, unsigned to, unsigned to_domid, unsigned flags, unsigned length)
{
    struct gnttab_copy op = { .source = { .domid = (domid_t)from_domid }, .dest = { .domid = (domid_t)to_domid },
                              .len = (uint16_t)length, .flags = (uint16_t)flags };

    if (flags & GNTCOPY_source_gref)
        op.source.u.ref = from;
    else
        op.source.u.gmfn = from;
    if (flags & GNTCOPY_dest_gref)
        op.dest.u.ref = to;
    else
        op.dest.u.gmfn = to;
    return grant_copy(&op);
}

static void of_the_victim(unsigned victim)
{
    unsigned handle, other;
    struct gnttab_setup_table setup = { .dom = (domid_t)victim, .nr_frames = 1 };
    struct gnttab_query_size size = { .dom = (domid_t)victim };
    struct gnttab_transfer transfer = { .mfn = mfn_of(page), .domid = (domid_t)victim, .ref = LENT };
    unsigned long frame;

    /* What it lets us have, and not more. */
    check_is(map_at(NOT_OURS, victim, 0, (unsigned long)at), GNTST_general_error);
    check_is(map_at(NOT_OURS, victim, GNTMAP_readonly, (unsigned long)at), GNTST_general_error);
    check_is(map_at(SHOWN, victim, 0, (unsigned long)at), GNTST_general_error);
    check_is(map_at(FIRST_REF + 3, victim, 0, (unsigned long)at), GNTST_general_error);
    check_is(grant_map(SHOWN, victim, GNTMAP_host_map | GNTMAP_readonly, at, &handle), GNTST_okay);
    check_is(probe_write(at, 1), 14);
    check_is(writable(at), 0); /* in its place, a page of ours: but the mapping counts as it did */
    check_is(grant_unmap(at, handle), GNTST_general_error);
    check_is(grant_map(LENT, victim, GNTMAP_host_map, at2, &handle), GNTST_okay);
    check_is(probe_write(at2, 1), PROBE_NONE);

    /* The frame itself stays the victim's: nothing else may be done with it. */
    unsigned long entry = *pte_of(at2, 1), mfn = PTE_MFN(entry);

    check_is(mfn, fact("lent"));
    check_is(mmu_update(pte_maddr(at, 1), PTE(mfn, PTE_P | PTE_RW | PTE_US | PTE_NX)), -XEN_EBUSY);
    check_is(mmu_update(pte_maddr(at, 1), entry), -XEN_EBUSY);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn, 0), -XEN_EINVAL);
    check_is(HYPERVISOR_set_gdt(&mfn, 512), -XEN_EINVAL);
    grant(OTHER, own_domid(), page, 0);
    grants[OTHER].frame = (unsigned)mfn;
    grants[OTHER].flags = GTF_permit_access;
    check_is(map_at(OTHER, own_domid(), 0, (unsigned long)at), GNTST_bad_page); /* nor granted on */

    /* Copies ask the same questions. */
    check_is(copy(NOT_OURS, victim, (unsigned)mfn_of(page), DOMID_SELF, GNTCOPY_source_gref, 8), GNTST_general_error);
    check_is(copy((unsigned)mfn_of(page), DOMID_SELF, SHOWN, victim, GNTCOPY_dest_gref, 8), GNTST_general_error);
    check_is(copy((unsigned)fact("secret"), victim, (unsigned)mfn_of(page), DOMID_SELF, 0, 8), GNTST_permission_denied);
    check_is(copy((unsigned)mfn_of(page), DOMID_SELF, (unsigned)fact("secret"), victim, 0, 8), GNTST_permission_denied);
    check_is(copy((unsigned)fact("secret"), DOMID_SELF, (unsigned)mfn_of(page), DOMID_SELF, 0, 8), GNTST_bad_page);
    check_is(copy(SHOWN, victim, (unsigned)mfn_of(page), DOMID_SELF, GNTCOPY_source_gref, 8), GNTST_okay);

    /* Its table is its own, and it takes no pages from us. */
    set_handle(setup.frame_list, &frame);
    check_is(grant_op(GNTTABOP_setup_table, &setup), 0);
    check_is(setup.status, GNTST_permission_denied);
    check_is(grant_op(GNTTABOP_query_size, &size), 0);
    check_is(size.status, GNTST_permission_denied);
    check_is(remap(page, 0), 0);
    check_is(grant_op(GNTTABOP_transfer, &transfer), 0);
    check_is(transfer.status, GNTST_general_error);
    check_is(writable(page), -XEN_EBUSY); /* it was taken from us all the same */

    /* We go with one of its pages mapped and another lost track of. */
    check_is(grant_map(SHOWN, victim, GNTMAP_host_map | GNTMAP_readonly, at, &other), GNTST_okay);
    check(other != handle);
}

void test_main(void)
{
    static const unsigned long nowhere[] = {
        8, 0x0000800000000000UL, 0xffff830000000000UL, 0x7ffffffffffff000UL, ~7UL };
    unsigned self = own_domid(), handle, second;

    grants_init();
    grant(MINE, self, page, GTF_permit_access);

    /* Where to: no page table of ours, not on a boundary, an entry of another kind of table or of none. */
    for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
        check_is(map_at(MINE, self, 0, nowhere[i]), GNTST_general_error);
        check_is(map_at(MINE, self, GNTMAP_contains_pte, nowhere[i]), GNTST_general_error);
    }
    check_is(map_at(MINE, self, GNTMAP_contains_pte, pte_maddr(at, 2)), GNTST_general_error);
    check_is(map_at(MINE, self, GNTMAP_contains_pte, pte_maddr(at, 4)), GNTST_general_error);
    check_is(map_at(MINE, self, GNTMAP_contains_pte, maddr_of(page)), GNTST_general_error);
    check_is(map_at(MINE, self, GNTMAP_contains_pte, pte_maddr(at, 1) + 4), GNTST_general_error);
    if (fact("l1"))
        check_is(map_at(MINE, self, GNTMAP_contains_pte, fact("l1") << 12), GNTST_general_error);
    check_is(grants[MINE].flags, GTF_permit_access); /* none of these left it in use */
    check_is(map_at(MINE, self, GNTMAP_contains_pte, pte_maddr(at2, 1)), GNTST_okay);

    /* Unmapped twice, elsewhere, as somebody else's. */
    check_is(grant_map(MINE, self, GNTMAP_host_map, at, &handle), GNTST_okay);
    check_is(grant_unmap(grants, handle), GNTST_general_error);
    check_is(grant_unmap((void *)8, handle), GNTST_general_error);
    check_is(grant_unmap(at, handle + 1000), GNTST_bad_handle);
    check_is(grant_unmap(at, ~0U), GNTST_bad_handle);
    check_is(grant_unmap(at, handle), GNTST_okay);
    check_is(grant_unmap(at, handle), GNTST_bad_handle);
    check_is(grant_unmap(0, handle), GNTST_bad_handle);

    /* Taken back while it is mapped writably: that stays, and as long as it does, more of them are had as well. */
    check_is(grant_map(MINE, self, GNTMAP_host_map, at, &handle), GNTST_okay);
    grants[MINE].flags = 0;
    check_is(grant_map(MINE, self, GNTMAP_host_map, at2, &second), GNTST_okay);
    check_is(probe_write(at, 7), PROBE_NONE);
    check_is(grant_unmap(at2, second), GNTST_okay);
    check_is(readonly(page), 0);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(page), 0), -XEN_EINVAL); /* it is mapped writably, by a grant */
    check_is(writable(page), 0);
    check_is(grant_unmap(at, handle), GNTST_okay);

    /* What is no page of ours to give, or not in that way. */
    grants[OTHER].frame = 0xfffffff, grants[OTHER].domid = (domid_t)self;
    barrier();
    grants[OTHER].flags = GTF_permit_access;
    check_is(grant_map(OTHER, self, GNTMAP_host_map, at, &handle), GNTST_bad_page);
    grant(OTHER, self, pte_of(at, 1), GTF_permit_access);
    check_is(grant_map(OTHER, self, GNTMAP_host_map, at, &handle), GNTST_general_error);
    check_is(copy((unsigned)mfn_of(page), DOMID_SELF, OTHER, self, GNTCOPY_dest_gref, 8), GNTST_general_error);
    check_is(copy((unsigned)mfn_of(page), DOMID_SELF, (unsigned)mfn_of(pte_of(at, 1)), DOMID_SELF, 0, 8),
             GNTST_general_error);
    grants[OTHER].flags = 0;
    check_is(grant_map(~0U, self, GNTMAP_host_map, at, &handle), GNTST_bad_gntref);
    check_is(copy(~0U, self, (unsigned)mfn_of(page), DOMID_SELF, GNTCOPY_source_gref, 8), GNTST_bad_gntref);

    /* Copies within a page, and not a byte over its end. */
    struct gnttab_copy over = { .source = { .domid = DOMID_SELF, .u.gmfn = mfn_of(page), .offset = 4090 },
                                .dest = { .domid = DOMID_SELF, .u.gmfn = mfn_of(page) }, .len = 7 };

    check_is(grant_copy(&over), GNTST_bad_copy_arg);
    over.source.offset = 0, over.dest.offset = 4095, over.len = 2;
    check_is(grant_copy(&over), GNTST_bad_copy_arg);
    over.dest.offset = 0, over.len = 0xffff;
    check_is(grant_copy(&over), GNTST_bad_copy_arg);
    over.len = 8, over.source.domid = (domid_t)self; /* a frame by its number is for DOMID_SELF only */
    check_is(grant_copy(&over), GNTST_permission_denied);

    if (fact("domid"))
        of_the_victim((unsigned)fact("domid"));
}
