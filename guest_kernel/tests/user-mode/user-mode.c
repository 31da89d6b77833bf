/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * User mode has page tables of its own (MMUEXT_NEW_USER_BASEPTR). What traps there comes to the kernel on the stack
 * that stack_switch named, with RPL 3 in the frame; `syscall` comes to the syscall callback.
 */
#include "test.h"

const char test_name[] = "user-mode";

USER_CODE_BLOB(say_hello, "movq $0x401000, %rdi; movq $77, (%rdi); movl $5, %eax; movq $1, %rcx; syscall; movq %rax, 8(%rdi);"
                          "syscall");
USER_CODE_BLOB(read_kernel, "movq 0xffffffff80100000, %rax");
USER_CODE_BLOB(privileged, "hlt");
USER_CODE_BLOB(divide, "xorl %ecx, %ecx; divl %ecx");
USER_CODE_BLOB(breakpoint, "int3");

void test_main(void)
{
    struct frame frame = { .rip = 0 }, *trap;

    user_init();

    load_user(say_hello, say_hello_end);
    trap = enter_user(&frame);
    check_is(trap->vector, SYSCALL_VECTOR);
    check_is(trap->rax, 5);
    check_is(trap->cs & 3, 3);
    check(trap->rip > USER_CODE && trap->rip < USER_CODE + 64); /* behind the syscall */
    check_is(trap->rsp, USER_STACK_TOP);
    check(trap->rcx == trap->rip); /* as the instruction itself leaves it */
    check(*(unsigned long *)user_data == 77);

    /* Back into it, with a result. */
    frame = *trap;
    frame.rax = 123;
    trap = enter_user(&frame);
    check_is(trap->vector, SYSCALL_VECTOR);
    check(((unsigned long *)user_data)[1] == 123);

    frame = (struct frame){ .rip = 0 };
    load_user(read_kernel, read_kernel_end);
    trap = enter_user(&frame);
    check_is(trap->vector, 14);
    check_is(trap->error & 4, 4); /* from user mode */
    check(last_cr2 == 0xffffffff80100000UL);

    frame = (struct frame){ .rip = 0 };
    load_user(privileged, privileged_end);
    check_is(enter_user(&frame)->vector, 13);

    frame = (struct frame){ .rip = 0 };
    load_user(divide, divide_end);
    check_is(enter_user(&frame)->vector, 0);

    frame = (struct frame){ .rip = 0 };
    load_user(breakpoint, breakpoint_end);
    trap = enter_user(&frame);
    check_is(trap->vector, 3);
    check_is(trap->rip, USER_CODE + 1);

    /* The kernel's own tables do not have the user's pages: the two modes see different worlds. */
    check_is(probe_read((void *)USER_CODE, 0), 14);

    /* A root in use can be exchanged for none at all; then there is no user mode. */
    check_is(mmuext(MMUEXT_NEW_USER_BASEPTR, 0, 0), 0);
    check_is(mmuext(MMUEXT_UNPIN_TABLE, user_l4_mfn, 0), 0);
}
