/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Into the kernel and out of it.
 *
 * The hypervisor takes every exception, event and system call first and "bounces" it to us: it pushes
 *
 *     rcx r11 [error code] rip cs rflags rsp ss          (lowest address first)
 *
 * on the kernel stack (the one stack_switch named, or the current one if we were in the kernel) and jumps to the
 * address we registered.  rcx and r11 are there because `syscall` had destroyed them before Xen could look.
 * We complete that to a struct trap_frame (include/trap.h) and call C.
 */
#include <registers.h>

#define TRAP_INTERRUPT 32
#define TRAP_SYSCALL 33
#define HYPERVISOR_IRET 23

    .text

/* A stub makes of Xen's frame: rax r11 rcx error rip ..., with the vector in %eax. */
.macro STUB vector, has_error
    popq    %rcx
    popq    %r11
.if !\has_error
    pushq   $0
.endif
    pushq   %rcx
    pushq   %r11
    pushq   %rax
    movl    $\vector, %eax
    jmp     trap_common
.endm

    .balign 32
    .globl trap_stubs                   /* one for each exception, 32 bytes apart */
trap_stubs:
    .set v, 0
    .rept 32
    .balign 32
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
    STUB    TRAP_INTERRUPT, 0

/* The same, but the number of the system call in %rax is worth keeping in the frame, which STUB does. */
    .balign 32
    .globl syscall_callback
syscall_callback:
    STUB    TRAP_SYSCALL, 0

/*
 * Xen could not go where our iret wanted: a bad selector or address.  It pushes rcx r11 ds es fs gs below rip.
 * We take it as what it would be on bare hardware, a general protection fault there.
 */
    .balign 32
    .globl failsafe_callback
failsafe_callback:
    popq    %rcx
    popq    %r11
    addq    $32, %rsp
    pushq   $0
    pushq   %rcx
    pushq   %r11
    pushq   %rax
    movl    $13, %eax

trap_common:
    cld
    PUSH_REGISTERS
    pushq   %rax                        /* the vector */
    movl    144(%rsp), %eax             /* cs: bits 32 up hold the upcall mask of before; drop them */
    movq    %rax, 144(%rsp)
    movq    %rsp, %rdi                  /* a trap frame is 22 words: %rsp is aligned here */
    call    trap
    movq    %rsp, %rdi

/* void trap_return(struct trap_frame *): load it all, and let Xen do the last step. */
    .globl trap_return
trap_return:
    movq    %rdi, %rsp
    addq    $8, %rsp
    POP_REGISTERS
    /*
     * Left on the stack: rax r11 rcx error rip cs rflags rsp ss, which is what HYPERVISOR_iret pops, if the error
     * code's place is zero: "restore rcx and r11 too".  It decides by cs whether this goes to user mode, takes the
     * upcall mask from rflags.IF, and delivers at once what is pending then; so no event is lost here.
     */
    movq    $0, 24(%rsp)
    movl    $HYPERVISOR_IRET, %eax
    syscall
    ud2
