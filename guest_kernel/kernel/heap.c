/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Small pieces of memory: each page is cut into pieces of one size, a power of two; each size has its own
 * list of free pieces. A page once cut stays cut.
 */
#include <lib.h>
#include <page.h>

struct piece {
    struct piece *next;
};

static struct piece *free_pieces[13]; /* by the logarithm of the size */

static unsigned logarithm(size_t size)
{
    unsigned log = 5;

    while ((1UL << log) < size)
        log++;
    return log;
}

static bool cut_page(unsigned log)
{
    struct page *page = page_alloc();
    u8 *start;

    if (!page)
        return false;
    page->heap_size = 1 << log;
    start = page_virt(page);
    for (size_t at = 0; at < PAGE_SIZE; at += 1UL << log) {
        struct piece *piece = (struct piece *)(start + at);

        piece->next = free_pieces[log];
        free_pieces[log] = piece;
    }
    return true;
}

void *kmalloc(size_t size)
{
    unsigned log = logarithm(size);
    struct piece *piece;

    ASSERT(size <= PAGE_SIZE);
    if (!free_pieces[log] && !cut_page(log))
        return NULL;
    piece = free_pieces[log];
    free_pieces[log] = piece->next;
    return memset(piece, 0, 1UL << log);
}

void kfree(void *p)
{
    struct piece *piece = p;

    if (p) {
        unsigned log = logarithm(page_of(phys(p))->heap_size);

        piece->next = free_pieces[log];
        free_pieces[log] = piece;
    }
}
