/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A heap: a list of blocks in the order of their addresses, first fit, neighbours merged when freed.
 */
#include <user.h>

struct block {
    size_t size; /* with this header; a multiple of 16 */
    struct block *next;
};

static struct block *free_blocks;

static struct block *more(size_t size)
{
    size_t n = (size + 16383) & ~16383UL;
    struct block *block = sbrk((long)n);

    if ((long)block < 0 && (long)block > -4096)
        return NULL;
    block->size = n;
    return block;
}

void *malloc(size_t n)
{
    size_t size = (n + sizeof(struct block) + 15) & ~15UL;

    for (;;) {
        for (struct block **link = &free_blocks; *link; link = &(*link)->next) {
            struct block *block = *link;

            if (block->size < size)
                continue;
            if (block->size >= size + 64) {
                struct block *rest = (struct block *)((char *)block + size);

                rest->size = block->size - size;
                rest->next = block->next;
                block->size = size;
                *link = rest;
            } else {
                *link = block->next;
            }
            return block + 1;
        }
        struct block *fresh = more(size);

        if (!fresh)
            return NULL;
        free(fresh + 1);
    }
}

static int merge(struct block *a, struct block *b)
{
    if (!a || (char *)a + a->size != (char *)b)
        return 0;
    a->size += b->size;
    a->next = b->next;
    return 1;
}

void free(void *p)
{
    struct block *block = (struct block *)p - 1, *before = NULL;

    if (!p)
        return;
    for (struct block *b = free_blocks; b && b < block; b = b->next)
        before = b;
    block->next = before ? before->next : free_blocks;
    if (before)
        before->next = block;
    else
        free_blocks = block;
    merge(block, block->next);
    merge(before, block);
}
