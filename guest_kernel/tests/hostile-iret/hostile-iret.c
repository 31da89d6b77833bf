/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * iret to where nobody can be: segments that do not exist, are no code, are no stack or are the hypervisor's; addresses
 * that are not canonical or its; flags that are not the guest's. What cannot be is a fault of the guest's, at the place
 * it wanted to go to; and a guest runs in ring 3 whatever it says.
 */
#include "test.h"

const char test_name[] = "hostile-iret";

void user_go(struct frame *frame);

USER_CODE_BLOB(look, "movl %cs, %eax; movl %ss, %ebx; pushfq; popq %rcx; int3");

/* Go to user mode as the frame says; what came back. */
static unsigned long go(struct frame frame)
{
    last_trap.vector = 999;
    user_go(&frame);
    return last_trap.vector;
}

#define PLACE .rip = USER_CODE, .rsp = USER_STACK_TOP
#define USER PLACE, .rflags = 0x202
#define FLAT .cs = FLAT_USER_CS, .ss = FLAT_USER_SS

void test_main(void)
{
    /* No code: null, beyond all tables, data, Xen's own code and data, the LDT that is not there. */
    static const unsigned short code[] = { 3, 0xfffb, 0xe02b, 0x10 | 3, 0xe013, 0xe00b, 0x8007, 0xe043 };
    static const unsigned short stacks[] = { 3, 0xfffb, 0xe033, 0x10 | 3, 0xe00b, 0xe013, 0x8007 };
    static const unsigned long places[] = { 0x0000800000000000UL, 0x8000000000000000UL, 0xffff7fffffffffffUL };

    user_init();
    load_user(look, look_end);
    check_is(go((struct frame){ USER, FLAT }), 3);
    check_is(last_trap.rax, FLAT_USER_CS);
    check_is(last_trap.rbx, FLAT_USER_SS);

    for (unsigned i = 0; i < ARRAY_SIZE(code); i++) {
        check_is(go((struct frame){ USER, .cs = code[i], .ss = FLAT_USER_SS }), 13);
        check_is(last_trap.error, code[i] & ~3U);
        check_is(last_trap.rip, USER_CODE);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(stacks); i++) {
        check_is(go((struct frame){ USER, .cs = FLAT_USER_CS, .ss = stacks[i] }), 13);
        check_is(last_trap.error, stacks[i] & ~3U);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        check_is(go((struct frame){ .rip = places[i], .rsp = USER_STACK_TOP, .rflags = 0x202, FLAT }), 13);
        check_is(last_trap.error, 0);
        check_is(last_trap.rip, places[i]);
    }
    /* Somewhere in the hypervisor: a page fault like any other. */
    check_is(go((struct frame){ .rip = 0xffff82d040200000UL, .rsp = USER_STACK_TOP, .rflags = 0x202, FLAT }), 14);
    check_is(last_trap.rip, 0xffff82d040200000UL);
    check_is(last_trap.error & 4, 4);
    check_is(last_cr2, 0xffff82d040200000UL);

    /* Flags: IOPL, VM, RF, NT, VIF, VIP. The ring stays, IF is set, IOPL and VM are not. */
    check_is(go((struct frame){ PLACE, FLAT, .rflags = 0x3000 | 0x20000 | 0x202 }), 3);
    check_is(last_trap.rcx & 0x23000, 0);
    check_is(last_trap.rcx & 0x200, 0x200);
    check_is(go((struct frame){ PLACE, FLAT, .rflags = 0 }), 3);
    check_is(last_trap.rcx & 0x202, 0x202);

    /* A ring below 3 asked for: one "returns to the kernel", and is in ring 3 as ever. */
    static unsigned long frame[9];

    for (unsigned ring = 0; ring < 3; ring++) {
        unsigned long cs = 99;

        asm volatile("movq %%rsp, %%rbx\n"
                     "leaq 1f(%%rip), %%rax\n"
                     "movq %%rax, 32(%[frame])\n"
                     "movq %[cs], 40(%[frame])\n"
                     "movq $0x202, 48(%[frame])\n"
                     "movq %%rbx, 56(%[frame])\n"
                     "movq $0xe02b, 64(%[frame])\n"
                     "movq %[frame], %%rsp\n"
                     "movl $23, %%eax\n"
                     "syscall\n"
                     "ud2\n"
                     "1: movl %%cs, %%eax\n"
                     : "=&a"(cs)
                     : [frame] "r"(frame), [cs] "r"((unsigned long)(FLAT_KERNEL_CS & ~3U) | ring)
                     : "rbx", "rcx", "r11", "memory");
        check_is(cs, FLAT_KERNEL_CS);
    }
}
