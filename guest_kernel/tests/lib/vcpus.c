/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The second vCPU, for tests with "needs: vcpus=2": what it begins with, and having it begin.
 */
#include "test.h"

static struct vcpu_guest_context context;
static unsigned char stack[8192] PAGE_ALIGNED;

struct vcpu_guest_context *second_context(void (*entry)(void))
{
    if (HYPERVISOR_vcpu_op(VCPUOP_is_up, 1, 0) == -XEN_ENOENT)
        fail("this test needs vcpus=2");
    memset(&context, 0, sizeof(context));
    context.flags = VGCF_in_kernel;
    context.user_regs.rip = (unsigned long)entry;
    context.user_regs.rsp = (unsigned long)stack + sizeof(stack) - 8;
    context.user_regs.cs = FLAT_KERNEL_CS;
    context.user_regs.ss = FLAT_KERNEL_SS;
    context.user_regs.rflags = 0x202;
    context.kernel_ss = FLAT_KERNEL_SS;
    context.kernel_sp = (unsigned long)stack + sizeof(stack);
    context.ctrlreg[3] = xen_pfn_to_cr3(mfn_of((void *)start_info->pt_base));
    return &context;
}

void second_starts(void (*entry)(void))
{
    check_is(HYPERVISOR_vcpu_op(VCPUOP_initialise, 1, second_context(entry)), 0);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_up, 1, 0), 0);
}
