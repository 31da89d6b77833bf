/* SPDX-License-Identifier: GPL-2.0-or-later
 * needs: engine=corrected
 *
 * A kernel may give its users the L4 that it has itself, as small kernels do. Then they have all that it has: nothing but
 * the tables keeps a user from a page, since both halves of a guest run at CPL 3. The hypervisor's own part is nobody's.
 */
#include "test.h"

const char test_name[] = "shared-l4";

static volatile unsigned long word = 0x5eed;
PAGE(page);

/* movq (%rdi), %rax; movq %rsi, (%rdi); syscall */
USER_CODE_BLOB(read_and_write, "movq (%rdi), %rax; movq %rsi, (%rdi); syscall");
USER_CODE_BLOB(read_only, "movq (%rdi), %rax; syscall");
USER_CODE_BLOB(jump, "jmp *%rdi");

static unsigned char user_stack[PAGE_SIZE] PAGE_ALIGNED;

static struct frame *user(const void *code, const void *address, unsigned long value)
{
    struct frame frame = { .rip = (unsigned long)code,
                           .rsp = (unsigned long)user_stack + PAGE_SIZE,
                           .rdi = (unsigned long)address,
                           .rsi = value };

    return enter_user(&frame);
}

void test_main(void)
{
    struct frame *trap;
    const unsigned long hypervisors[] = { 0xffff820000000000UL, 0xffff820000000000UL + 14 * PAGE_SIZE };

    user_init();
    check_is(mmuext(MMUEXT_NEW_USER_BASEPTR, kernel_l4_mfn, 0), 0);

    /* The kernel's memory, where the kernel has it. */
    trap = user(read_and_write, (const void *)&word, 77);
    check_is(trap->vector, SYSCALL_VECTOR);
    check_is(trap->cs & 3, 3);
    check_is(trap->rax, 0x5eed);
    check_is(word, 77);

    /* A page that is read-only for one is so for the other. */
    check_is(readonly(page), 0);
    check_is(user(read_only, page, 0)->vector, SYSCALL_VECTOR);
    trap = user(read_and_write, page, 1);
    check_is(trap->vector, 14);
    check_is(trap->error, 7);
    check(last_cr2 == (unsigned long)page);
    check_is(probe_write(page, 1), 14);
    check_is(last_trap.error, 3);
    trap = user(jump, page, 0); /* and has NX */
    check_is(trap->vector, 14);
    check_is(trap->error, 0x15);
    check_is(writable(page), 0);
    check_is(user(read_and_write, page, 1)->vector, SYSCALL_VECTOR);

    /* A page that is taken away is gone for both at once. */
    check_is(remap(page, 0), 0);
    trap = user(read_only, page, 0);
    check_is(trap->vector, 14);
    check_is(trap->error, 4);
    check_is(probe_read(page, 0), 14);
    check_is(last_trap.error, 0);

    /* The M2P is everybody's to read; what the hypervisor keeps for a domain (its GDTs) is not. */
    check_is(user(read_only, (const void *)MACH2PHYS_VIRT_START, 0)->vector, SYSCALL_VECTOR);
    trap = user(read_and_write, (const void *)MACH2PHYS_VIRT_START, 0);
    check_is(trap->vector, 14);
    check_is(trap->error, 7);
    for (unsigned n = 0; n < ARRAY_SIZE(hypervisors); n++) {
        trap = user(read_only, (const void *)hypervisors[n], 0);
        check_is(trap->vector, 14);
        check_is(trap->error, 5);
        check(last_cr2 == hypervisors[n]);
        check_is(probe_read((const void *)hypervisors[n], 0), 14);
        check_is(last_trap.error, 1);
    }

    /* With tables of their own they have none of it. */
    check_is(mmuext(MMUEXT_NEW_USER_BASEPTR, user_l4_mfn, 0), 0);
    trap = user(read_only, (const void *)&word, 0);
    check_is(trap->vector, 14);
    check_is(trap->error, 0x14); /* not even the code */
}
