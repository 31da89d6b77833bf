/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A granted page can be mapped by whom the entry names; the entry shows that it is in use; unmapping ends that. (Here a
 * domain grants to itself, which is allowed.)
 */
#include "grants.h"

const char test_name[] = "grant-map";

PAGE(page);
PAGE(at);
PAGE(at2);

void test_main(void)
{
    unsigned self = own_domid(), handle, handle2;
    volatile unsigned char *mapped = at;

    grants_init();
    grant(FIRST_REF, self, page, GTF_permit_access);
    page[5] = 55;

    check_is(grant_map(FIRST_REF, self, GNTMAP_host_map, at, &handle), GNTST_okay);
    check_is(mapped[5], 55);
    mapped[6] = 66;
    check_is(((volatile unsigned char *)page)[6], 66);
    check((grants[FIRST_REF].flags & (GTF_reading | GTF_writing)) == (GTF_reading | GTF_writing));

    /* A second time, read-only. */
    check_is(grant_map(FIRST_REF, self, GNTMAP_host_map | GNTMAP_readonly, at2, &handle2), GNTST_okay);
    check(handle2 != handle);
    check_is(((volatile unsigned char *)at2)[6], 66);
    check_is(probe_write(at2, 1), 14);

    check_is(grant_unmap(at, handle), GNTST_okay);
    check_is(probe_read(at, 0), 14); /* nothing there now */
    check_is(grants[FIRST_REF].flags & (GTF_reading | GTF_writing), GTF_reading); /* the reader is left */
    check_is(grant_unmap(at, handle), GNTST_bad_handle);
    check_is(grant_unmap(at2, handle2), GNTST_okay);
    check_is(grants[FIRST_REF].flags, GTF_permit_access);

    /* Read-only by the granter's word. */
    grant(FIRST_REF + 1, self, page, GTF_permit_access | GTF_readonly);
    check_is(grant_map(FIRST_REF + 1, self, GNTMAP_host_map, at, &handle), GNTST_general_error);
    check_is(grant_map(FIRST_REF + 1, self, GNTMAP_host_map | GNTMAP_readonly, at, &handle), GNTST_okay);
    check_is(grant_unmap(at, handle), GNTST_okay);
    grants[FIRST_REF].flags = grants[FIRST_REF + 1].flags = 0;
}
