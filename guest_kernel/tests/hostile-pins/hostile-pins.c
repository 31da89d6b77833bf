/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Type confusion in time: one vCPU pins and unpins a big tree, which Xen does in pieces, while another tries, in the
 * gaps, to have one of its tables writable. Whichever comes first, an entry that was never checked is never live.
 *
 * needs: vcpus=2
 * varies: pins, 
 */
#include "test.h"

const char test_name[] = "hostile-pins";

#define TABLES 24
static unsigned long l4[512] PAGE_ALIGNED, l3[512] PAGE_ALIGNED, l2[512] PAGE_ALIGNED, l1[TABLES][512] PAGE_ALIGNED;
PAGE(data);
static volatile unsigned rounds, pinned, writes, refusals, stopped;

#define TABLE (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)
#define ROUNDS 60
#define FORGED PTE(0x000fffffffUL, PTE_P | PTE_RW | PTE_US | PTE_NX) /* no guest may have it */

static void pinning(void)
{
    while (rounds < ROUNDS) {
        if (!mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(l4), 0)) {
            pinned++;
            /* What a live table says was checked, all of it. */
            for (unsigned table = 0; table < TABLES; table++)
                check(l1[table][511] != FORGED);
            check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(l4), 0), 0);
        }
        HYPERVISOR_sched_op(SCHEDOP_yield, 0); /* or all rounds are over while the other is at the same one */
        rounds++;
    }
    stopped = 1;
    for (;;)
        HYPERVISOR_sched_op(SCHEDOP_block, 0);
}

void test_main(void)
{
    l4[511] = ((unsigned long *)start_info->pt_base)[511];
    l4[0] = PTE(mfn_of(l3), TABLE);
    l3[0] = PTE(mfn_of(l2), TABLE);
    for (unsigned table = 0; table < TABLES; table++) {
        l2[table] = PTE(mfn_of(l1[table]), TABLE);
        for (unsigned i = 0; i < 511; i++)
            l1[table][i] = PTE(mfn_of(data), PTE_P | PTE_US | PTE_A | PTE_NX);
        check_is(readonly(l1[table]), 0);
    }
    check_is(readonly(l4) | readonly(l3) | readonly(l2), 0);

    second_starts(pinning);
    for (unsigned n = 0; !stopped; n++) {
        unsigned long *table = l1[n % TABLES];
        int result = writable(table);

        check(result == 0 || result == -XEN_EBUSY);
        if (result) {
            refusals++;
            HYPERVISOR_sched_op(SCHEDOP_yield, 0);
            continue;
        }
        writes++; /* it is no table just now, and cannot become one: write what must not be in one */
        table[511] = FORGED;
        HYPERVISOR_sched_op(SCHEDOP_yield, 0);
        table[511] = 0;
        check_is(readonly(table), 0);
        check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(table), 0), 0);
        check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(table), 0), 0);
        HYPERVISOR_sched_op(SCHEDOP_yield, 0);
    }
    say("%u pins, %u writes, %u refusals\n", pinned, writes, refusals);
    check(pinned > 0 && writes > 0);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_down, 1, 0), 0);
    for (unsigned table = 0; table < TABLES; table++)
        check_is(writable(l1[table]), 0);
    check_is(writable(l4) | writable(l3) | writable(l2), 0);
}
