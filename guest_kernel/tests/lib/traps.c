/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Exceptions, turned into facts a test can check.
 */
#include "test.h"

struct fixup {
    unsigned long fault, resume;
};

extern struct fixup __fixups[], __fixups_end[];
extern char trap_stubs[];

trap_hook trap_hooks[256];
struct frame last_trap;
unsigned long last_cr2;

void event_upcall(void);

void traps_init(void)
{
    static struct trap_info table[33]; /* the last, all zero, ends it */

    for (unsigned vector = 0; vector < 32; vector++) {
        table[vector].vector = vector;
        table[vector].flags = vector == 3 || vector == 4 ? 3 : 0; /* who may ask for it by `int n` */
        table[vector].cs = FLAT_KERNEL_CS;
        table[vector].address = (unsigned long)trap_stubs + 32 * vector;
    }
    check_is(HYPERVISOR_set_trap_table(table), 0);
}

void user_trapped(void);

void trap_entry(struct frame *frame)
{
    if (frame->vector == 255) {
        event_upcall();
        return;
    }
    if (frame->vector == 14)
        last_cr2 = shared_info->vcpu_info[0].arch.cr2;
    last_trap = *frame;
    if ((frame->cs & 3) == 3)
        user_trapped(); /* does not return */
    if (trap_hooks[frame->vector & 255] && trap_hooks[frame->vector & 255](frame))
        return;
    for (struct fixup *fixup = __fixups; fixup < __fixups_end; fixup++) {
        if (fixup->fault == frame->rip) {
            frame->rip = fixup->resume;
            frame->rax = frame->vector;
            return;
        }
    }
    fail("exception %lu, error %lx, at %lx, cr2 %lx", frame->vector, frame->error, frame->rip, last_cr2);
}

long probe_read(const void *va, unsigned long *value)
{
    unsigned long got = 0;
    long trap = PROBE_NONE;

    asm volatile("1: movq (%2), %1\n2:\n"
                 ".pushsection .fixups, \"aw\"; .quad 1b, 2b; .popsection\n"
                 : "+a"(trap), "+r"(got) : "r"(va) : "memory");
    if (value)
        *value = got;
    return trap;
}

long probe_write(void *va, unsigned long value)
{
    long trap = PROBE_NONE;

    asm volatile("1: movq %2, (%1)\n2:\n"
                 ".pushsection .fixups, \"aw\"; .quad 1b, 2b; .popsection\n"
                 : "+a"(trap) : "r"(va), "r"(value) : "memory");
    return trap;
}
