/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * All of the initial mapping is executable, as libxenguest makes it (setup_pgtables_x86_64): a kernel may run code from
 * its data, from its stack, from what the builder gave it and from what lies behind, before it has tables of its own.
 */
#include "test.h"

const char test_name[] = "initial-mapping";

#define W_X (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)

static unsigned char in_data[16] = { 0xb8, 7, 0, 0, 0, 0xc3 }; /* movl $7, %eax; ret */
static unsigned char in_bss[16];
PAGE(page);

static unsigned run(const void *at)
{
    return ((unsigned (*)(void))at)();
}

/* Code is written, run, and written again where it stands, through the one mapping that there is. */
static void rewrite(unsigned char *at)
{
    for (unsigned i = 1; i <= 300; i++) {
        memcpy(at, in_data, 6);
        at[1] = (unsigned char)i;
        barrier();
        check_is(run(at), i & 255);
    }
}

/* The call ends where it began to fetch. */
static int return_at_once(struct frame *frame)
{
    frame->rax = 0;
    frame->rip = *(unsigned long *)frame->rsp;
    frame->rsp += 8;
    return 1;
}

void test_main(void)
{
    unsigned char on_stack[16];
    unsigned long end = start_info->pt_base + start_info->nr_pt_frames * PAGE_SIZE + 0x80000;

    for (unsigned long va = VIRT_BASE; va < end; va += PAGE_SIZE)
        if (va != ((unsigned long)shared_info & ~0xfffUL))
            check((*pte_of((void *)va, 1) & (PTE_P | PTE_NX)) == PTE_P);

    check_is(run(in_data), 7);
    rewrite(in_bss);
    rewrite(on_stack);
    rewrite((unsigned char *)start_info + PAGE_SIZE - 16);
    rewrite((unsigned char *)(end - PAGE_SIZE)); /* a page that nothing is in */

    /* The same by an entry of the kernel's own, and not by one with NX. */
    rewrite(page);
    check_is(remap(page, PTE(mfn_of(page), W_X | PTE_NX)), 0);
    trap_hooks[14] = return_at_once;
    check_is(run(page), 0);
    trap_hooks[14] = 0;
    check_is(last_trap.vector, 14);
    check_is(last_trap.error, 0x11);
    check_is(remap(page, PTE(mfn_of(page), W_X)), 0);
    check_is(run(page), 300 & 255);
    rewrite(page);
    rewrite(page + PAGE_SIZE - 16);
}
