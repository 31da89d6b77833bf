/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The first instructions, and how the loader finds them.
 *
 * A PVH loader reads one note, loads the ELF file at its physical addresses, and jumps to the note's address in
 * 32-bit protected mode: flat segments, paging off, interrupts off, %ebx = pvh_start_info.  All of real mode, the
 * BIOS and the disk is behind us by then.  What is left to do is what every x86-64 kernel does first (Intel SDM
 * volume 3A, 10.8.5 "Initializing IA-32e Mode"): page tables, CR4.PAE, CR3, EFER.LME, CR0.PG, a 64-bit code segment.
 *
 * We are linked at KERNEL_BASE but run at physical addresses until paging is on; PA() goes from the one to the other.
 */
#include "instructions.h"

#define KERNEL_BASE 0xffffffff80000000
#define PA(symbol) ((symbol) - KERNEL_BASE)
#define XEN_ELFNOTE_PHYS32_ENTRY 18

#define CPUID_NX (1 << 20)
#define CPUID_LONG_MODE (1 << 29)

    .section .note.Xen, "a", @note
    .balign 4
    .long   4, 8, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz  "Xen"
    .quad   PA(_start)

    .text
    .code32
    .globl _start
_start:
    cld
    movl    %ebx, %esi                  /* cpuid needs %ebx */
    movl    $0x80000001, %eax
    cpuid
    andl    $(CPUID_NX | CPUID_LONG_MODE), %edx
    cmpl    $(CPUID_NX | CPUID_LONG_MODE), %edx
    jne     no_such_cpu

    movl    $CR4_KERNEL, %eax
    movl    %eax, %cr4
    movl    $PA(boot_l4), %eax
    movl    %eax, %cr3
    movl    $MSR_EFER, %ecx
    movl    $(EFER_LME | EFER_SCE | EFER_NXE), %eax
    xorl    %edx, %edx
    wrmsr
    movl    $CR0_KERNEL, %eax
    movl    %eax, %cr0                  /* long mode, but still in a 32-bit segment ... */
    lgdt    PA(boot_gdt)
    ljmp    $KERNEL_CS, $PA(long_mode)  /* ... until here */

no_such_cpu:                            /* and nobody to tell */
    hlt
    jmp     no_such_cpu

    .code64
long_mode:
    movq    $high_half, %rax
    jmp     *%rax
high_half:
    xorl    %eax, %eax
    movl    %eax, %ds                   /* 64-bit code does not use them; the loader's must not stay */
    movl    %eax, %es
    movl    %eax, %fs
    movl    %eax, %gs
    movl    $KERNEL_SS, %eax
    movl    %eax, %ss
    leaq    boot_stack_top(%rip), %rsp
    xorl    %ebp, %ebp                  /* where backtraces end */
    movl    %esi, %edi
    call    native_boot
    ud2

    .section .rodata
    .balign 8
boot_gdt:
    .word   8 * 8 - 1
    .long   PA(gdt)

/*
 * The first page tables, made by the assembler: the first GiB of memory, twice, at 0 and at KERNEL_BASE, in pages of
 * 2 MiB.  Everything is allowed; memory_init() makes the kernel's tables of these.
 */
#define TABLE 0x67 /* PTE_TABLE */
#define LARGE_RW 0xe3 /* PTE_KERNEL_RW and PTE_LARGE, without PTE_NX */

    .data
    .balign 4096
    .globl boot_l4, boot_l3, boot_l2
boot_l4:                                /* entry 0: virtual 0; entry 511: the last 512 GiB */
    .quad   PA(boot_l3) + TABLE
    .skip   510 * 8
    .quad   PA(boot_l3) + TABLE
boot_l3:                                /* entry 0: virtual 0; entry 510: KERNEL_BASE */
    .quad   PA(boot_l2) + TABLE
    .skip   509 * 8
    .quad   PA(boot_l2) + TABLE
    .skip   8
boot_l2:
    .set page, 0
    .rept 512
    .quad   (page << 21) + LARGE_RW
    .set page, page + 1
    .endr

    .bss
    .balign 4096
    .skip 8192
boot_stack_top:
