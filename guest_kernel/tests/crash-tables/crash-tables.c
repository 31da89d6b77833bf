/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Who takes the page of code he runs on out of his own page tables gets a page fault, whose handler cannot run either:
 * the domain ends, the machine does not.
 *
 * ends: crash
 */
#include "test.h"

const char test_name[] = "crash-tables";

void test_main(void)
{
    say("PASS crash-tables\n");
    console_flush();
    mmu_update(pte_maddr((void *)VIRT_BASE, 4), 0);
    mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    fail("still here");
}
