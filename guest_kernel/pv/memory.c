/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * From the builder's memory to ours.
 *
 * The builder leaves one mapping: from KERNEL_BASE, the first few megabytes of our memory in a row (our image, the
 * p2m list, start_info, rings, the page tables, a stack, and at least 512 KiB of free pages).  We want another: all
 * of memory at PHYSMAP_BASE, and at KERNEL_BASE the image alone, each part with its own rights.
 *
 * The rule that shapes this file: **no frame may be a page table and writable at once, by any mapping.**  So the new
 * tables are written through a window, one after the other, and only when no writable mapping of any of them is left
 * are they shown to the hypervisor, which checks them all and thereby makes them tables.
 */
#include <lib.h>

#include "pv.h"
#include <vm.h>

u64 *p2m;
paddr_t physmap_tables;

extern char image_start[], image_text_end[], image_rodata_end[], image_end[];

static u8 window[PAGE_SIZE] PAGE_ALIGNED;

static paddr_t boot_tables, boot_tables_end, tables_end;

static void must(long result, const char *what)
{
    if (result < 0)
        panic("boot: %s: error %ld", what, -result);
}

static void set_mapping(u64 va, pte_t pte)
{
    must(HYPERVISOR_update_va_mapping(va, pte, UVMF_INVLPG), "update_va_mapping");
}

static u64 *open_window(paddr_t frame)
{
    set_mapping((u64)window, machine_address(frame) | PTE_KERNEL_RW);
    return (u64 *)window;
}

/* The entry for `va` in the level's table, or NULL. */
static pte_t *find_entry(u64 va, int level)
{
    pte_t *table = virt(boot_tables);

    for (int at = 4; at > level; at--) {
        pte_t pte = table[pte_index(va, at)];

        if (!(pte & PTE_PRESENT))
            return NULL;
        table = virt(pseudo_frame((pte & PTE_FRAME) >> PAGE_SHIFT) << PAGE_SHIFT);
    }
    return table + pte_index(va, level);
}

/* How the physmap may show a frame. */
static u64 physmap_rights(paddr_t frame)
{
    bool table = (frame >= boot_tables && frame < boot_tables_end) || (frame >= physmap_tables && frame < tables_end);
    bool constant = frame >= image_phys(image_start) && frame < image_phys(image_rodata_end);

    return table || constant ? PTE_KERNEL_RO : PTE_KERNEL_RW;
}

/* A table whose entries lead to `count` consecutive frames. */
static void fill_table(paddr_t table, paddr_t first, u64 count, u64 (*rights)(paddr_t frame))
{
    u64 *entry = open_window(table);

    for (u64 i = 0; i < TABLE_ENTRIES; i++) {
        paddr_t frame = first + i * PAGE_SIZE;

        entry[i] = i < count ? machine_address(frame) | rights(frame) : 0;
    }
}

static u64 table_rights(paddr_t frame)
{
    return PTE_TABLE;
}

static u64 divide_up(u64 n, u64 by)
{
    return (n + by - 1) / by;
}

/* All levels lie one after the other: the L1 tables, the L2 tables, the L3 table. */
static void build_physmap(u64 frames)
{
    u64 l1_count = divide_up(frames, TABLE_ENTRIES), l2_count = divide_up(l1_count, TABLE_ENTRIES);
    paddr_t l2_tables = physmap_tables + l1_count * PAGE_SIZE, l3_table = l2_tables + l2_count * PAGE_SIZE;

    tables_end = l3_table + PAGE_SIZE;
    for (paddr_t table = physmap_tables; table < tables_end; table += PAGE_SIZE) {
        pte_t *entry = find_entry(KERNEL_BASE + table, 1);

        if (entry && *entry & PTE_PRESENT)
            set_mapping(KERNEL_BASE + table, 0);
    }
    for (u64 i = 0; i < l1_count; i++)
        fill_table(physmap_tables + i * PAGE_SIZE, i * TABLE_ENTRIES * PAGE_SIZE,
                   MIN(frames - i * TABLE_ENTRIES, TABLE_ENTRIES), physmap_rights);
    for (u64 i = 0; i < l2_count; i++)
        fill_table(l2_tables + i * PAGE_SIZE, physmap_tables + i * TABLE_ENTRIES * PAGE_SIZE,
                   MIN(l1_count - i * TABLE_ENTRIES, TABLE_ENTRIES), table_rights);
    fill_table(l3_table, l2_tables, l2_count, table_rights);
    set_mapping((u64)window, 0);

    /* The one update that matters: Xen validates everything below, and from now on guards it. */
    struct mmu_update link = {
        .ptr = machine_address(boot_tables + pte_index(PHYSMAP_BASE, 4) * sizeof(pte_t)) | MMU_NORMAL_PT_UPDATE,
        .val = machine_address(l3_table) | PTE_TABLE,
    };

    must(HYPERVISOR_mmu_update(&link, 1, NULL, DOMID_SELF), "linking the physmap");
}

/* At KERNEL_BASE: the image with the rights of its parts, and nothing else. */
static void trim_boot_mapping(void)
{
    static struct mmu_update updates[TABLE_ENTRIES];
    pte_t *entry;

    for (u64 va = KERNEL_BASE; find_entry(va, 2) && *find_entry(va, 2) & PTE_PRESENT; va += TABLE_ENTRIES * PAGE_SIZE) {
        unsigned count = 0;

        entry = find_entry(va, 1);
        for (unsigned i = 0; i < TABLE_ENTRIES; i++) {
            u64 at = va + i * PAGE_SIZE;
            pte_t pte = entry[i];

            if (at < (u64)image_start || at >= (u64)image_end)
                pte = 0;
            else if (at < (u64)image_text_end)
                pte &= ~(PTE_WRITE | PTE_NX);
            else if (at < (u64)image_rodata_end)
                pte = (pte & ~PTE_WRITE) | PTE_NX;
            else if (pte & PTE_PRESENT)
                pte |= PTE_NX;
            if (pte != entry[i])
                updates[count++] = (struct mmu_update){
                    .ptr = machine_address(phys(entry + i)) | MMU_NORMAL_PT_UPDATE, .val = pte };
        }
        must(HYPERVISOR_mmu_update(updates, count, NULL, DOMID_SELF), "trimming the boot mapping");
    }
    pv_flush_all();
}

void memory_init(u64 boot_stack)
{
    u64 frames = start_info->nr_pages;
    paddr_t array, array_end;

    p2m = (u64 *)start_info->mfn_list;
    boot_tables = phys((void *)start_info->pt_base);
    boot_tables_end = boot_tables + start_info->nr_pt_frames * PAGE_SIZE;
    physmap_tables = MAX(boot_tables_end, PAGE_UP(boot_stack - KERNEL_BASE)); /* behind all that the builder made */

    build_physmap(frames);
    /* From now on virt() means the physmap; what we point at moves there. */
    start_info = (void *)(PHYSMAP_BASE + phys(start_info));
    p2m = (u64 *)(PHYSMAP_BASE + phys(p2m));
    physmap = PHYSMAP_BASE;
    trim_boot_mapping();

    array = tables_end;
    array_end = PAGE_UP(array + frames * sizeof(struct page));
    if (array_end + (1UL << 20) > frames * PAGE_SIZE)
        panic("%lu KiB of memory are not enough", frames * 4);
    pages_init(array, frames, frames);
    pages_add(0, image_phys(image_start));
    pages_add(array_end, frames * PAGE_SIZE);
    for (paddr_t at = boot_tables; at < boot_tables_end; at += PAGE_SIZE)
        page_of(at)->flags |= PAGE_LIVE_TABLE;
    for (paddr_t at = physmap_tables; at < tables_end; at += PAGE_SIZE)
        page_of(at)->flags |= PAGE_LIVE_TABLE;
    kernel_tables = page_of(boot_tables);
}
