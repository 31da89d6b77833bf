/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Grant operations answer twice: the hypercall says whether the list could be read, each item has a status of its own.
 */
#include "grants.h"

const char test_name[] = "grant-errors";

PAGE(page);
PAGE(at);

void test_main(void)
{
    unsigned self = own_domid(), handle;
    struct gnttab_query_size size = { .dom = DOMID_SELF };
    struct gnttab_get_version version = { .dom = DOMID_SELF };
    struct gnttab_setup_table setup = { .dom = DOMID_SELF, .nr_frames = 100000 };
    unsigned long frame;

    grants_init();
    check_is(grant_op(GNTTABOP_query_size, &size), 0);
    check_is(size.status, GNTST_okay);
    check(size.nr_frames >= 1 && size.max_nr_frames >= size.nr_frames);
    check_is(grant_op(GNTTABOP_get_version, &version), 0);
    check_is(version.version, 1);

    check_is(grant_op(77, &size), -XEN_ENOSYS);
    check_is(HYPERVISOR_grant_table_op(GNTTABOP_map_grant_ref, (void *)8, 1), -XEN_EFAULT);
    check_is(HYPERVISOR_grant_table_op(GNTTABOP_map_grant_ref, &size, 0), 0);
    check_is(HYPERVISOR_grant_table_op(GNTTABOP_map_grant_ref, &size, 0x80000000), -XEN_EINVAL);

    set_handle(setup.frame_list, &frame);
    check_is(grant_op(GNTTABOP_setup_table, &setup), 0);
    check_is(setup.status, GNTST_general_error);
    setup.nr_frames = 1, setup.dom = 0x6fff;
    check_is(grant_op(GNTTABOP_setup_table, &setup), 0);
    check_is(setup.status, GNTST_bad_domain);

    /* No such domain, no such reference, not granted, not to us, no kind of mapping asked for. */
    check_is(grant_map(FIRST_REF, 0x6fff, GNTMAP_host_map, at, &handle), GNTST_bad_domain);
    check_is(grant_map(100000, self, GNTMAP_host_map, at, &handle), GNTST_bad_gntref);
    check_is(grant_map(FIRST_REF, self, GNTMAP_host_map, at, &handle), GNTST_general_error);
    grant(FIRST_REF, 0x6fff, page, GTF_permit_access);
    check_is(grant_map(FIRST_REF, self, GNTMAP_host_map, at, &handle), GNTST_general_error);
    grant(FIRST_REF, self, page, GTF_permit_access);
    check_is(grant_map(FIRST_REF, self, 0, at, &handle), GNTST_bad_gntref);

    /* An entry that names a frame which is not ours. */
    grants[FIRST_REF].flags = 0;
    grants[FIRST_REF].frame = 0xfffffff;
    barrier();
    grants[FIRST_REF].flags = GTF_permit_access;
    check(grant_map(FIRST_REF, self, GNTMAP_host_map, at, &handle) != GNTST_okay);
    check_is(grants[FIRST_REF].flags, GTF_permit_access); /* and it is not left in use */

    check_is(grant_unmap(at, 12345), GNTST_bad_handle);

    /* A page table cannot be granted for writing. */
    grant(FIRST_REF, self, pte_of(at, 1), GTF_permit_access);
    check(grant_map(FIRST_REF, self, GNTMAP_host_map, at, &handle) != GNTST_okay);
    check_is(grant_map(FIRST_REF, self, GNTMAP_host_map | GNTMAP_readonly, at, &handle), GNTST_okay);
    check_is(grant_unmap(at, handle), GNTST_okay);
    grants[FIRST_REF].flags = 0;
}
