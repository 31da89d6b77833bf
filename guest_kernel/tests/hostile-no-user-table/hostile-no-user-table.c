/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * To user mode without a page table for it: the domain ends there (do_iret).
 *
 * ends: crash
 * because: without a user page table
 */
#include "test.h"

const char test_name[] = "hostile-no-user-table";

void user_go(struct frame *frame);

void test_main(void)
{
    struct frame frame = {
        .rip = USER_CODE, .cs = FLAT_USER_CS, .ss = FLAT_USER_SS, .rflags = 0x202, .rsp = USER_STACK_TOP };

    say("PASS hostile-no-user-table\n");
    console_flush();
    user_go(&frame);
    fail("still here");
}
