/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Direct paging: our page tables are the ones the MMU walks, so they hold machine frame numbers, and we may read
 * but not write them.  Every table is write-protected in the physmap while it is live.
 */
#include <lib.h>
#include <vm.h>

#include "pv.h"

pte_t pv_make_pte(paddr_t to, u64 flags)
{
    return machine_address(to) | flags;
}

paddr_t pv_pte_physical(pte_t pte)
{
    return pseudo_frame((pte & PTE_FRAME) >> PAGE_SHIFT) << PAGE_SHIFT;
}

static bool is_live(const void *slot)
{
    return page_of(phys(slot))->flags & PAGE_LIVE_TABLE;
}

void pv_set_pte(pte_t *slot, pte_t value)
{
    if (is_live(slot))
        queue_mmu_update(machine_address(phys(slot)), value);
    else
        *slot = value;
}

void pv_set_pte_at(u64 va, pte_t *slot, pte_t value)
{
    queue_call(__HYPERVISOR_update_va_mapping, va, value, UVMF_INVLPG, 0);
}

/* The physmap's own entry for a frame. Its L1 tables lie in a row, so this needs no walk. */
static void physmap_rights(struct page *page, u64 rights)
{
    paddr_t frame = page_phys(page);

    queue_mmu_update(machine_address(physmap_tables + (frame >> PAGE_SHIFT) * sizeof(pte_t)),
                     machine_address(frame) | rights);
}

void pv_table_live(struct page *table)
{
    table->flags |= PAGE_LIVE_TABLE;
    physmap_rights(table, PTE_KERNEL_RO);
}

static void table_dead(struct page *table)
{
    table->flags &= ~PAGE_LIVE_TABLE;
    physmap_rights(table, PTE_KERNEL_RW);
}

/* Pinning a root makes Xen validate all below it once, and keep it valid whether a CPU runs on it or not. */
void pv_space_live(struct address_space *space)
{
    batch_begin();
    space_each_table(space, pv_table_live);
    queue_mmuext(MMUEXT_PIN_L4_TABLE, machine_frame(page_phys(space->kernel_root)), 0);
    queue_mmuext(MMUEXT_PIN_L4_TABLE, machine_frame(page_phys(space->user_root)), 0);
    batch_end();
}

void pv_space_dead(struct address_space *space)
{
    batch_begin();
    queue_mmuext(MMUEXT_UNPIN_TABLE, machine_frame(page_phys(space->user_root)), 0);
    queue_mmuext(MMUEXT_UNPIN_TABLE, machine_frame(page_phys(space->kernel_root)), 0);
    space_each_table(space, table_dead);
    batch_end();
}

void pv_flush_page(u64 va)
{
    queue_mmuext(MMUEXT_INVLPG_LOCAL, va, 0);
}

void pv_flush_all(void)
{
    queue_mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
}

/* The kernel's root is for kernel mode, the user's for user mode; Xen changes between them at each crossing. */
void pv_switch_to(struct address_space *space, u64 stack_top, bool fpu_disable)
{
    batch_begin();
    queue_mmuext(MMUEXT_NEW_BASEPTR, machine_frame(page_phys(space->kernel_root)), 0);
    queue_mmuext(MMUEXT_NEW_USER_BASEPTR, machine_frame(page_phys(space->user_root)), 0);
    queue_call(__HYPERVISOR_stack_switch, FLAT_KERNEL_SS, stack_top, 0, 0);
    queue_call(__HYPERVISOR_fpu_taskswitch, fpu_disable, 0, 0, 0);
    batch_end();
}
