/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Page faults: demand-zero pages and copy-on-write.
 */
#include <api/errno.h>
#include <lib.h>
#include <pv_ops.h>
#include <vm.h>

static u64 page_flags(const struct area *area)
{
    u64 flags = PTE_PRESENT | PTE_USER | PTE_ACCESSED;

    if (area->flags & AREA_WRITE)
        flags |= PTE_WRITE | PTE_DIRTY;
    if (!(area->flags & AREA_EXECUTE))
        flags |= PTE_NX;
    return flags;
}

/* A first touch: a page of zeroes. New tables on the way and the entry itself are one batch. */
static int fill(struct address_space *space, u64 va, const struct area *area)
{
    struct page *page = page_alloc_zeroed();
    int error;

    if (!page)
        return -ENOMEM;
    pv.batch_begin();
    error = space_map(space, va, page, page_flags(area));
    pv.batch_end();
    if (error)
        page_put(page);
    return error;
}

/* A write to a page that fork shared. The last one to want it needs no copy. */
static int unshare(u64 va, pte_t *slot, const struct area *area)
{
    struct page *old = page_of(pv.pte_physical(*slot)), *copy = old;

    if (old->references > 1) {
        copy = page_alloc();
        if (!copy)
            return -ENOMEM;
        memcpy(page_virt(copy), page_virt(old), PAGE_SIZE);
    }
    pv.set_pte_at(va, slot, pv.make_pte(page_phys(copy), page_flags(area)));
    if (copy != old)
        page_put(old);
    return 0;
}

int fault_in(struct address_space *space, u64 va, u64 error)
{
    struct area *area = area_find(space, va);
    pte_t *slot;

    if (!area || ((error & FAULT_WRITE) && !(area->flags & AREA_WRITE)) ||
        ((error & FAULT_FETCH) && !(area->flags & AREA_EXECUTE)))
        return -EFAULT;

    va = PAGE_DOWN(va);
    slot = space_pte(space, va, false);
    if (!slot || !(*slot & PTE_PRESENT))
        return fill(space, va, area);
    if ((error & FAULT_WRITE) && (*slot & PTE_COW))
        return unshare(va, slot, area);
    pv.flush_page(va); /* the entry allows it: the TLB was behind */
    return 0;
}
