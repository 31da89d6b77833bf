/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An exception whose frame cannot be pushed, because the stack is not mapped, ends the domain: there is no double fault.
 *
 * ends: crash
 */
#include "test.h"

const char test_name[] = "crash-bad-stack";

void test_main(void)
{
    say("PASS crash-bad-stack\n");
    console_flush();
    asm volatile("movq $0x123000, %rsp; ud2");
}
