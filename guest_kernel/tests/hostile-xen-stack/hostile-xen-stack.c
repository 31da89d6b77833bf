/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A kernel stack in the hypervisor's own memory: it will not write there on our behalf, and the domain ends
 * (create_bounce_frame_bad_sp).
 *
 * ends: crash
 * because: its kernel stack
 */
#include "test.h"

const char test_name[] = "hostile-xen-stack";

void test_main(void)
{
    say("PASS hostile-xen-stack\n");
    console_flush();
    asm volatile("movq %0, %%rsp; ud2" : : "r"(0xffff830000001000UL));
    fail("still here");
}
