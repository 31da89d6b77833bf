/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The second vCPU: initialised with a whole context, brought up, it runs beside us; we ring it, it rings back; it goes
 * down again.
 *
 * needs: vcpus=2
 */
#include "test.h"

const char test_name[] = "second-vcpu";

static volatile unsigned long counter, said, stop, vcpu_seen;
static unsigned to_us;

static void second_main(void)
{
    struct evtchn_send send = { .port = to_us };

    vcpu_seen = 1;
    said = 0x5ec0;
    HYPERVISOR_event_channel_op(EVTCHNOP_send, &send);
    while (!stop)
        counter++;
    said = 0xd0e;
    HYPERVISOR_vcpu_op(VCPUOP_down, 1, 0);
    said = 0xbad;
    for (;;)
        HYPERVISOR_sched_op(SCHEDOP_block, 0);
}

void test_main(void)
{
    struct evtchn_bind_ipi ipi = { .vcpu = 0 };
    struct vcpu_guest_context *context = second_context(second_main);
    unsigned long before;

    check_is(HYPERVISOR_vcpu_op(VCPUOP_is_up, 0, 0), 1);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_is_up, 1, 0), 0);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_up, 1, 0), -XEN_EINVAL); /* not initialised */

    check_is(evtchn(EVTCHNOP_bind_ipi, &ipi), 0);
    to_us = ipi.port;
    event_enable(to_us);

    check_is(HYPERVISOR_vcpu_op(VCPUOP_initialise, 1, context), 0);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_initialise, 1, context), -XEN_EEXIST);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_is_up, 1, 0), 0);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_up, 1, 0), 0);

    wait_for_events(to_us, 1);
    check(said == 0x5ec0);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_is_up, 1, 0), 1);

    /* It does not stand still while we do not either. */
    before = counter;
    for (unsigned long end = now() + 2000000000; counter == before && now() < end;)
        HYPERVISOR_sched_op(SCHEDOP_yield, 0);
    check(counter > before);

    stop = 1;
    for (unsigned long end = now() + 2000000000; HYPERVISOR_vcpu_op(VCPUOP_is_up, 1, 0) && now() < end;)
        HYPERVISOR_sched_op(SCHEDOP_yield, 0);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_is_up, 1, 0), 0);
    check(said == 0xd0e);

    /* Up again, it goes on where it was. */
    check_is(HYPERVISOR_vcpu_op(VCPUOP_up, 1, 0), 0);
    for (unsigned long end = now() + 2000000000; said != 0xbad && now() < end;)
        HYPERVISOR_sched_op(SCHEDOP_yield, 0);
    check(said == 0xbad);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_down, 1, 0), 0);
}
