/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * stack_switch names the stack on which the kernel finds what comes from user mode. What comes from the kernel stays on
 * the stack the kernel is on.
 */
#include "test.h"

const char test_name[] = "stack-switch";

static unsigned char other_stack[8192] PAGE_ALIGNED;

USER_CODE_BLOB(call, "syscall");

void test_main(void)
{
    struct frame frame = { .rip = 0 };
    unsigned long top = (unsigned long)other_stack + sizeof(other_stack);

    user_init();
    load_user(call, call_end);
    check_is(enter_user(&frame)->vector, SYSCALL_VECTOR);
    for (unsigned i = 0; i < sizeof(other_stack); i++)
        check(other_stack[i] == 0);

    /* Frames are aligned to 16 bytes, whatever was asked for. */
    check_is(HYPERVISOR_stack_switch(FLAT_KERNEL_SS, top - 8), 0);
    frame = (struct frame){ .rip = 0 };
    check_is(enter_user(&frame)->vector, SYSCALL_VECTOR);
    check(((unsigned long *)top)[-3] == FLAT_USER_SS); /* ss, the first word pushed */
    check(((unsigned long *)top)[-4] == USER_STACK_TOP);
    check_is(probe("ud2"), 6); /* from the kernel: on our own stack */
    check(((unsigned long *)top)[-4] == USER_STACK_TOP);
}
