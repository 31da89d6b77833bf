/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Segment bases are set by hypercall; each vCPU has an FS base, and two GS bases, the kernel's and the user's, which
 * change places at every crossing.
 */
#include "test.h"

const char test_name[] = "segment-base";

USER_CODE_BLOB(read_gs, "movq %gs:0, %rax; movq %fs:8, %rbx; syscall");

static unsigned long kernel_words[2] = { 0x11, 0x22 };

void test_main(void)
{
    struct frame frame = { .rip = 0 }, *trap;
    unsigned long value;

    check_is(HYPERVISOR_set_segment_base(SEGBASE_FS, (unsigned long)kernel_words), 0);
    asm volatile("movq %%fs:8, %0" : "=r"(value));
    check_is(value, 0x22);
    check_is(HYPERVISOR_set_segment_base(SEGBASE_GS_KERNEL, (unsigned long)kernel_words), 0);
    check_is(HYPERVISOR_set_segment_base(SEGBASE_GS_USER, USER_DATA), 0);
    asm volatile("movq %%gs:0, %0" : "=r"(value));
    check_is(value, 0x11);

    user_init();
    check_is(HYPERVISOR_set_segment_base(SEGBASE_FS, USER_DATA), 0);
    ((unsigned long *)user_data)[0] = 0x33;
    ((unsigned long *)user_data)[1] = 0x44;
    load_user(read_gs, read_gs_end);
    trap = enter_user(&frame);
    check_is(trap->vector, SYSCALL_VECTOR);
    check_is(trap->rax, 0x33);
    check_is(trap->rbx, 0x44);
    asm volatile("movq %%gs:0, %0" : "=r"(value));
    check_is(value, 0x11); /* ours again */

    check_is(HYPERVISOR_set_segment_base(SEGBASE_FS, 0x8000000000000000UL), -XEN_EINVAL);
    check_is(HYPERVISOR_set_segment_base(77, 0), -XEN_EINVAL);
}
