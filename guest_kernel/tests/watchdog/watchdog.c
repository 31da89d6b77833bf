/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A domain can set a watchdog on itself: if it is not pushed back in time, the domain is shut down. Here it is not.
 *
 * ends: watchdog
 */
#include "test.h"

const char test_name[] = "watchdog";

static long watchdog(unsigned id, unsigned timeout)
{
    struct sched_watchdog op = { .id = id, .timeout = timeout };

    return HYPERVISOR_sched_op(SCHEDOP_watchdog, &op);
}

void test_main(void)
{
    long id = watchdog(0, 5), second;

    check(id > 0);
    second = watchdog(0, 5);
    check(second > 0 && second != id);
    check_is((int)watchdog(0, 5), -XEN_ENOSPC); /* two are all there are */
    check_is(watchdog(99, 5), -XEN_EINVAL);
    check_is(watchdog((unsigned)second, 0), 0); /* a time-out of 0 takes it away */
    check_is(watchdog((unsigned)second, 5), -XEN_EINVAL);

    bind_virq(VIRQ_TIMER);
    check_is(watchdog((unsigned)id, 1), 0); /* pushed: one second from now */
    say("PASS watchdog\n");
    console_flush();
    for (unsigned long end = now() + 3000000000; now() < end;) {
        HYPERVISOR_set_timer_op(end);
        HYPERVISOR_sched_op(SCHEDOP_block, 0);
    }
    fail("still here");
}
