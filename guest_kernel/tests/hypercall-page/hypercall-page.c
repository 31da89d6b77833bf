/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A kernel may ask, by a note, for a page of hypercall stubs.  The stub of call n is at 32 * n; calling it is the
 * hypercall, and unlike a bare `syscall` it keeps %rcx and %r11.
 */
#include "test.h"

const char test_name[] = "hypercall-page";

extern unsigned char hypercall_page[PAGE_SIZE];

asm(".pushsection .text.hypercall_page, \"ax\"; .balign 4096; .globl hypercall_page\n"
    "hypercall_page: .fill 4096, 1, 0xcc\n"
    ".popsection\n"
    ".pushsection .note.Xen, \"a\", @note; .balign 4\n"
    ".long 4, 8, 2; .asciz \"Xen\"; .quad hypercall_page\n" /* XEN_ELFNOTE_HYPERCALL_PAGE is 2 */
    ".popsection");

_Static_assert(XEN_ELFNOTE_HYPERCALL_PAGE == 2, "the note above");

void test_main(void)
{
    unsigned long result = 0, rcx = 0xc0ffee, r11 = 0x1111, rdi = XENVER_version, rsi = 0;

    check(hypercall_page[0] != 0xcc); /* filled before our first instruction */
    asm volatile("movq %[r11], %%r11\n"
                 "call *%[stub]\n"
                 "movq %%r11, %[r11]\n"
                 : "=a"(result), "+c"(rcx), [r11] "+b"(r11), "+D"(rdi), "+S"(rsi)
                 : [stub] "r"(hypercall_page + 32 * __HYPERVISOR_xen_version)
                 : "r11", "memory");
    check_is(result >> 16, 4);
    check(rcx == 0xc0ffee && r11 == 0x1111);

    /* iret's stub pushes rcx, r11 and rax first: it is jumped to, with a whole frame behind them. */
    check(memcmp(hypercall_page + 32 * __HYPERVISOR_iret, "\x51\x41\x53\x50", 4) == 0);
}
