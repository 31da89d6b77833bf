/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * MMUEXT_CLEAR_PAGE and MMUEXT_COPY_PAGE write frames of ours for us, mapped or not, as long as they are ordinary memory;
 * the TLB operations take any address.
 */
#include "test.h"

const char test_name[] = "mmuext-pages";

PAGE(a);
PAGE(b);

void test_main(void)
{
    struct mmuext_op two[2] = { { .cmd = MMUEXT_TLB_FLUSH_LOCAL }, { .cmd = 77 } };
    unsigned done = 0;

    a[100] = 1, b[100] = 2;
    check_is(mmuext(MMUEXT_COPY_PAGE, mfn_of(a), mfn_of(b)), 0); /* to the first from the second */
    check_is(((volatile unsigned char *)a)[100], 2);
    check_is(mmuext(MMUEXT_CLEAR_PAGE, mfn_of(a), 0), 0);
    check_is(((volatile unsigned char *)a)[100], 0);
    check_is(((volatile unsigned char *)b)[100], 2);
    check_is(mmuext(MMUEXT_CLEAR_PAGE, mfn_of(pte_of(a, 1)), 0), -XEN_EINVAL); /* a page table */
    check_is(mmuext(MMUEXT_CLEAR_PAGE, 0xfffffff, 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_COPY_PAGE, mfn_of(a), 0xfffffff), -XEN_EINVAL);

    check_is(mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0), 0);
    check_is(mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0), 0);
    check_is(mmuext(MMUEXT_INVLPG_LOCAL, (unsigned long)a, 0), 0);
    check_is(mmuext(MMUEXT_INVLPG_ALL, 0xffff830000000000UL, 0), 0);
    /* Caches matter only to who has devices. */
    check_is(mmuext(MMUEXT_FLUSH_CACHE_GLOBAL, 0, 0), start_info->flags & SIF_INITDOMAIN ? 0 : -XEN_EINVAL);

    check_is(HYPERVISOR_mmuext_op(two, 2, &done, DOMID_SELF), -XEN_ENOSYS);
    check_is(done, 1);
    check_is(HYPERVISOR_mmuext_op(two, 1, 0, 0x6fff), -XEN_ESRCH);
    check_is(HYPERVISOR_mmuext_op((void *)8, 1, 0, DOMID_SELF), -XEN_EFAULT);
}
