/* SPDX-License-Identifier: GPL-2.0-or-later
 * needs: engine=corrected
 *
 * A kernel may run 32-bit code of its own.  A `syscall` there is no hypercall: it goes to the kernel's entry for 32-bit
 * system calls, on the stack in use; and is an invalid opcode while there is none.
 */
#include "test.h"

const char test_name[] = "syscall32";

#define CODE32 0xe023

USER_CODE_BLOB(code32, "syscall; ud2");

/* Goes to 32-bit code at USER_CODE, with the number of a hypercall in %eax; comes back by came32 or back32. */
void go32(void);
extern char came32[], back32[];
unsigned long saved_rsp, pushed[7]; /* rcx r11 rip cs rflags rsp ss */

asm("go32:\n"
    "pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n"
    "movq %rsp, saved_rsp(%rip)\n"
    "movl $17, %eax; xorl %edi, %edi\n" /* xen_version */
    "pushq $0xe023; pushq $0x400000; lretq\n"
    "came32:\n"
    "movq %rsp, %rsi; leaq pushed(%rip), %rdi; movl $7, %ecx; rep movsq\n"
    "back32:\n"
    "movq saved_rsp(%rip), %rsp\n"
    "popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx\n"
    "ret\n");

static int invalid;

static int invalid_opcode(struct frame *frame)
{
    invalid++;
    check_is(frame->rip, USER_CODE);
    check_is(frame->cs & 0xffff, CODE32 & ~3); /* RPL 0 says that it was the kernel */
    check_is(frame->rax, 17);
    frame->rip = (unsigned long)back32;
    frame->cs = FLAT_KERNEL_CS & ~3;
    return 1;
}

void test_main(void)
{
    struct callback_register op = { .type = CALLBACKTYPE_syscall32, .address = (unsigned long)came32 };
    struct frame user = { .rip = 0 };
    const unsigned long *users;

    check_is(USER_CODE, 0x400000);
    user_init();
    load_user(code32, code32_end);
    users = va_of_pfn(pfn_of_mfn(user_l4_mfn));
    check_is(mmu_update(kernel_l4_mfn << 12, users[0]), 0); /* the lower half is the kernel's as well */

    trap_hooks[6] = invalid_opcode;
    go32();
    check_is(invalid, 1);

    check_is(HYPERVISOR_callback_op(CALLBACKOP_register, &op), 0);
    for (unsigned on = 0; on < 2; on++) {
        if (on)
            events_on();
        else
            events_off();
        go32();
        check_is(pushed[0], USER_CODE + 2);
        check_is(pushed[1], pushed[4] | 0x200); /* RFLAGS as the processor has them, and as the kernel sees them */
        check_is(pushed[2], USER_CODE + 2);
        check_is(pushed[3] & 0xffff, CODE32 & ~3);
        check_is(pushed[4] & 0x200, on ? 0x200 : 0);
        check_is(pushed[5], saved_rsp);
        check_is(shared_info->vcpu_info[0].evtchn_upcall_mask, 1); /* what user_init said of the other entry counts here */
    }
    check_is(invalid, 1);

    /* 64-bit user code has another entry, and 64-bit kernel code makes hypercalls, as ever. */
    check_is(enter_user(&user)->vector, SYSCALL_VECTOR);
    check_is(HYPERVISOR_xen_version(XENVER_version, 0), 4 << 16 | 17);
}
