/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A page-fault handler that faults, and faults, and faults: each frame is put under the one before, until the stack has
 * no more room for one. The others have their turns meanwhile.
 *
 * ends: crash
 * because: its kernel stack
 */
#include "test.h"

const char test_name[] = "hostile-storm";

static unsigned char stack[64 * PAGE_SIZE] PAGE_ALIGNED;

void test_main(void)
{
    struct trap_info table[2] = { { .vector = 14, .cs = FLAT_KERNEL_CS, .address = 0x1000 } }; /* nothing is there */

    say("PASS hostile-storm\n");
    console_flush();
    check_is(remap(stack, 0), 0);
    check_is(HYPERVISOR_set_trap_table(table), 0);
    asm volatile("movq %0, %%rsp; movq (8), %%rax" : : "r"(stack + sizeof(stack)));
    fail("still here");
}
