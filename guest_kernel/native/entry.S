/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Into the kernel and out of it.
 *
 * For exceptions and interrupts the CPU takes the stack of TSS.rsp0 (or stays on the current one, if it was in the
 * kernel) and pushes ss rsp rflags cs rip, and for some an error code.  We complete that to a struct trap_frame
 * (include/trap.h) and call C.  The way back is iretq.
 *
 * `syscall` is faster because it does much less: rcx = rip, r11 = rflags, and it jumps, still on the user's stack.  We
 * build by hand what an exception would have pushed, so that C sees one kind of frame; the way back is sysretq.
 */
#include <registers.h>
#include "instructions.h"

#define TRAP_INTERRUPT 32
#define TRAP_SYSCALL 33
#define TSS_RSP0 4                      /* in struct tss */

    .text

/* A stub makes: rax r11 rcx error rip ..., with the vector in %eax. The error code, if any, was pushed before. */
.macro STUB vector, next
    pushq   %rcx
    pushq   %r11
    pushq   %rax
    movl    $\vector, %eax
    jmp     \next
.endm

    .balign 32
    .globl trap_stubs                   /* one for each vector, 32 bytes apart */
trap_stubs:
    .set v, 0
    .rept 32
    .balign 32
    .if v != 8 && v != 10 && v != 11 && v != 12 && v != 13 && v != 14 && v != 17 && v != 21 && v != 29 && v != 30
    pushq   $0
    .endif
    .if v == 2 || v == 8 || v == 18
    STUB    v, trap_last_resort
    .else
    STUB    v, trap_common
    .endif
    .set v, v + 1
    .endr
    .rept 16                            /* interrupts: which line, in the place of the error code */
    .balign 32
    pushq   $(v - 32)
    STUB    TRAP_INTERRUPT, trap_common
    .set v, v + 1
    .endr

/* From the stub on: the other registers, and below them the vector. */
.macro COMPLETE_FRAME
    cld
    PUSH_REGISTERS
    pushq   %rax
    movq    %rsp, %rdi                  /* a trap frame is 22 words: %rsp is aligned here */
.endm

    .balign 32
trap_last_resort:
    COMPLETE_FRAME
    call    trap_fatal
    ud2

/*
 * One CPU, and interrupts off (MSR_FMASK): a global variable holds the user's stack for two instructions.  An NMI
 * between them has a stack of its own.
 */
    .balign 32
    .globl syscall_entry
syscall_entry:
    movq    %rsp, user_rsp(%rip)
    movq    tss + TSS_RSP0(%rip), %rsp
    pushq   $USER_SS
    pushq   user_rsp(%rip)
    pushq   %r11
    pushq   $USER_CS
    pushq   %rcx
    pushq   $0
    pushq   %rcx
    pushq   %r11
    pushq   %rax                        /* the number of the system call */
    movl    $TRAP_SYSCALL, %eax

trap_common:
    COMPLETE_FRAME
    call    trap
    movq    %rsp, %rdi

/* void trap_return(struct trap_frame *): load it all, and go. */
    .globl trap_return
trap_return:
    movq    %rdi, %rsp
    cmpl    $TRAP_SYSCALL, (%rsp)       /* nothing below but the jump looks at the flags, or changes them */
    popq    %r15                        /* the vector; the next one is the value */
    POP_REGISTERS
    popq    %rax
    je      1f
    popq    %r11
    popq    %rcx
    addq    $8, %rsp                    /* the error code */
    iretq

    /*
     * Left on the stack: r11 rcx error rip cs rflags rsp ss.  sysretq with an address that is not canonical would
     * fault in the kernel, on the user's stack, on an Intel CPU; but here no program's code lies near that border.
     */
1:  movq    24(%rsp), %rcx
    movq    40(%rsp), %r11
    movq    48(%rsp), %rsp
    sysretq

    .bss
    .balign 8
user_rsp:
    .skip   8
