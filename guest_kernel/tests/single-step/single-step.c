/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The trap flag in an iret frame makes the next instruction the last: a debug trap behind it.
 */
#include "test.h"

const char test_name[] = "single-step";

USER_CODE_BLOB(steps, "nop; nop; incl %eax; syscall");

void test_main(void)
{
    struct frame frame = { .rflags = 0x302 }, *trap;

    user_init();
    load_user(steps, steps_end);
    for (unsigned long i = 1; i <= 2; i++) {
        trap = enter_user(&frame);
        check_is(trap->vector, 1);
        check_is(trap->rip, USER_CODE + i);
        check(trap->rflags & 0x100);
        frame = *trap;
    }
    frame.rflags &= ~0x100UL;
    trap = enter_user(&frame);
    check_is(trap->vector, SYSCALL_VECTOR);
    check_is(trap->rax, 1);
}
