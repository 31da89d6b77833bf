/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Address spaces.
 *
 *     0000000000400000   the program: text, data, then the heap, upwards (sbrk)
 *     0000000010000000   mmap, upwards
 *     0000000040000000   the end of the stack, which grows downwards
 *     ffff800000000000   the hypervisor's, if there is one that needs a place
 *     ffff880000000000   all physical memory (PHYSMAP_BASE)
 *     ffffffff80000000   the kernel image (KERNEL_BASE)
 *
 * Two roots share one lower half: `kernel_root` has the kernel's entries besides and is the table while the
 * kernel runs; `user_root` has only the lower half and is the table in user mode.  A 64-bit PV guest needs
 * that, because its kernel runs in ring 3 too, where no page-table entry can keep user code out of kernel
 * memory; on bare hardware the two are one (pv_ops.two_roots).
 *
 * What a process *may* use is said by its areas; its page tables are filled from them fault by fault.
 */
#pragma once

#include <page.h>
#include <pte.h>

#define USER_TEXT 0x400000UL
#define USER_MMAP 0x10000000UL
#define USER_MMAP_END 0x30000000UL
#define USER_STACK_TOP 0x40000000UL
#define USER_STACK_SIZE 0x100000UL
#define USER_END USER_STACK_TOP

#define AREA_WRITE 1
#define AREA_EXECUTE 2
#define AREA_HEAP 4

struct area {
    u64 start, end; /* whole pages */
    u32 flags;
    struct area *next; /* in ascending order */
};

struct address_space {
    struct page *kernel_root, *user_root;
    struct page *tables; /* of the user half, but for the roots: the last one made first */
    struct area *areas;
    u64 program_break; /* exact; the heap area ends at the next page */
    u64 user_pages;    /* mapped now */
    bool live;         /* the MMU may use the tables */
};

/* kernel/vm.c */
extern struct page *kernel_tables; /* the root the kernel booted on: the pattern of every upper half */
struct address_space *space_create(void);
void space_live(struct address_space *space);                 /* once it is built: see pv_ops.space_live */
struct address_space *space_copy(struct address_space *from); /* fork: share pages copy-on-write */
void space_destroy(struct address_space *space);
pte_t *space_pte(struct address_space *space, u64 va, bool create);
int space_map(struct address_space *space, u64 va, struct page *page, u64 flags);
int space_remove(struct address_space *space, u64 start, u64 end); /* areas and pages; 0 or -ENOMEM */
/* Call for every table of the user half; each before the one it is linked into, the roots last. */
void space_each_table(struct address_space *space, void (*call)(struct page *table));

/* kernel/area.c */
struct area *area_find(struct address_space *space, u64 va);
int area_add(struct address_space *space, u64 start, u64 end, u32 flags);
int area_remove(struct address_space *space, u64 start, u64 end); /* the pages stay: see space_remove */
u64 area_find_hole(struct address_space *space, u64 length);
int area_copy_all(struct address_space *to, struct address_space *from);
void area_free_all(struct address_space *space);

/* kernel/fault.c: make `va` usable, if the areas allow it. 0, or -EFAULT, or -ENOMEM. */
int fault_in(struct address_space *space, u64 va, u64 error);

/* kernel/usercopy.c: the only way the kernel touches user memory. 0 or -EFAULT. */
int copy_from_user(void *to, u64 from, size_t n);
int copy_to_user(u64 to, const void *from, size_t n);
int copy_string_from_user(char *to, u64 from, size_t room); /* its length, or an error */
bool usercopy_fixup(u64 *rip);
