/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An iret frame that runs from a page that is there into one that is not: the domain ends (do_iret).
 *
 * ends: crash
 * because: its iret frame
 */
#include "test.h"

const char test_name[] = "hostile-iret-stack";

static unsigned char pages[2 * PAGE_SIZE] PAGE_ALIGNED;

void test_main(void)
{
    say("PASS hostile-iret-stack\n");
    console_flush();
    check_is(remap(pages + PAGE_SIZE, 0), 0);
    asm volatile("movq %0, %%rsp; movl $23, %%eax; syscall" : : "r"(pages + PAGE_SIZE - 24));
    fail("still here");
}
