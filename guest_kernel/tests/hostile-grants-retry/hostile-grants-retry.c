/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An entry that is mapped is made one that passes another's grant on. A copy by it can neither be done nor refused: the
 * hypervisor tries again and again, which is one vCPU's time and nobody else's, until the mapping is gone.
 *
 * needs: vcpus=2
 */
#include "grants2.h"

const char test_name[] = "hostile-grants-retry";

#define SHOWN (FIRST_REF + 1) /* what the victim grants us to read */
#define MINE (FIRST_REF + 20)

PAGE(page);
PAGE(at);
static unsigned self;
static volatile int began, answer = 77;

static void copies(void)
{
    began = 1;
    answer = copy2(MINE, self, 0, page, 0, 64, 1);
    for (;;)
        HYPERVISOR_vcpu_op(VCPUOP_down, 1, 0);
}

void test_main(void)
{
    unsigned victim = (unsigned)fact("domid"), handle;
    struct gnttab_copy direct = { .source = { .u.ref = SHOWN, .domid = (domid_t)victim }, .len = 64,
                                  .dest = { .u.gmfn = mfn_of(at), .domid = DOMID_SELF }, .flags = GNTCOPY_source_gref };

    self = own_domid();
    grants_init();
    check_is(grant_version(2), 0);
    check_is(grant_status_on(), GNTST_okay);
    check_is(grant_copy(&direct), GNTST_okay);
    memcpy(page + 128, at, 64); /* what will have been copied */
    grant2(MINE, GTF_permit_access, self, 0, mfn_of(page));
    check_is(grant_map(MINE, self, GNTMAP_host_map | GNTMAP_readonly, at, &handle), GNTST_okay);
    grant2(MINE, GTF_transitive, self, victim, SHOWN);
    second_starts(copies);
    while (!began)
        HYPERVISOR_sched_op(SCHEDOP_yield, 0);
    for (unsigned i = 0; i < 50; i++) {
        HYPERVISOR_sched_op(SCHEDOP_yield, 0);
        check_is(answer, 77);
    }
    delay_until(now() + 20000000);
    check_is(answer, 77);
    check_is(grant_unmap(at, handle), GNTST_okay);
    for (unsigned i = 0; answer == 77 && i < 100000; i++)
        HYPERVISOR_sched_op(SCHEDOP_yield, 0);
    check_is(answer, GNTST_okay);
    check(!memcmp(page, page + 128, 64));
    check_is(grant_status[MINE], 0);
    grant_status_off();
}
