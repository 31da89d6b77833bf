/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An event for a vCPU that never said where it wants to hear of events: the domain ends (create_bounce_frame).
 *
 * ends: crash
 * because: no handler
 */
#include "test.h"

const char test_name[] = "hostile-no-upcall";

void test_main(void)
{
    struct callback_register none = { .type = CALLBACKTYPE_event, .address = 0 };

    say("PASS hostile-no-upcall\n");
    console_flush();
    check_is(HYPERVISOR_callback_op(CALLBACKOP_register, &none), 0);
    shared_info->vcpu_info[0].evtchn_upcall_pending = 1;
    events_on();
    HYPERVISOR_xen_version(XENVER_version, 0);
    fail("still here");
}
