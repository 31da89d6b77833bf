/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Exceptions come to the handlers that set_trap_table named, with vector, error code and instruction as on bare
 * hardware.
 */
#include "test.h"

const char test_name[] = "exceptions";

PAGE(page);

static int hits;

static int count_hit(struct frame *frame)
{
    hits++;
    return 1;
}

void test_main(void)
{
    unsigned long zero = 0;

    check_is(probe("divl %k1", : "r"(0) : "rdx"), 0);
    check_is(last_trap.error, 0);
    check_is(probe("ud2"), 6);

    /* int3 is a trap: rip stands behind it. */
    trap_hooks[3] = count_hit;
    asm volatile("int3");
    check_is(hits, 1);
    trap_hooks[3] = 0;

    /* Non-canonical: a general protection fault, not a page fault. */
    check_is(probe_read((void *)0x8000000000000000UL, 0), 13);
    check_is(last_trap.error, 0);

    /* A software interrupt through a vector nobody registered: #GP that names it. */
    check_is(probe("int $0x80"), 13);
    check_is(last_trap.error, 0x80 * 8 + 2);
    check_is(probe("int $13"), 13); /* registered, but DPL 0: not for asking */
    check_is(last_trap.error, 13 * 8 + 2);

    /* Page faults: the address, and why. */
    check_is(probe_read((void *)0x5000123, 0), 14);
    check_is(last_trap.error, 0);
    check(last_cr2 == 0x5000123);
    check_is(probe_write((void *)0x5000200, 0), 14);
    check_is(last_trap.error, 2);
    readonly(page);
    check_is(probe_write(page + 8, 0), 14);
    check_is(last_trap.error, 3);
    check(last_cr2 == (unsigned long)page + 8);

    /* Alignment of the frame, whatever the stack was; flags, and a code segment that says "kernel" by RPL 0. */
    check_is(last_trap.cs & 3, 0);
    check_is(last_trap.cs & 0xfffc, FLAT_KERNEL_CS & 0xfffc);
    asm volatile("pushq %%rbx\n1: ud2\n2: popq %%rbx\n"
                 ".pushsection .fixups, \"aw\"; .quad 1b, 2b; .popsection"
                 : "+a"(zero));
    check_is(zero, 6);
}
