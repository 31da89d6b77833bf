/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Areas: what of its address space a process may use, and for what.
 */
#include <api/errno.h>
#include <lib.h>
#include <vm.h>

struct area *area_find(struct address_space *space, u64 va)
{
    for (struct area *area = space->areas; area && area->start <= va; area = area->next)
        if (va < area->end)
            return area;
    return NULL;
}

/* A neighbour of the same kind just grows. */
int area_add(struct address_space *space, u64 start, u64 end, u32 flags)
{
    struct area **link = &space->areas, *area, *before = NULL;

    for (; *link && (*link)->end <= start; link = &(*link)->next)
        before = *link;
    if (start >= end || end > USER_END || (*link && (*link)->start < end))
        return -EINVAL;
    if (before && before->end == start && before->flags == flags) {
        before->end = end;
        return 0;
    }
    area = kmalloc(sizeof(*area));
    if (!area)
        return -ENOMEM;
    *area = (struct area){ .start = start, .end = end, .flags = flags, .next = *link };
    *link = area;
    return 0;
}

/* Whatever of [start, end) is in areas goes; an area may lose its head, its tail, its middle, or all. */
int area_remove(struct address_space *space, u64 start, u64 end)
{
    struct area **link = &space->areas;

    while (*link && (*link)->start < end) {
        struct area *area = *link;

        if (area->end <= start) {
            link = &area->next;
        } else if (area->start < start && area->end > end) {
            struct area *rest = kmalloc(sizeof(*rest));

            if (!rest)
                return -ENOMEM;
            *rest = (struct area){ .start = end, .end = area->end, .flags = area->flags, .next = area->next };
            area->end = start;
            area->next = rest;
            link = &rest->next;
        } else if (area->start < start) {
            area->end = start;
            link = &area->next;
        } else if (area->end > end) {
            area->start = end;
            link = &area->next;
        } else {
            *link = area->next;
            kfree(area);
        }
    }
    return 0;
}

u64 area_find_hole(struct address_space *space, u64 length)
{
    u64 at = USER_MMAP;

    for (struct area *area = space->areas; area; area = area->next) {
        if (area->end <= at)
            continue;
        if (area->start >= at + length)
            break;
        at = area->end;
    }
    return at + length <= USER_MMAP_END ? at : 0;
}

int area_copy_all(struct address_space *to, struct address_space *from)
{
    for (struct area *area = from->areas; area; area = area->next) {
        int error = area_add(to, area->start, area->end, area->flags);

        if (error)
            return error;
    }
    return 0;
}

void area_free_all(struct address_space *space)
{
    while (space->areas) {
        struct area *area = space->areas;

        space->areas = area->next;
        kfree(area);
    }
}
