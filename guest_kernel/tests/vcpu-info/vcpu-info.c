/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * VCPUOP_register_vcpu_info moves a vCPU's words (events, time, cr2) out of shared_info to where the guest wants them.
 */
#include "test.h"

const char test_name[] = "vcpu-info";

PAGE(place);

void test_main(void)
{
    struct vcpu_register_vcpu_info op = { .mfn = mfn_of(place), .offset = 128 };
    volatile struct vcpu_info *moved = (struct vcpu_info *)(place + 128);
    struct evtchn_bind_ipi ipi = { .vcpu = 0 };
    struct evtchn_send send;

    op.offset = 4092;
    check_is(HYPERVISOR_vcpu_op(VCPUOP_register_vcpu_info, 0, &op), -XEN_ENXIO); /* over the page's end */
    op.offset = 129;
    check_is(HYPERVISOR_vcpu_op(VCPUOP_register_vcpu_info, 0, &op), -XEN_ENXIO); /* not aligned */
    op.offset = 128;
    check_is(HYPERVISOR_vcpu_op(VCPUOP_register_vcpu_info, 77, &op), -XEN_ENOENT);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_register_vcpu_info, 0, &op), 0);
    check(moved->time.tsc_to_system_mul && moved->time.system_time);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_register_vcpu_info, 0, &op), -XEN_EINVAL); /* once only */

    /* Events are signalled there now. Everything was marked pending at the move, in case. */
    moved->evtchn_upcall_mask = 1;
    moved->evtchn_upcall_pending = 0;
    moved->evtchn_pending_sel = 0;
    check_is(evtchn(EVTCHNOP_bind_ipi, &ipi), 0);
    shared_info->evtchn_mask[ipi.port / 64] &= ~(1UL << (ipi.port % 64));
    send.port = ipi.port;
    check_is(evtchn(EVTCHNOP_send, &send), 0);
    check_is(moved->evtchn_upcall_pending, 1);
    check_is(moved->evtchn_pending_sel, 1UL << (ipi.port / 64));
}
