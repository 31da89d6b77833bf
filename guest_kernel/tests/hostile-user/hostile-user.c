/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * User code that wants its kernel's memory, the hypervisor's, or a hypercall: it runs on tables of its own, in ring 3,
 * and what it may not do comes to the kernel as its fault.
 */
#include "test.h"

const char test_name[] = "hostile-user";

PAGE(secret);

#define LINK (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)

USER_CODE_BLOB(read_at, "movq (%rbx), %rax; int3");
USER_CODE_BLOB(write_at, "movq %rax, (%rbx); int3");
USER_CODE_BLOB(jump_to, "jmp *%rbx");
USER_CODE_BLOB(calls, "syscall; int3");
USER_CODE_BLOB(do_cli, "cli; int3");
USER_CODE_BLOB(do_in, "inb $0x70, %al; int3");
USER_CODE_BLOB(do_cr3, "movq %cr3, %rax; int3");
USER_CODE_BLOB(do_clts, "clts; int3");
USER_CODE_BLOB(do_msr, "movl $0xc0000080, %ecx; rdmsr; int3");
USER_CODE_BLOB(do_int, "int $0x20; int3");
USER_CODE_BLOB(do_lgdt, "lgdt (%rsp); int3");

static unsigned long go(const char *start, const char *end, unsigned long rbx)
{
    struct frame frame = { .rbx = rbx };

    check_is(mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0), 0);
    load_user(start, end);
    last_trap.vector = 999;
    enter_user(&frame);
    return last_trap.vector;
}

#define GO(code, rbx) go(code, code##_end, rbx)

static void everything(void)
{
    static const unsigned long places[] = { 0xffff800000000000UL, 0xffff820000000000UL, 0xffff82d040200000UL,
                                            0xffff830000000000UL, 0xffff880000000000UL };
    unsigned long kernels = (unsigned long)secret;

    check_is(GO(read_at, USER_DATA), 3);
    /* The kernel's page: it is in the kernel's table only. */
    check_is(GO(read_at, kernels), 14);
    check_is(last_trap.error, 4);
    check_is(last_cr2, kernels);
    check_is(GO(write_at, kernels), 14);
    check_is(last_trap.error, 6);
    check_is(GO(jump_to, kernels), 14);
    check_is(last_trap.rip, kernels);
    check_is(last_trap.error & ~0x10UL, 4);
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        check_is(GO(read_at, places[i]), 14);
        check_is(last_trap.error & ~1UL, 4);
        check_is(GO(write_at, places[i]), 14);
        check_is(last_trap.error & ~1UL, 6);
    }
    check_is(GO(read_at, 0x0000800000000000UL), 13);
    check_is(GO(jump_to, 0x0000800000000000UL), 13);

    check_is(GO(calls, 0), SYSCALL_VECTOR); /* to its kernel, not to the hypervisor */
    check_is(GO(do_cli, 0), 13);
    check_is(GO(do_in, 0), 13);
    check_is(GO(do_cr3, 0), 13);
    check_is(GO(do_clts, 0), 13);
    check_is(GO(do_msr, 0), 13);
    check_is(GO(do_lgdt, 0), 13);
    check_is(GO(do_int, 0), 13);
}

void test_main(void)
{
    unsigned long *boot = (unsigned long *)start_info->pt_base;

    user_init();
    memset(secret, 0xcc, sizeof(secret));
    check_is(remap(secret, PTE(mfn_of(secret), LINK)), 0); /* executable, and users may, says the entry */
    everything();
    /* The same with the user's part in the kernel's table as well, as most kernels have it. */
    check_is(remap(secret, PTE(mfn_of(secret), LINK & ~PTE_US)), 0);
    check_is(mmu_update(maddr_of(&boot[0]), *(unsigned long *)va_of_pfn(pfn_of_mfn(user_l4_mfn))), 0);
    everything();
}
