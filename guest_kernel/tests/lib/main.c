/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * From the first C instruction to the verdict.
 */
#include "test.h"

struct start_info *start_info;
struct shared_info *shared_info;

/* shared_info is a machine frame; it has no virtual address until we give it one. */
PAGE(shared_info_window);

void test_boot(struct start_info *si)
{
    start_info = si;
    if (HYPERVISOR_update_va_mapping((unsigned long)shared_info_window,
                                     si->shared_info | PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX,
                                     UVMF_INVLPG))
        shutdown(SHUTDOWN_crash);
    shared_info = (struct shared_info *)shared_info_window;
    say("# %s on %s\n", test_name, si->magic);
    traps_init();
    events_init();
    test_main();
    pass();
}

void shutdown(unsigned reason)
{
    struct sched_shutdown op = { .reason = reason };

    console_flush();
    HYPERVISOR_sched_op(SCHEDOP_shutdown, &op);
    for (;;)
        asm volatile("ud2");
}

void pass(void)
{
    say("PASS %s\n", test_name);
    shutdown(SHUTDOWN_poweroff);
}

void vsay(const char *format, __builtin_va_list args);

void fail(const char *format, ...)
{
    __builtin_va_list args;

    say("FAIL %s: ", test_name);
    __builtin_va_start(args, format);
    vsay(format, args);
    __builtin_va_end(args);
    say("\n");
    shutdown(SHUTDOWN_poweroff);
}
