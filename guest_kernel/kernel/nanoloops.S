/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The loops of nanobench.c: (count) -> how many of them went as they should.  Where an instruction must fault, the
 * trap handler goes on at the label named failed.
 */
    .text

    .balign 16
    .globl nanobench_mark               /* (kind): nothing; but who watches from outside watches for it */
nanobench_mark:
    ret

    .balign 16
leaf:
    ret

    .balign 16
    .globl nanobench_calls              /* call and return */
nanobench_calls:
    movq    %rdi, %rax
1:  call    leaf
    decq    %rdi
    jnz     1b
    ret

    .balign 16
    .globl nanobench_loads, nanobench_load, nanobench_load_failed
nanobench_loads:                        /* read where no process has memory */
    xorl    %eax, %eax
    movl    $16, %edx
nanobench_load:
    movb    (%rdx), %cl
    jmp     1f
nanobench_load_failed:
    incq    %rax
1:  decq    %rdi
    jnz     nanobench_load
    ret

    .balign 16
    .globl nanobench_divides, nanobench_divide, nanobench_divide_failed
nanobench_divides:                      /* divide by zero */
    xorl    %esi, %esi
    xorl    %ecx, %ecx
1:  movl    $1, %eax
    xorl    %edx, %edx
nanobench_divide:
    divq    %rcx
    jmp     2f
nanobench_divide_failed:
    incq    %rsi
2:  decq    %rdi
    jnz     1b
    movq    %rsi, %rax
    ret
