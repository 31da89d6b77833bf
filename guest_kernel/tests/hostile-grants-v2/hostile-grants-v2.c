/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A guest that takes its grant table for one of version 2, which is not to be had (gnttab=max-ver:1): it asks for it
 * while grants are in use, asks for status frames there are none of, and makes entries only version 2 knows.
 */
#include "grants.h"

const char test_name[] = "hostile-grants-v2";

PAGE(page);
PAGE(at);

#define MINE FIRST_REF

static int set_version(unsigned version)
{
    struct gnttab_set_version op = { .version = version };
    int result = grant_op(GNTTABOP_set_version, &op);

    check_is(op.version, 1); /* whatever the answer, one is told what one has */
    return result;
}

static int status_frames(unsigned domid, unsigned count)
{
    static unsigned long list[4];
    struct gnttab_get_status_frames op = { .dom = (domid_t)domid, .nr_frames = count, .status = 99 };

    set_handle(op.frame_list, list);
    check_is(grant_op(GNTTABOP_get_status_frames, &op), 0);
    check(!list[0]);
    return op.status;
}

static int map(unsigned flags, unsigned *handle)
{
    return grant_map(MINE, own_domid(), GNTMAP_host_map | flags, at, handle);
}

static int copy_from_it(void)
{
    struct gnttab_copy op = { .source = { .u.ref = MINE, .domid = (domid_t)own_domid() },
                              .dest = { .u.gmfn = mfn_of(page), .domid = DOMID_SELF },
                              .len = 64, .flags = GNTCOPY_source_gref };

    return grant_copy(&op);
}

void test_main(void)
{
    static const unsigned versions[] = { 0, 3, 0x80000002, ~0U };
    static const unsigned long nowhere[] = { 8, 0x0000800000000000UL, 0xffff830000000000UL, ~7UL };
    static const unsigned counts[] = { 1, 16, 0x20000000, ~0U };
    struct gnttab_get_status_frames frames = { .dom = DOMID_SELF };
    struct gnttab_get_version version = { .dom = DOMID_SELF };
    unsigned victim = (unsigned)fact("domid"), handle;

    grants_init();
    grant(MINE, own_domid(), page, GTF_permit_access);

    /* The version, while a grant is in use and when none is. */
    for (unsigned used = 0; used < 2; used++) {
        check_is(set_version(2), -XEN_ENOSYS);
        check_is(set_version(1), 0);
        for (unsigned i = 0; i < ARRAY_SIZE(versions); i++)
            check_is(set_version(versions[i]), -XEN_EINVAL);
        if (!used)
            check_is(map(0, &handle), GNTST_okay);
    }
    check_is(grant_unmap(at, handle), GNTST_okay); /* none of that ended it */
    for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
        check_is(grant_op(GNTTABOP_set_version, (void *)nowhere[i]), -XEN_EFAULT);
        check_is(grant_op(GNTTABOP_get_version, (void *)nowhere[i]), -XEN_EFAULT);
        check_is(grant_op(GNTTABOP_get_status_frames, (void *)nowhere[i]), -XEN_EFAULT);
    }
    *(unsigned *)page = 1;
    check_is(readonly(page), 0);
    check_is(grant_op(GNTTABOP_set_version, page), -XEN_EFAULT); /* it can be read, and not answered */
    check_is(writable(page), 0);

    /* Others' versions are none of our business. */
    check_is(grant_op(GNTTABOP_get_version, &version), 0);
    check_is(version.version, 1);
    version.dom = 0x6fff;
    check_is(grant_op(GNTTABOP_get_version, &version), -XEN_ESRCH);
    if (victim) {
        version.dom = (domid_t)victim;
        check_is(grant_op(GNTTABOP_get_version, &version), -XEN_EPERM);
        check_is(status_frames(victim, 0), GNTST_permission_denied);
        check_is(status_frames(victim, 1), GNTST_permission_denied);
    }

    /* Status frames: there are none, however many are wanted, and wherever their numbers shall go. */
    check_is(status_frames(DOMID_SELF, 0), GNTST_okay);
    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++)
        check_is(status_frames(DOMID_SELF, counts[i]), GNTST_general_error);
    check_is(status_frames(0x6fff, 1), GNTST_bad_domain);
    set_handle(frames.frame_list, (void *)0xffff830000000000UL);
    frames.nr_frames = 1;
    check_is(grant_op(GNTTABOP_get_status_frames, &frames), -XEN_EFAULT);
    check_is(HYPERVISOR_grant_table_op(GNTTABOP_get_status_frames, &frames, 0), -XEN_EINVAL);
    check_is(HYPERVISOR_grant_table_op(GNTTABOP_get_status_frames, &frames, 2), -XEN_EINVAL);

    /* Entries of version 2: one for part of a page, for all of it then; one for somebody else's grant, which is none. */
    grant(MINE, own_domid(), page, GTF_permit_access | GTF_sub_page);
    check_is(map(0, &handle), GNTST_general_error);
    check_is(map(GNTMAP_readonly, &handle), GNTST_general_error);
    check_is(copy_from_it(), GNTST_okay);
    grant(MINE, victim, (void *)VIRT_BASE, GTF_transitive);
    check_is(map(0, &handle), GNTST_general_error);
    check_is(copy_from_it(), GNTST_general_error);
    grant(MINE, own_domid(), page, GTF_transitive | GTF_sub_page);
    check_is(map(GNTMAP_readonly, &handle), GNTST_general_error);
    check_is(copy_from_it(), GNTST_general_error);
    check_is(grants[MINE].flags, GTF_transitive | GTF_sub_page); /* none of these left it in use */
}
