/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The compute-bound loops, and the loop of exits that the unit "callback" is measured with.  The very same
 * instructions, at the same addresses and through the same page tables, are run in a bare engine, entered at
 * bare_entry: so nothing here makes a hypercall, and the stack is our own.
 */
    .text

    .balign 64
    .globl bare_entry                           /* (loop, count): ticks in %rax at the ud2 */
bare_entry:
    leaq    bare_stack_top(%rip), %rsp
    call    run_timed
    ud2

    .balign 64
    .globl run_timed                            /* (loop, count) -> ticks */
run_timed:
    pushq   %rbx
    pushq   %r12
    movq    %rdi, %rbx
    movq    %rsi, %rdi
    rdtsc
    shlq    $32, %rdx
    leaq    (%rax, %rdx), %r12
    call    *%rbx
    rdtsc
    shlq    $32, %rdx
    addq    %rdx, %rax
    subq    %r12, %rax
    popq    %r12
    popq    %rbx
    ret

    .balign 64
    .globl loop_xorshift                        /* x ^= x << 13; x ^= x >> 7; x ^= x << 17 */
loop_xorshift:
    movabsq $88172645463325252, %rax
1:  movq    %rax, %rdx
    shlq    $13, %rdx
    xorq    %rdx, %rax
    movq    %rax, %rdx
    shrq    $7, %rdx
    xorq    %rdx, %rax
    movq    %rax, %rdx
    shlq    $17, %rdx
    xorq    %rdx, %rax
    decq    %rdi
    jnz     1b
    ret

    .balign 64
    .globl loop_branchy                         /* three branches a round, two of them on bits of a sequence */
loop_branchy:
    movabsq $6364136223846793005, %rcx
    movl    $1, %eax
    xorl    %edx, %edx
1:  imulq   %rcx, %rax
    addq    $12345, %rax
    btq     $40, %rax
    jc      2f
    addq    $3, %rdx
    jmp     3f
2:  subq    $5, %rdx
3:  btq     $51, %rax
    jnc     4f
    xorq    %rax, %rdx
4:  decq    %rdi
    jnz     1b
    ret

    .balign 64
    .globl loop_callret
loop_callret:
1:  call    leaf
    decq    %rdi
    jnz     1b
    ret
    .balign 16
leaf:
    leaq    1(%rax), %rax
    ret

    .balign 64
    .globl loop_loads                           /* four loads a round, through 16 KiB */
loop_loads:
    leaq    source(%rip), %rsi
    xorl    %ecx, %ecx
1:  movq    (%rsi, %rcx), %rax
    addq    8(%rsi, %rcx), %rax
    addq    16(%rsi, %rcx), %rax
    addq    24(%rsi, %rcx), %rax
    addq    $32, %rcx
    andq    $16383, %rcx
    decq    %rdi
    jnz     1b
    ret

    .balign 64
    .globl loop_movsq                           /* 4 KiB a round */
loop_movsq:
    movq    %rdi, %rdx
    cld
1:  leaq    source(%rip), %rsi
    leaq    target(%rip), %rdi
    movl    $512, %ecx
    rep movsq
    decq    %rdx
    jnz     1b
    ret

    .balign 64
    .globl loop_int                             /* an exit a round; for the bare engine only */
loop_int:
1:  int     $0x20
    decq    %rdi
    jnz     1b
    ret

    .bss
    .balign 4096
source:
    .skip 16384
target:
    .skip 4096
bare_stack:
    .skip 4096
bare_stack_top:
