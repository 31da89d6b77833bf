/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where Xen shall deliver what.
 */
#include <lib.h>
#include <trap.h>

#include "pv.h"

extern char trap_stubs[], event_callback[], failsafe_callback[], syscall_callback[];

static void register_callback(unsigned type, void *address)
{
    struct callback_register op = {
        .type = type,
        .flags = CALLBACKF_mask_events, /* enter with events masked, like an interrupt gate */
        .address = (u64)address,
    };
    long error = HYPERVISOR_callback_op(CALLBACKOP_register, &op);

    if (error)
        panic("callback %u: error %ld", type, -error);
}

void pv_set_traps(void)
{
    static struct trap_info table[TRAP_EXCEPTIONS + 1]; /* an entry of zeroes ends it */

    for (unsigned vector = 0; vector < TRAP_EXCEPTIONS; vector++) {
        table[vector].vector = vector;
        table[vector].cs = FLAT_KERNEL_CS;
        table[vector].address = (u64)trap_stubs + 32 * vector;
        /* User code may ask for a breakpoint or overflow trap by `int`; all other vectors are the CPU's alone. */
        TI_SET_DPL(&table[vector], vector == 3 || vector == 4 ? 3 : 0);
        TI_SET_IF(&table[vector], 1); /* the kernel runs with events masked */
    }
    if (HYPERVISOR_set_trap_table(table))
        panic("set_trap_table failed");
    register_callback(CALLBACKTYPE_event, event_callback);
    register_callback(CALLBACKTYPE_failsafe, failsafe_callback);
    register_callback(CALLBACKTYPE_syscall, syscall_callback);
}
