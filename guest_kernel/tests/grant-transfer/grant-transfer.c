/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * GNTTABOP_transfer gives a frame away for good, to who asked for one (GTF_accept_transfer). What is not a whole, free,
 * ordinary page of the giver's own cannot be given.
 */
#include "grants.h"

const char test_name[] = "grant-transfer";

PAGE(page);

static int transfer(unsigned long mfn, unsigned domid, unsigned ref)
{
    struct gnttab_transfer op = { .mfn = mfn, .domid = (domid_t)domid, .ref = ref, .status = 99 };

    check_is(grant_op(GNTTABOP_transfer, &op), 0);
    return op.status;
}

void test_main(void)
{
    unsigned self = own_domid();

    grants_init();
    check_is(transfer(0xfffffff, self, FIRST_REF), GNTST_bad_page);
    check_is(transfer(mfn_of(page), self, FIRST_REF), GNTST_bad_page); /* it is mapped */
    check_is(transfer(mfn_of((void *)start_info->pt_base), self, FIRST_REF), GNTST_bad_page);
    check(page[0] == 0); /* it still is */
}
