/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * For entry.S of either column: the part of struct trap_frame (trap.h) that we push ourselves, below rax.
 */
#pragma once

.macro PUSH_REGISTERS
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
.endm

.macro POP_REGISTERS
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
.endm
