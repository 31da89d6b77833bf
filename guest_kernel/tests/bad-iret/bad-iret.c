/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An iret that cannot be, because the code segment it names does not exist, comes back to the kernel as a fault at the
 * place it would have gone to.
 */
#include "test.h"

const char test_name[] = "bad-iret";

void user_go(struct frame *frame);

void test_main(void)
{
    struct frame frame = { .rip = USER_CODE, .cs = 0x1230 | 3, .ss = FLAT_USER_SS, .rflags = 0x202, .rsp = USER_STACK_TOP };

    user_init();
    user_go(&frame);
    check_is(last_trap.vector, 13);
    check_is(last_trap.error, 0x1230); /* the selector */
    check_is(last_trap.rip, USER_CODE); /* where it would have gone, as if the fault had been there */
    check_is(last_trap.cs & 0xffff, 0x1233);
}
