/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The shortest handlers a guest can have, so that what is measured is the way there and back.
 */
#define __ASSEMBLY__
#include <xen/xen_abi.h>

/* From what Xen pushed, with the page fault's error code or a word in its place: back, by HYPERVISOR_iret. */
.macro BACK
    pushq   %rcx
    pushq   %r11
    pushq   %rax
    movl    $__HYPERVISOR_iret, %eax
    syscall
    ud2
.endm

    .text
    .globl fault_entry
fault_entry:
    popq    %rcx
    popq    %r11
    movq    $0, (%rsp)                          /* the error code becomes iret's flags */
    decq    faults_left(%rip)
    jnz     1f
    leaq    faults_left(%rip), %rbx             /* enough: let the access succeed */
1:  BACK

    .globl fault_loop                           /* (count, address): one access, that many faults */
fault_loop:
    pushq   %rbx
    movq    %rdi, faults_left(%rip)
    movq    %rsi, %rbx
    movq    (%rbx), %rax
    popq    %rbx
    ret

    .globl syscall_entry                        /* %eax: 0 to go back, 1 to leave user mode for good */
syscall_entry:
    testl   %eax, %eax
    jnz     1f
    popq    %rcx
    popq    %r11
    pushq   $0
    BACK
1:  movq    kernel_stack(%rip), %rsp
    popq    %rbx
    popq    %rbp
    popq    %r12
    popq    %r13
    popq    %r14
    popq    %r15
    ret

    .globl run_user                             /* (rip, rsp, count in %rbx): until it says 1 */
run_user:
    pushq   %r15
    pushq   %r14
    pushq   %r13
    pushq   %r12
    pushq   %rbp
    pushq   %rbx
    movq    %rsp, kernel_stack(%rip)
    movq    %rdx, %rbx
    pushq   $FLAT_USER_SS
    pushq   %rsi
    pushq   $0x202
    pushq   $FLAT_USER_CS
    pushq   %rdi
    pushq   $0
    xorl    %eax, %eax
    BACK

    .globl user_code, user_code_end             /* copied to a user page */
user_code:
    xorl    %eax, %eax
1:  syscall
    decq    %rbx
    jnz     1b
    incl    %eax
    syscall
    ud2
user_code_end:

    .bss
    .balign 8
faults_left:
    .skip 8
kernel_stack:
    .skip 8
