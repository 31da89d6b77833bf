/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Page tables that are ours: an entry is a word in memory, and changing it is a store.  The CPU may have the old one
 * in its TLB, and asks nobody before it uses it; when to say so is in Intel SDM volume 3A, 4.10.4 "Invalidation of
 * TLBs".  In short: after taking rights away, or changing where an entry leads; not after adding.
 */
#include <vm.h>

#include "instructions.h"
#include "native.h"

static paddr_t root; /* what CR3 holds */

pte_t native_make_pte(paddr_t to, u64 flags)
{
    return to | flags;
}

paddr_t native_pte_physical(pte_t pte)
{
    return pte & PTE_FRAME;
}

/* volatile: one store of eight bytes, because the MMU may look at any time. */
void native_set_pte(pte_t *slot, pte_t value)
{
    *(volatile pte_t *)slot = value;
}

void native_set_pte_at(u64 va, pte_t *slot, pte_t value)
{
    native_set_pte(slot, value);
    native_flush_page(va);
}

void native_table_live(struct page *table) {}
void native_space_live(struct address_space *space) {}
void native_batch(void) {}

void native_flush_page(u64 va)
{
    asm volatile("invlpg (%0)" : : "r"(va) : "memory");
}

/* All but the kernel's pages, which are global and never change. */
void native_flush_all(void)
{
    write_cr3(root);
}

/* Loading CR3 also forgets the old space's entries in the TLB: x86 did not tag them for its first thirty years. */
void native_switch_to(struct address_space *space, u64 stack_top, bool fpu_disable)
{
    root = page_phys(space->kernel_root);
    write_cr3(root);
    set_kernel_stack(stack_top);
    native_fpu_disable(fpu_disable);
}
