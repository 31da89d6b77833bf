/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Direct paging: page tables hold machine frame numbers, and only Xen writes them.
 */
#include "test.h"

/* The M2P: read-only, at the same address in every PV guest. */
static unsigned long *const m2p = (unsigned long *)MACH2PHYS_VIRT_START;

unsigned long pfn_of_mfn(unsigned long mfn)
{
    return m2p[mfn];
}

unsigned long mfn_of(const void *va)
{
    return ((unsigned long *)start_info->mfn_list)[pfn_of(va)];
}

unsigned long maddr_of(const void *va)
{
    return (mfn_of(va) << 12) | ((unsigned long)va & (PAGE_SIZE - 1));
}

static unsigned index_at(const void *va, int level)
{
    return ((unsigned long)va >> (12 + 9 * (level - 1))) & 511;
}

unsigned long *pte_of(const void *va, int level)
{
    unsigned long *table = (unsigned long *)start_info->pt_base;

    for (int at = 4; at > level; at--) {
        unsigned long pte = table[index_at(va, at)];

        if (!(pte & PTE_P))
            fail("no level %d table over %p", at - 1, va);
        table = va_of_pfn(pfn_of_mfn(PTE_MFN(pte)));
    }
    return table + index_at(va, level);
}

unsigned long pte_maddr(const void *va, int level)
{
    return maddr_of(pte_of(va, level));
}

int mmu_update(unsigned long maddr, unsigned long value)
{
    struct mmu_update req = { .ptr = maddr | MMU_NORMAL_PT_UPDATE, .val = value };

    return (int)HYPERVISOR_mmu_update(&req, 1, 0, DOMID_SELF);
}

int remap(const void *va, unsigned long pte)
{
    return (int)HYPERVISOR_update_va_mapping((unsigned long)va, pte, UVMF_INVLPG);
}

int mmuext(unsigned cmd, unsigned long arg1, unsigned long arg2)
{
    struct mmuext_op op = { .cmd = cmd };

    op.arg1.mfn = arg1; /* the union's other member, linear_addr, is as wide */
    memcpy(&op.arg2, &arg2, sizeof(arg2));
    return (int)HYPERVISOR_mmuext_op(&op, 1, 0, DOMID_SELF);
}

int readonly(const void *va)
{
    return remap(va, PTE(mfn_of(va), PTE_P | PTE_US | PTE_A | PTE_NX));
}

int writable(const void *va)
{
    return remap(va, PTE(mfn_of(va), PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX));
}
