/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where Xen delivers exceptions and events.  It pushes
 *
 *     rcx r11 [error code] rip cs rflags rsp ss          (lowest address first)
 *
 * and jumps, with every other register as it was.  We add the rest so that a struct frame of test.h
 * stands on the stack, call C, and go back by HYPERVISOR_iret.
 */
    .text

/* Each stub turns Xen's frame into: rax r11 rcx error rip ... and its vector in %eax. */
.macro STUB vector, has_error
    .balign 32
    popq    %rcx
    popq    %r11
.if !\has_error
    pushq   $0
.endif
    pushq   %rcx
    pushq   %r11
    pushq   %rax
    movl    $\vector, %eax
    jmp     common
.endm

    .balign 32
    .globl trap_stubs                           /* 32 stubs of 32 bytes; then one for events */
trap_stubs:
    .set v, 0
    .rept 32
    .if v == 8 || v == 10 || v == 11 || v == 12 || v == 13 || v == 14 || v == 17
    STUB    v, 1
    .else
    STUB    v, 0
    .endif
    .set v, v + 1
    .endr

    .balign 32
    .globl event_callback
event_callback:
    STUB    255, 0

    .balign 32
    .globl syscall_callback
syscall_callback:
    STUB    256, 0

    .balign 32
    .globl int81_stub                           /* for tests that register a vector above 31 */
int81_stub:
    STUB    0x81, 0

common:
    cld
    pushq   %rdi
    pushq   %rsi
    pushq   %rdx
    pushq   %r10
    pushq   %r8
    pushq   %r9
    pushq   %rbx
    pushq   %rbp
    pushq   %r12
    pushq   %r13
    pushq   %r14
    pushq   %r15
    pushq   %rax                                /* the vector */
    movq    %rsp, %rdi
    movq    %rsp, %rbx
    andq    $-16, %rsp
    call    trap_entry
    movq    %rbx, %rsp

    .globl return_to_frame
return_to_frame:                                /* %rsp points to a struct frame */
    addq    $8, %rsp
    popq    %r15
    popq    %r14
    popq    %r13
    popq    %r12
    popq    %rbp
    popq    %rbx
    popq    %r9
    popq    %r8
    popq    %r10
    popq    %rdx
    popq    %rsi
    popq    %rdi
    movq    $0, 24(%rsp)                        /* iret's flags: 0, restore rcx and r11 from the frame */
    movl    $23, %eax                           /* __HYPERVISOR_iret */
    syscall
    ud2

/* void user_go(struct frame *): leave for that frame; comes back when user_came_back() is called. */
    .globl user_go
user_go:
    pushq   %rbp
    pushq   %rbx
    pushq   %r12
    pushq   %r13
    pushq   %r14
    pushq   %r15
    movq    %rsp, kernel_rsp(%rip)
    movq    %rdi, %rsp
    jmp     return_to_frame

    .globl user_came_back
user_came_back:
    movq    kernel_rsp(%rip), %rsp
    popq    %r15
    popq    %r14
    popq    %r13
    popq    %r12
    popq    %rbx
    popq    %rbp
    ret

    .bss
    .balign 8
kernel_rsp:
    .skip 8
