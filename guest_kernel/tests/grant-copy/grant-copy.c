/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * GNTTABOP_copy moves bytes between pages, each named by a grant or, if one's own, by its frame; never across the end
 * of a page.
 */
#include "grants.h"

const char test_name[] = "grant-copy";

PAGE(from);
PAGE(to);

void test_main(void)
{
    unsigned self = own_domid();
    struct gnttab_copy op = { .flags = GNTCOPY_source_gref, .len = 100 };

    grants_init();
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        from[i] = (unsigned char)(i * 3);
    grant(FIRST_REF, self, from, GTF_permit_access | GTF_readonly);

    op.source.domid = self, op.source.u.ref = FIRST_REF, op.source.offset = 50;
    op.dest.domid = DOMID_SELF, op.dest.u.gmfn = mfn_of(to), op.dest.offset = 1000;
    check_is(grant_copy(&op), GNTST_okay);
    check(!memcmp(to + 1000, from + 50, 100) && to[999] == 0 && to[1100] == 0);

    /* Whole pages. */
    op.source.offset = op.dest.offset = 0, op.len = PAGE_SIZE;
    check_is(grant_copy(&op), GNTST_okay);
    check(!memcmp(to, from, PAGE_SIZE));

    /* Over the end: no. */
    op.source.offset = 1;
    check_is(grant_copy(&op), GNTST_bad_copy_arg);
    op.source.offset = 0, op.dest.offset = 4000, op.len = 97;
    check_is(grant_copy(&op), GNTST_bad_copy_arg);
    op.dest.offset = 0, op.len = 10;

    /* Into a page granted read-only: no. */
    op.flags = GNTCOPY_source_gref | GNTCOPY_dest_gref;
    op.dest.domid = self, op.dest.u.ref = FIRST_REF;
    check_is(grant_copy(&op), GNTST_general_error);
    grant(FIRST_REF + 1, self, to, GTF_permit_access);
    op.dest.u.ref = FIRST_REF + 1;
    check_is(grant_copy(&op), GNTST_okay);
    op.source.u.ref = FIRST_REF + 2; /* nothing granted there */
    check_is(grant_copy(&op), GNTST_general_error);

    /* A foreign frame needs a grant. */
    op.flags = GNTCOPY_dest_gref;
    op.source.u.gmfn = 0xfffffff;
    op.source.domid = DOMID_SELF;
    check_is(grant_copy(&op), GNTST_bad_page);
    check_is(grants[FIRST_REF].flags, GTF_permit_access | GTF_readonly); /* nothing is left in use */
}
