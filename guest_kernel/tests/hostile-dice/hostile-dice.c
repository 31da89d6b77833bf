/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Whatever comes to mind: twenty thousand requests about two dozen pages, as tables, descriptors and memory in turn, by
 * dice that fall the same everywhere (lib/dice.c).
 */
#include "test.h"

const char test_name[] = "hostile-dice";

#define PAGES 24
#define ROUNDS 20000
static unsigned long pool[PAGES][512] PAGE_ALIGNED;

#define RO (PTE_P | PTE_US | PTE_A)
#define RW (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)

static const unsigned long xens[] = { /* what they made there, by seed */
    0, 0x8e9bdb3e7ae4e186, 0xa9c66b4813cd4619, 0x0bed23495189b84a, 0x11e1c7a52321100b,
    0x45f730a0c5cf46a0, 0x6a3d1576b55685dd, 0x0f068a2b7bebf7be, 0x0896d2a9c49de6b2,
};
static unsigned long *boot_l4, boot_mfn;

static unsigned long *page(void)
{
    return pool[dice(PAGES)];
}

/* Never the first: when that fails after part of what is behind it was taken, a release build of Xen loses count. Nor the
 * hypervisor's, of which something stays in a page that was an L4. */
static unsigned slot(void)
{
    static const unsigned short special[] = { 255, 272, 300, 510 };

    return dice(5) ? 1 + dice(7) : special[dice(ARRAY_SIZE(special))];
}

static unsigned long entry(void)
{
    static const unsigned long flags[] = { RO, RO, RW, RW, RW, RW | PTE_NX, RO | PTE_NX, RW | 1UL << 8, RO | 1UL << 62,
                                           RW | 0xe00, 0, PTE_RW };
    unsigned long mfn = mfn_of(page());

    switch (dice(24)) {
    case 0:
        return 0;
    case 1:
        mfn = 0xfffffff;
        break;
    case 2:
        mfn = boot_mfn;
        break;
    case 3:
        mfn = mfn_of(pte_of(pool, 1 + (int)dice(3)));
        break;
    case 4:
        mfn = start_info->shared_info >> 12;
        break;
    }
    return PTE(mfn, flags[dice(ARRAY_SIZE(flags))]);
}

static unsigned long descriptor(void)
{
    static const unsigned long kinds[] = { 0, 0x00cff3000000ffffUL, 0x00af9a000000ffffUL, 0x00008900e0330067UL,
                                           0x00008c00e0330000UL, 0x00008c00e0080000UL, 0x0000100000000000UL };

    return kinds[dice(ARRAY_SIZE(kinds))];
}

static long one(unsigned what)
{
    static const unsigned pins[] = {
        MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE };
    unsigned long *at = page(), frame;
    long result;

    switch (what) {
    case 0:
    case 1:
        return writable(at);
    case 2:
    case 3:
        return readonly(at);
    case 4:
    case 5:
        return mmuext(pins[dice(4)], mfn_of(at), 0);
    case 6:
        return mmuext(MMUEXT_UNPIN_TABLE, mfn_of(at), 0);
    case 7:
    case 8:
    case 9:
        return mmu_update(maddr_of(&at[slot()]) | (dice(8) ? 0 : MMU_PT_UPDATE_PRESERVE_AD), entry());
    case 10:
    case 11: /* a plain store, which Xen carries out if it is one to an L1 */
        return probe_write(&at[slot()], entry());
    case 12: /* a page of entries, as a kernel would make a table */
        if (writable(at))
            return -1;
        for (unsigned n = dice(6); n; n--)
            at[slot()] = entry();
        return readonly(at);
    case 13:
        return remap(at, entry() | PTE_NX);
    case 14:
        result = remap(at, PTE(mfn_of(at), RW | PTE_NX));
        if (!result)
            memset(at, 0, PAGE_SIZE);
        return result;
    case 15:
        return mmuext(dice(2) ? MMUEXT_CLEAR_PAGE : MMUEXT_COPY_PAGE, mfn_of(at), mfn_of(page()));
    case 16:
        return mmuext(MMUEXT_NEW_USER_BASEPTR, dice(4) ? mfn_of(at) : 0, 0);
    case 17:
        frame = mfn_of(at);
        return HYPERVISOR_set_gdt(&frame, dice(3) ? 512 : 0);
    case 18:
        return HYPERVISOR_update_descriptor(maddr_of(&at[slot()]) + (dice(9) ? 0 : 4), descriptor());
    case 19:
        return mmuext(MMUEXT_SET_LDT, (unsigned long)at, dice(600));
    case 20: /* a segment out of whatever tables there are */
        result = probe("movl %k1, %%es", : "r"(dice(16) * 8 + 3 + 4 * dice(2)));
        asm volatile("movl %0, %%es" : : "r"(0));
        return result;
    case 21: /* to live on a table of ours, if we can and then are there still */
        if (PTE_MFN(*pte_of(at, 1)) != mfn_of(at) || probe_read(&at[511], &frame) != PROBE_NONE || frame != boot_l4[511])
            return -2;
        result = mmuext(MMUEXT_NEW_BASEPTR, mfn_of(at), 0);
        check_is(mmuext(MMUEXT_NEW_BASEPTR, boot_mfn, 0), 0);
        return result;
    case 22:
        result = writable(at);
        if (!result) {
            at[511] = boot_l4[511];
            result = readonly(at);
        }
        return result;
    default:
        return probe_read(&at[slot()], 0);
    }
}

static long answer(unsigned what)
{
    long result = one(what);

    /* Which of several things is wrong with a table may hang on what Xen left of its own in a former L4. */
    return result == -XEN_EPERM || result == -XEN_EBUSY ? -XEN_EINVAL : result;
}

void test_main(void)
{
    boot_l4 = (unsigned long *)start_info->pt_base;
    boot_mfn = mfn_of(boot_l4);
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    throw_dice(answer, 24, ROUNDS, xens, ARRAY_SIZE(xens));
}
