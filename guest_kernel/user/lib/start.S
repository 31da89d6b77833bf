/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where a program begins: the kernel has put argc into %rdi and argv into %rsi.
 */
    .section .text.start, "ax"
    .globl _start
_start:
    andq    $-16, %rsp
    xorl    %ebp, %ebp
    call    main
    movl    %eax, %edi
    call    exit
