/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * From the boot mapping to ours: all of memory at PHYSMAP_BASE, and at KERNEL_BASE the image alone, each part with
 * its own rights.
 *
 * Beside pv/memory.c this shows what a kernel may do that owns its page tables: it writes them like any memory, also
 * while they are in use, and says nothing to anybody.  It also has pages of 2 MiB, which no paravirtual guest gets:
 * they fill nearly all of the physmap, at a 512th of the tables.
 *
 * The physmap maps from 0 to the last of the RAM, holes included.  That is harmless: what answers in a hole is a
 * device, whose range the firmware has declared uncacheable (MTRR), and no page of a hole is ever handed out.
 */
#include <lib.h>
#include <vm.h>

#include "instructions.h"
#include "native.h"

#define LARGE_PAGE (TABLE_ENTRIES * PAGE_SIZE)
#define PHYSMAP_MAX (1UL << 39) /* what one level 3 table maps */

extern char image_start[], image_text_end[], image_rodata_end[], image_end[];

static paddr_t tables_end; /* the tables made here lie behind the image, one after the other */

static pte_t *new_table(void)
{
    pte_t *table = virt(tables_end);

    tables_end += PAGE_SIZE;
    return memset(table, 0, PAGE_SIZE);
}

/* The image's own mapping: code, constants and data, and around them nothing. */
static u64 image_rights(paddr_t frame)
{
    if (frame < image_phys(image_start) || frame >= image_phys(image_end))
        return 0;
    if (frame < image_phys(image_text_end))
        return PTE_KERNEL_RO & ~PTE_NX;
    return frame < image_phys(image_rodata_end) ? PTE_KERNEL_RO : PTE_KERNEL_RW;
}

/* What must not be written there may not be written through the physmap either. */
static bool is_constant(paddr_t frame)
{
    return frame >= image_phys(image_start) && frame < image_phys(image_rodata_end);
}

static u64 physmap_rights(paddr_t frame)
{
    return is_constant(frame) ? PTE_KERNEL_RO : PTE_KERNEL_RW;
}

/* A level 2 entry for 2 MiB that are not all alike: through a table of small pages. */
static pte_t small_pages(paddr_t first, u64 (*rights)(paddr_t frame))
{
    pte_t *table = new_table();

    for (unsigned i = 0; i < TABLE_ENTRIES; i++) {
        paddr_t frame = first + i * PAGE_SIZE;

        if (rights(frame))
            table[i] = frame | rights(frame) | PTE_GLOBAL;
    }
    return phys(table) | PTE_TABLE;
}

static void map_all_memory(paddr_t end)
{
    pte_t *l3 = new_table(), *l2 = NULL;

    for (paddr_t at = 0; at < end; at += LARGE_PAGE) {
        bool mixed = at < image_phys(image_rodata_end) && at + LARGE_PAGE > image_phys(image_start);

        if (!pte_index(at, 2)) { /* each GiB needs its own */
            l2 = new_table();
            l3[pte_index(at, 3)] = phys(l2) | PTE_TABLE;
        }
        l2[pte_index(at, 2)] = mixed ? small_pages(at, physmap_rights) : at | PTE_KERNEL_RW | PTE_LARGE | PTE_GLOBAL;
    }
    boot_l4[pte_index(PHYSMAP_BASE, 4)] = phys(l3) | PTE_TABLE;
    physmap = PHYSMAP_BASE; /* from now on virt() means this */
}

/* The boot tables become the kernel's own. We run on them meanwhile; what changes is only what nobody uses now. */
static void trim_boot_mapping(void)
{
    for (unsigned i = 0; i < TABLE_ENTRIES; i++)
        boot_l2[i] = i * LARGE_PAGE < image_phys(image_end) ? small_pages(i * LARGE_PAGE, image_rights) : 0;
    boot_l3[0] = boot_l4[0] = 0;
    write_cr3(image_phys(boot_l4)); /* forget what the TLB knows of the old ones */
    write_cr4(CR4_KERNEL | CR4_PGE);
}

/* The region that holds the image holds our first tables and the page array, too. */
static paddr_t end_of_image_region(void)
{
    for (unsigned i = 0; i < ram_count; i++)
        if (ram[i].from <= image_phys(image_start) && ram[i].to >= image_phys(image_end))
            return ram[i].to;
    panic("the loader put the kernel where there is no memory");
}

void memory_init(void)
{
    paddr_t end = 0, array, array_end;
    u64 total = 0;

    for (unsigned i = 0; i < ram_count; i++) {
        ram[i].to = MIN(ram[i].to, PHYSMAP_MAX);
        if (ram[i].from >= ram[i].to)
            continue;
        end = MAX(end, ram[i].to);
        total += (ram[i].to - ram[i].from) >> PAGE_SHIFT;
    }
    tables_end = image_phys(image_end);
    map_all_memory(end);
    trim_boot_mapping();

    array = tables_end;
    array_end = PAGE_UP(array + (end >> PAGE_SHIFT) * sizeof(struct page));
    if (array_end + (1UL << 20) > end_of_image_region())
        panic("%lu KiB of memory are not enough", total * 4);
    pages_init(array, end >> PAGE_SHIFT, total);
    for (unsigned i = ram_count; i-- > 0;) { /* the lowest last: the list hands out first what came last */
        pages_add(MAX(ram[i].from, array_end), ram[i].to);
        pages_add(ram[i].from, MIN(ram[i].to, image_phys(image_start)));
    }
    kernel_tables = page_of(image_phys(boot_l4));
}
