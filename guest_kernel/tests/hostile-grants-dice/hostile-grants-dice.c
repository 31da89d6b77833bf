/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Dice (lib/dice.c), about grants: entries made and unmade while they are in use, mapped and unmapped here, there and
 * in the wrong place, copied, swapped; and the granted pages mapped and pinned meanwhile.
 */
#include "grants.h"

const char test_name[] = "hostile-grants-dice";

#define PAGES 8
#define REFS 6
#define HANDLES 12
#define ROUNDS 12000
static unsigned char pool[PAGES][PAGE_SIZE] PAGE_ALIGNED, windows[PAGES][PAGE_SIZE] PAGE_ALIGNED;

static unsigned handles[HANDLES], self;
static const unsigned long xens[] = { /* what a real Xen 4.17 made of it, by seed */
    0, 0xe95216f62c9b265b, 0x0c7360409683a11b, 0x0a7d2bd0126aab01, 0xc040c6b97dc339f8,
    0xc43c5724c0b3a08f, 0x9188d3b189aadaf6,
};

static unsigned ref(void)
{
    return dice(30) ? FIRST_REF + dice(REFS) : 5000;
}

static void *place(void)
{
    return dice(3) ? windows[dice(PAGES)] : pool[dice(PAGES)];
}

/* Its number may be another mapping's next. */
static void forget(unsigned which)
{
    handles[which] = ~0U;
}

static long one(unsigned what)
{
    static const unsigned short kinds[] = {
        0, GTF_permit_access, GTF_permit_access, GTF_permit_access, GTF_permit_access | GTF_readonly,
        GTF_accept_transfer };
    static const unsigned flags[] = { GNTMAP_host_map, GNTMAP_host_map, GNTMAP_host_map | GNTMAP_readonly,
                                      GNTMAP_host_map | GNTMAP_device_map, GNTMAP_device_map | GNTMAP_readonly,
                                      GNTMAP_host_map | GNTMAP_application_map, GNTMAP_host_map | GNTMAP_contains_pte };
    unsigned which = dice(HANDLES), entry = FIRST_REF + dice(REFS), domid = dice(12) ? self : 0x6fff;
    void *at = place();
    int status;

    switch (what) {
    case 0:
    case 1: /* an entry, whether it is in use or not */
        grants[entry].flags = 0;
        barrier();
        grants[entry].domid = (domid_t)domid;
        grants[entry].frame =
            (unsigned)(dice(12) ? mfn_of(pool[dice(PAGES)]) : dice(2) ? 0xfffffff : mfn_of(pte_of(pool, 1)));
        barrier();
        grants[entry].flags = kinds[dice(ARRAY_SIZE(kinds))];
        return 0;
    case 2:
    case 3:
    case 4: {
        unsigned handle = 0, how = flags[dice(ARRAY_SIZE(flags))];
        void *where = how & GNTMAP_contains_pte ? (void *)pte_maddr(at, 1) : at;

        status = grant_map(ref(), domid, how, where, &handle);
        if (!status)
            handles[which] = handle;
        return status;
    }
    case 5:
    case 6:
    case 7:
        status = grant_unmap(dice(4) ? at : (void *)pte_maddr(at, 1), handles[which]);
        if (!status)
            forget(which);
        return status;
    case 8: {
        struct gnttab_copy op = { .source = { .u.ref = ref(), .domid = (domid_t)self, .offset = (uint16_t)dice(4100) },
                                  .dest = { .u.gmfn = mfn_of(pool[dice(PAGES)]), .domid = DOMID_SELF },
                                  .len = (uint16_t)dice(64), .flags = GNTCOPY_source_gref };

        return grant_copy(&op);
    }
    case 9: {
        struct gnttab_copy op = { .source = { .u.gmfn = mfn_of(pool[dice(PAGES)]), .domid = DOMID_SELF },
                                  .dest = { .u.ref = ref(), .domid = (domid_t)self },
                                  .len = 8, .flags = GNTCOPY_dest_gref };

        return grant_copy(&op);
    }
    case 10: {
        struct gnttab_swap_grant_ref op = { .ref_a = ref(), .ref_b = ref() };

        op.status = 99;
        check_is(grant_op(GNTTABOP_swap_grant_ref, &op), 0);
        return op.status;
    }
    case 11: {
        struct gnttab_unmap_and_replace op = {
            .host_addr = (unsigned long)at, .new_addr = (unsigned long)place(), .handle = handles[which] };

        op.status = 99;
        check_is(grant_op(GNTTABOP_unmap_and_replace, &op), 0);
        if (!op.status)
            forget(which);
        return op.status;
    }
    case 12:
        return dice(2) ? writable(at) : readonly(at);
    case 13:
        return mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(pool[dice(PAGES)]), 0);
    case 14:
        return mmuext(MMUEXT_UNPIN_TABLE, mfn_of(pool[dice(PAGES)]), 0);
    case 15:
        check_is(mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0), 0);
        return probe_write(at, 0);
    default:
        return grants[entry].flags;
    }
}

void test_main(void)
{
    self = own_domid();
    grants_init();
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    for (unsigned i = 0; i < HANDLES; i++)
        forget(i);
    throw_dice(one, 18, ROUNDS, xens, ARRAY_SIZE(xens));
}
