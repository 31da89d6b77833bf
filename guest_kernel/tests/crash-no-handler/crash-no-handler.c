/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An exception for which no handler is registered ends the domain.
 *
 * ends: crash
 */
#include "test.h"

const char test_name[] = "crash-no-handler";

void test_main(void)
{
    say("PASS crash-no-handler\n");
    console_flush();
    check_is(HYPERVISOR_set_trap_table(0), 0); /* forget all handlers */
    asm volatile("ud2");
    fail("still here");
}
