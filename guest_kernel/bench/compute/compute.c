/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Guest code that needs nothing of the hypervisor: how much of the bare engine's speed is left of it.
 *
 * On the virtual clock rdtsc counts instructions, so there the host takes the time, between the two lines
 * around each loop.
 */
#include "bench.h"

const char test_name[] = "bench-compute";

static const struct {
    const char *name;
    loop *loop;
} loops[] = {
    { "xorshift", loop_xorshift }, { "branchy", loop_branchy }, { "callret", loop_callret },
    { "loads", loop_loads },       { "movsq", loop_movsq },
};

void test_main(void)
{
    unsigned long samples = argument("samples", 7);

    HYPERVISOR_vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL); /* as every kernel does that sets timers of its own */
    for (unsigned n = 0; n < ARRAY_SIZE(loops); n++) {
        unsigned long count = argument(loops[n].name, 1000);

        run_timed(loops[n].loop, count / 64 + 1); /* translated, and the TLB filled */
        for (unsigned long i = 0; i < samples; i++) {
            say("begin=%s\n", loops[n].name);
            report(loops[n].name, run_timed(loops[n].loop, count), count);
        }
    }
}
