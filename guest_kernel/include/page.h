/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Physical pages.
 *
 * "Physical" in this kernel always means a numbering in which our memory begins at 0.  On bare hardware that is
 * what the CPU calls physical too; it has holes, where devices answer and not memory.  Under Xen it is
 * *pseudo-physical*, without holes: the frames we were really given (machine frames) lie anywhere, and only
 * make_pte() and pte_physical() of the pv_ops ever see their numbers.
 */
#pragma once

#include <types.h>

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096UL
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define PAGE_UP(x) (((u64)(x) + PAGE_SIZE - 1) & PAGE_MASK)
#define PAGE_DOWN(x) ((u64)(x) & PAGE_MASK)

/* Where things are in every address space.  The first half is the user's; see vm.h. */
#define PHYSMAP_BASE 0xffff880000000000UL /* all physical memory, read-write, no-execute */
#define KERNEL_BASE 0xffffffff80000000UL  /* the kernel image: physical 0 upwards */

typedef u64 paddr_t;

struct page {
    u32 references; /* how many user PTEs (or other owners) hold this page; 0 = free */
    u16 flags;
    u16 heap_size; /* kernel/heap.c: of the pieces this page is cut into */
    struct page *next; /* on the free list; of a page table: among those of its address space */
};

/* A page table the MMU may walk: only pv_ops.set_pte may write it. */
#define PAGE_LIVE_TABLE 1

extern struct page *pages; /* indexed by frame number */
extern u64 page_count;   /* how far the numbering goes */
extern u64 pages_total;  /* how many of these there really are */
extern u64 pages_free, pages_tables;

/* Until the physmap stands, the boot mapping serves for it: boot code moves this from the one to the other. */
extern u64 physmap;

static inline void *virt(paddr_t physical) { return (void *)(physmap + physical); }
static inline paddr_t phys(const void *va) { return (u64)va - physmap; }
static inline paddr_t image_phys(const void *va) { return (u64)va - KERNEL_BASE; } /* of the kernel image */
static inline struct page *page_of(paddr_t physical) { return pages + (physical >> PAGE_SHIFT); }
static inline paddr_t page_phys(const struct page *page) { return (u64)(page - pages) << PAGE_SHIFT; }
static inline void *page_virt(const struct page *page) { return virt(page_phys(page)); }

void pages_init(paddr_t array, u64 count, u64 total); /* all pages taken */
void pages_add(paddr_t from, paddr_t to);             /* these are free */
struct page *page_alloc(void);                        /* one reference; contents undefined; NULL if none left */
struct page *page_alloc_zeroed(void);
void page_get(struct page *page);                     /* one more reference */
void page_put(struct page *page);                     /* one less; the last one frees */

/* kernel/heap.c: small things. Never more than a page. */
void *kmalloc(size_t size); /* zeroed; NULL if there is no memory */
void kfree(void *p);
