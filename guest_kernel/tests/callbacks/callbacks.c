/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * callback_op says where events, system calls and failures enter, and whether events are masked on the way in.
 */
#include "test.h"

const char test_name[] = "callbacks";

extern char event_callback[], syscall_callback[];

USER_CODE_BLOB(call, "syscall");

static long callback(unsigned type, unsigned flags, void *address)
{
    struct callback_register op = { .type = (uint16_t)type, .flags = (uint16_t)flags, .address = (unsigned long)address };

    return HYPERVISOR_callback_op(CALLBACKOP_register, &op);
}

static int masked_after_syscall(unsigned flags)
{
    struct frame frame = { .rip = 0 };

    check_is(callback(CALLBACKTYPE_syscall, flags, syscall_callback), 0);
    check_is(enter_user(&frame)->vector, SYSCALL_VECTOR);
    return shared_info->vcpu_info[0].evtchn_upcall_mask;
}

void test_main(void)
{
    struct callback_unregister gone = { .type = CALLBACKTYPE_event };

    check_is(callback(77, 0, event_callback), -XEN_ENOSYS);
    check_is(callback(CALLBACKTYPE_event, 0, (void *)0x8000000000000000UL), -XEN_EINVAL); /* not canonical */
    check_is(HYPERVISOR_callback_op(CALLBACKOP_register, (void *)8), -XEN_EFAULT);
    check_is(HYPERVISOR_callback_op(77, &gone), -XEN_ENOSYS);
    check_is(HYPERVISOR_callback_op(CALLBACKOP_unregister, &gone), -XEN_EINVAL); /* these cannot be given up */
    check_is(HYPERVISOR_set_callbacks((unsigned long)event_callback, 0, (unsigned long)syscall_callback), 0);

    user_init();
    load_user(call, call_end);
    events_off();
    check_is(masked_after_syscall(CALLBACKF_mask_events), 1);
    check_is(masked_after_syscall(0), 0);
}
