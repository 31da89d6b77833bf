/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How this kernel wants to be loaded, and its first instructions.
 *
 * A PV kernel is an ELF file with notes that the domain builder reads.  It never sees real mode: its first
 * instruction finds paging on, 64-bit mode, flat segments, events masked, %rsi = start_info, and a small stack.
 */
#define __ASSEMBLY__
#include <xen/xen_abi.h>

#define ELFNOTE(type, value...)                 \
    .pushsection .note.Xen, "a", @note;         \
    .balign 4;                                  \
    .long 4, 1f - 0f, type;                     \
    .asciz "Xen";                               \
0:  value;                                      \
1:  .balign 4;                                  \
    .popsection

ELFNOTE(XEN_ELFNOTE_GUEST_OS, .asciz "guest_kernel")
ELFNOTE(XEN_ELFNOTE_GUEST_VERSION, .asciz "1")
ELFNOTE(XEN_ELFNOTE_XEN_VERSION, .asciz "xen-3.0")      /* of the interface; it never changed */
ELFNOTE(XEN_ELFNOTE_LOADER, .asciz "generic")
ELFNOTE(XEN_ELFNOTE_VIRT_BASE, .quad KERNEL_BASE)
ELFNOTE(XEN_ELFNOTE_PADDR_OFFSET, .quad 0)
ELFNOTE(XEN_ELFNOTE_ENTRY, .quad _start)
ELFNOTE(XEN_ELFNOTE_PAE_MODE, .asciz "yes")
ELFNOTE(XEN_ELFNOTE_L1_MFN_VALID, .quad 1; .quad 1)     /* mask and value: a PTE with bit 0 set is valid */
ELFNOTE(XEN_ELFNOTE_FEATURES, .asciz "!writable_page_tables|pae_pgdir_above_4gb")
/* dom0: so that it can be tried on a real Xen without a toolstack. */
ELFNOTE(XEN_ELFNOTE_SUPPORTED_FEATURES, .long (1 << XENFEAT_pae_pgdir_above_4gb) | (1 << XENFEAT_dom0))

    .text
    .globl _start
_start:
    cld
    movq    %rsi, %rdi                  /* start_info */
    movq    %rsp, %rsi                  /* the boot stack: the last thing the builder put into memory */
    leaq    boot_stack_top(%rip), %rsp
    xorl    %ebp, %ebp                  /* where backtraces end */
    call    pv_boot
    ud2

    .bss
    .balign 4096
    .skip 8192
boot_stack_top:
