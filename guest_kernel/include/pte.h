/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Page-table entries as x86-64 has them.
 */
#pragma once

#include <types.h>

typedef u64 pte_t;

#define PTE_PRESENT (1UL << 0)
#define PTE_WRITE (1UL << 1)
#define PTE_USER (1UL << 2)
#define PTE_ACCESSED (1UL << 5)
#define PTE_DIRTY (1UL << 6)
#define PTE_COW (1UL << 9) /* ours (bits 9-11 are the OS's): writable once copied */
#define PTE_NX (1UL << 63)
#define PTE_FRAME 0x000ffffffffff000UL

/* Entries that lead to a lower table allow everything; the last level decides. */
#define PTE_TABLE (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED | PTE_DIRTY)
#define PTE_KERNEL_RW (PTE_PRESENT | PTE_WRITE | PTE_ACCESSED | PTE_DIRTY | PTE_NX)
#define PTE_KERNEL_RO (PTE_PRESENT | PTE_ACCESSED | PTE_NX)

#define TABLE_ENTRIES 512

/* Which entry of a level's table maps `va`; level 4 is the root. */
static inline unsigned pte_index(u64 va, int level)
{
    return (va >> (12 + 9 * (level - 1))) & (TABLE_ENTRIES - 1);
}

/* Bits of a page fault's error code. */
#define FAULT_PRESENT 1 /* a protection fault; else nothing was mapped */
#define FAULT_WRITE 2
#define FAULT_USER 4
#define FAULT_FETCH 16
