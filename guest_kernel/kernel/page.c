/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The physical page allocator: one record for each page, the free ones on a list.
 */
#include <lib.h>
#include <page.h>

struct page *pages;
u64 page_count, pages_total, pages_free, pages_tables;
u64 physmap = KERNEL_BASE;

static struct page *free_list;

void pages_init(paddr_t array, u64 count, u64 total)
{
    pages = virt(array);
    page_count = count;
    pages_total = total;
    memset(pages, 0, count * sizeof(struct page));
    for (u64 i = 0; i < count; i++)
        pages[i].references = 1;
}

/* In descending order, so that the list hands out the lowest first. */
void pages_add(paddr_t from, paddr_t to)
{
    for (paddr_t at = PAGE_DOWN(to); at > PAGE_UP(from); at -= PAGE_SIZE)
        page_put(page_of(at - PAGE_SIZE));
}

struct page *page_alloc(void)
{
    struct page *page = free_list;

    if (page) {
        free_list = page->next;
        page->references = 1;
        pages_free--;
    }
    return page;
}

struct page *page_alloc_zeroed(void)
{
    struct page *page = page_alloc();

    if (page)
        memset(page_virt(page), 0, PAGE_SIZE);
    return page;
}

void page_get(struct page *page)
{
    ASSERT(page->references > 0);
    page->references++;
}

void page_put(struct page *page)
{
    ASSERT(page->references > 0);
    ASSERT(!(page->flags & PAGE_LIVE_TABLE));
    if (--page->references == 0) {
        page->next = free_list;
        free_list = page;
        pages_free++;
    }
}
