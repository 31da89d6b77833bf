/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Page tables of address spaces.
 *
 * In a paravirtual guest, a table the MMU walks cannot be written, only asked to be changed (pv.set_pte).  So a
 * whole space is built first, with plain stores, and declared live at once (space_live): one call instead of
 * hundreds.  Later changes go through pv.set_pte, which knows what is live; between batch_begin and batch_end
 * they are only queued, so nothing read back there is up to date.
 */
#include <api/errno.h>
#include <lib.h>
#include <pv_ops.h>
#include <vm.h>

#define TABLE_SPAN (TABLE_ENTRIES * PAGE_SIZE) /* what a table of the lowest level maps */

struct page *kernel_tables;

static struct page *table_create(struct address_space *space)
{
    struct page *table = page_alloc_zeroed();

    if (!table)
        return NULL;
    pages_tables++;
    if (space->live)
        pv.table_live(table);
    return table;
}

static void table_free(struct page *table)
{
    pages_tables--;
    page_put(table);
}

static pte_t *entries(struct page *table)
{
    return page_virt(table);
}

static struct page *table_under(pte_t entry)
{
    return page_of(pv.pte_physical(entry));
}

struct address_space *space_create(void)
{
    struct address_space *space = kmalloc(sizeof(*space));
    unsigned first = pte_index(PHYSMAP_BASE, 4);

    if (!space)
        return NULL;
    space->kernel_root = table_create(space);
    space->user_root = pv.two_roots ? table_create(space) : space->kernel_root;
    if (!space->kernel_root || !space->user_root) {
        space_destroy(space);
        return NULL;
    }
    /* The kernel's half is the same tables in every space: only the root's entries are copied. */
    memcpy(entries(space->kernel_root) + first, entries(kernel_tables) + first,
           (TABLE_ENTRIES - first) * sizeof(pte_t));
    return space;
}

/* Complete: from now on the MMU may use it. */
void space_live(struct address_space *space)
{
    pv.space_live(space);
    space->live = true;
}

pte_t *space_pte(struct address_space *space, u64 va, bool create)
{
    struct page *table = space->kernel_root;

    for (int level = 4; level > 1; level--) {
        pte_t *slot = entries(table) + pte_index(va, level);

        if (*slot & PTE_PRESENT) {
            table = table_under(*slot);
            continue;
        }
        if (!create || !(table = table_create(space)))
            return NULL;
        table->next = space->tables;
        space->tables = table;
        pte_t entry = pv.make_pte(page_phys(table), PTE_TABLE);

        pv.set_pte(slot, entry);
        if (level == 4 && pv.two_roots) /* their lower halves are alike, always */
            pv.set_pte(entries(space->user_root) + pte_index(va, 4), entry);
    }
    return entries(table) + pte_index(va, 1);
}

int space_map(struct address_space *space, u64 va, struct page *page, u64 flags)
{
    pte_t *slot = space_pte(space, va, true);

    if (!slot)
        return -ENOMEM;
    pv.set_pte(slot, pv.make_pte(page_phys(page), flags));
    space->user_pages++;
    return 0;
}

/* Call for every mapped page: those of the areas, table by table, so that what has no table is passed over. */
static void each_page(struct address_space *space, void *with, void (*call)(void *with, u64 va, pte_t *slot))
{
    for (struct area *area = space->areas; area; area = area->next)
        for (u64 va = area->start, end; va < area->end; va = end) {
            pte_t *slot = space_pte(space, va, false);

            end = MIN(area->end, (va | (TABLE_SPAN - 1)) + 1);
            for (; slot && va < end; va += PAGE_SIZE, slot++)
                if (*slot & PTE_PRESENT)
                    call(with, va, slot);
        }
}

void space_each_table(struct address_space *space, void (*call)(struct page *table))
{
    for (struct page *table = space->tables; table; table = table->next)
        call(table);
    call(space->kernel_root);
    if (pv.two_roots)
        call(space->user_root);
}

/* fork, for one page: both have it now, and neither may write it before making a copy. */
static void share_page(void *with, u64 va, pte_t *slot)
{
    struct address_space *copy = with;
    pte_t pte = *slot;

    if (pte & PTE_WRITE) {
        pte = (pte & ~PTE_WRITE) | PTE_COW;
        pv.set_pte(slot, pte);
    }
    pte_t *copied = space_pte(copy, va, true);

    if (!copied)
        return; /* space_copy counts the pages and sees that one is missing */
    page_get(page_of(pv.pte_physical(pte)));
    *copied = pte;
    copy->user_pages++;
}

struct address_space *space_copy(struct address_space *from)
{
    struct address_space *copy = space_create();

    if (!copy)
        return NULL;
    copy->program_break = from->program_break;
    if (area_copy_all(copy, from)) {
        space_destroy(copy);
        return NULL;
    }
    pv.batch_begin();
    each_page(from, copy, share_page);
    pv.flush_all(); /* the TLB may still think it can write */
    space_live(copy);
    pv.batch_end();
    if (copy->user_pages != from->user_pages) {
        space_destroy(copy);
        return NULL;
    }
    return copy;
}

static void drop_page(void *with, u64 va, pte_t *slot)
{
    page_put(page_of(pv.pte_physical(*slot)));
}

void space_destroy(struct address_space *space)
{
    if (space->live)
        pv.space_dead(space);
    space->live = false;
    if (space->kernel_root) {
        each_page(space, NULL, drop_page);
        table_free(space->kernel_root);
    }
    while (space->tables) {
        struct page *table = space->tables;

        space->tables = table->next;
        table_free(table);
    }
    if (space->user_root && pv.two_roots)
        table_free(space->user_root);
    area_free_all(space);
    kfree(space);
}

/*
 * The pages go to the free list before the TLB has forgotten them; that is safe because nobody can allocate
 * one before batch_end, and batch_end does the flush.
 */
static void space_unmap(struct address_space *space, u64 start, u64 end)
{
    u64 unmapped = 0, last = 0;

    pv.batch_begin();
    for (u64 va = start; va < end; va += PAGE_SIZE) {
        pte_t *slot = space_pte(space, va, false);

        if (!slot) { /* no table: nothing in these 2 MiB */
            va |= TABLE_SPAN - PAGE_SIZE;
            continue;
        }
        if (*slot & PTE_PRESENT) {
            page_put(page_of(pv.pte_physical(*slot)));
            pv.set_pte(slot, 0);
            unmapped++;
            last = va;
        }
    }
    if (unmapped == 1)
        pv.flush_page(last);
    else if (unmapped)
        pv.flush_all();
    pv.batch_end();
    space->user_pages -= unmapped;
}

int space_remove(struct address_space *space, u64 start, u64 end)
{
    int error = area_remove(space, start, end);

    if (!error)
        space_unmap(space, start, end);
    return error;
}
