/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How a PV guest begins: the Xen ELF notes tell the domain builder where to put it, and the first
 * instruction runs at ENTRY with paging on, flat segments, events masked, %rsi = start_info.
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

ELFNOTE(XEN_ELFNOTE_GUEST_OS, .asciz "pvhv-test")
ELFNOTE(XEN_ELFNOTE_GUEST_VERSION, .asciz "1")
ELFNOTE(XEN_ELFNOTE_XEN_VERSION, .asciz "xen-3.0")
ELFNOTE(XEN_ELFNOTE_VIRT_BASE, .quad VIRT_BASE)
ELFNOTE(XEN_ELFNOTE_PADDR_OFFSET, .quad 0)
ELFNOTE(XEN_ELFNOTE_ENTRY, .quad _start)
ELFNOTE(XEN_ELFNOTE_FEATURES, .asciz "!writable_page_tables|pae_pgdir_above_4gb")
/* Also fit to be a dom0, so that a test can be tried on a real Xen without any toolstack. */
ELFNOTE(XEN_ELFNOTE_SUPPORTED_FEATURES, .long (1 << XENFEAT_pae_pgdir_above_4gb) | (1 << XENFEAT_dom0))
ELFNOTE(XEN_ELFNOTE_PAE_MODE, .asciz "yes")
ELFNOTE(XEN_ELFNOTE_L1_MFN_VALID, .quad 1; .quad 1)    /* mask and value: a PTE with bit 0 set is valid */
ELFNOTE(XEN_ELFNOTE_LOADER, .asciz "generic")

    .text
    .globl _start
_start:
    cld
    leaq    boot_stack_top(%rip), %rsp
    xorl    %ebp, %ebp                          /* the end of every stack trace */
    movq    %rsi, %rdi
    call    test_boot                           /* does not return */
    ud2

    .bss
    .balign 4096
boot_stack:
    .skip 16384
boot_stack_top:
