/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Interrupts come between instructions, never within: a million increments of memory under a storm of ticks are a
 * million, and every register and flag is as it was.
 *
 * varies: ticks
 */
#include "test.h"

const char test_name[] = "preemption";

static volatile unsigned long counter;

void test_main(void)
{
    struct vcpu_set_periodic_timer periodic = { .period_ns = 1000000 };
    unsigned timer = bind_virq(VIRQ_TIMER);
    unsigned long rounds = 20, each = 500000;

    check_is(HYPERVISOR_vcpu_op(VCPUOP_set_periodic_timer, 0, &periodic), 0);
    events_on();
    for (unsigned long round = 0; round < rounds; round++) {
        unsigned long r8 = round, r9 = ~round, left = each, carries = 0;

        asm volatile("movq %[a], %%r8; movq %[b], %%r9\n"
                     "1: lock incq %[counter]\n"
                     "movq %%r8, %%r10; addq %%r9, %%r10\n" /* all ones: no carry */
                     "adcq $0, %[carries]\n"
                     "addq $1, %%r10\n" /* now: a carry */
                     "adcq $0, %[carries]\n"
                     "decq %[left]\n"
                     "jnz 1b\n"
                     : [counter] "+m"(counter), [left] "+r"(left), [carries] "+r"(carries)
                     : [a] "r"(r8), [b] "r"(r9)
                     : "r8", "r9", "r10", "memory", "cc");
        check_is(carries, each);
    }
    check_is(counter, rounds * each);
    say("%u ticks\n", event_count[timer]);
    check(event_count[timer] >= 5);
}
