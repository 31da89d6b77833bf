/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where a program begins under Linux: argc is on the stack, and argv above it.
 */
    .section .text.start, "ax"
    .globl _start
_start:
    movq    (%rsp), %rdi
    leaq    8(%rsp), %rsi
    andq    $-16, %rsp
    xorl    %ebp, %ebp
    call    begin
    movl    %eax, %edi
    call    exit
