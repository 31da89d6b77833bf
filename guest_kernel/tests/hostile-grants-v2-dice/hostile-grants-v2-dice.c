/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Dice (lib/dice.c), about grants of version 2: entries for pages, for parts of them and for what the victim grants us,
 * changed while they are in use; mapped, copied in batches, swapped; statuses written over; and the table taken back to
 * version 1 and up again. Each answer comes with what the entries and statuses look like then.
 *
 * (An entry that is mapped is never made a transitive one: Xen repeats a copy by such a one until it is unmapped.)
 */
#include "grants2.h"

const char test_name[] = "hostile-grants-v2-dice";

#define PAGES 8
#define REFS 6 /* that are mapped */
#define MORE 4 /* that are passed on, or whole pages or parts, and copied only */
#define HANDLES 12
#define ROUNDS 12000
#define BATCH 3
static unsigned char pool[PAGES][PAGE_SIZE] PAGE_ALIGNED, windows[PAGES][PAGE_SIZE] PAGE_ALIGNED;
static unsigned long table[512] PAGE_ALIGNED; /* an empty page table, and never anything else */
static unsigned handles[HANDLES], self, victim;
static int status_is_on;
static const unsigned long xens[] = { /* what a real Xen 4.17 made of it, by seed */
    0, 0xd3bcfdf89e5107c1, 0xe69a618339589f66, 0xb24c3a3c67ca0e59, 0xb3332ed59dd270fa,
    0x45dd900cb2d8d39a, 0xa519c9437a454ab1,
};

static unsigned version(void)
{
    struct gnttab_get_version op = { .dom = DOMID_SELF };

    check_is(grant_op(GNTTABOP_get_version, &op), 0);
    return op.version;
}

static unsigned ref(unsigned from, unsigned count)
{
    static const unsigned odd[] = { 0, 3, 255, 256, 511, 512, ~0U };

    return dice(30) ? FIRST_REF + from + dice(count) : odd[dice(ARRAY_SIZE(odd))];
}

static void *place(void)
{
    return dice(3) ? windows[dice(PAGES)] : pool[dice(PAGES)];
}

static unsigned long frame(void)
{
    static const unsigned long odd[] = { 0, 1UL << 32, 1UL << 40, ~0UL };

    return dice(12) ? mfn_of(pool[dice(PAGES)]) : dice(2) ? mfn_of(table) : odd[dice(ARRAY_SIZE(odd))];
}

static long write_entry(unsigned at, int may_pass_on)
{
    static const unsigned short kinds[] = { 0, GTF_permit_access, GTF_permit_access, GTF_permit_access,
                                            GTF_permit_access | GTF_sub_page, GTF_permit_access | GTF_sub_page,
                                            GTF_accept_transfer };
    unsigned flags = kinds[dice(ARRAY_SIZE(kinds))] | (dice(4) ? 0 : GTF_readonly);
    unsigned domid = dice(12) ? self : 0x6fff, low = dice(2) ? dice(64) | dice(128) << 16 : dice(1U << 30) << 2;
    unsigned long high = frame();

    if (may_pass_on && dice(2)) {
        flags = GTF_transitive | (dice(4) ? 0 : GTF_readonly) | (dice(4) ? 0 : GTF_sub_page);
        low = dice(8) ? victim : dice(2) ? self : DOMID_SELF;
        high = dice(8) ? FIRST_REF + dice(3) : dice(2) ? 5000 : FIRST_REF + dice(REFS);
    }
    if (version() == 1) {
        grants[at].flags = 0, grants[at].domid = (domid_t)domid, grants[at].frame = (unsigned)high;
        grants[at].flags = (unsigned short)flags;
    } else {
        grant2(at, flags, domid, low, high);
    }
    return 0;
}

static long copy(void)
{
    struct gnttab_copy op[BATCH];
    unsigned count = 1 + dice(BATCH), last = FIRST_REF;
    long answer = 0;

    memset(op, 0, sizeof(op));
    for (unsigned i = 0; i < count; i++) {
        op[i].flags = (unsigned short)dice(4);
        op[i].len = (unsigned short)(dice(3) ? dice(80) : dice(5000));
        op[i].status = 99;
        for (unsigned end = 0; end < 2; end++) {
            struct gnttab_copy_ptr *ptr = end ? &op[i].dest : &op[i].source;

            ptr->offset = (unsigned short)(dice(3) ? dice(80) : dice(5000));
            ptr->domid = (domid_t)(op[i].flags >> end & 1 && dice(2) ? self : DOMID_SELF);
            if (op[i].flags >> end & 1)
                ptr->u.ref = last = dice(3) ? ref(0, REFS + MORE) : last; /* often what is held still */
            else
                ptr->u.gmfn = dice(20) ? mfn_of(pool[dice(PAGES)]) : frame();
            if (!dice(40))
                ptr->domid = (domid_t)(dice(2) ? victim : 0x6fff);
        }
    }
    long result = HYPERVISOR_grant_table_op(GNTTABOP_copy, op, count);

    for (unsigned i = 0; i < count; i++)
        answer = answer * 32 - op[i].status;
    return answer * 100 - result;
}

/* Its number may be another mapping's next. */
static void forget(unsigned which)
{
    handles[which] = ~0U;
}

static long act(unsigned what)
{
    static const unsigned flags[] = { GNTMAP_host_map, GNTMAP_host_map, GNTMAP_host_map | GNTMAP_readonly,
                                      GNTMAP_host_map | GNTMAP_device_map, GNTMAP_device_map | GNTMAP_readonly,
                                      GNTMAP_host_map | GNTMAP_application_map };
    unsigned which = dice(HANDLES), at = ref(0, REFS);
    void *where = place();
    long result;

    switch (what) {
    case 0:
    case 1:
    case 2:
        return write_entry(FIRST_REF + dice(REFS), 0);
    case 3:
    case 4:
        return write_entry(FIRST_REF + REFS + dice(MORE), 1);
    case 5:
    case 6: { /* what is there is dropped for it */
        struct gnttab_map_grant_ref op = { .host_addr = (unsigned long)where, .flags = flags[dice(ARRAY_SIZE(flags))],
                                           .ref = at, .dom = (domid_t)(dice(40) ? self : 0x6fff) };

        if (handles[which] != ~0U)
            return 0;
        check_is(grant_op(GNTTABOP_map_grant_ref, &op), 0);
        if (!op.status)
            handles[which] = op.handle;
        return op.status;
    }
    case 7:
    case 8:
    case 9: {
        struct gnttab_unmap_grant_ref op = { .host_addr = dice(6) ? (unsigned long)where : 0, .handle = handles[which] };

        for (unsigned i = 0; i < PAGES * 2 && dice(8); i++) { /* as a rule where it is */
            op.host_addr = (unsigned long)(i < PAGES ? windows[i] : pool[i - PAGES]);
            check_is(grant_op(GNTTABOP_unmap_grant_ref, &op), 0);
            if (op.status != GNTST_general_error)
                break;
        }
        if (op.status == GNTST_okay && op.host_addr)
            forget(which);
        return op.status;
    }
    case 10: {
        struct gnttab_swap_grant_ref op = { .ref_a = at, .ref_b = ref(0, REFS) };

        check_is(grant_op(GNTTABOP_swap_grant_ref, &op), 0);
        return op.status;
    }
    case 11:
        if (status_is_on && !dice(4))
            grant_status[FIRST_REF + dice(REFS + MORE)] = (unsigned short)dice(1U << 16);
        return 0;
    case 12:
        if (dice(8))
            return 0;
        if (status_is_on && dice(4))
            grant_status_off(), status_is_on = 0;
        result = grant_version(1 + dice(2));
        if (!status_is_on && version() == 2)
            status_is_on = !grant_status_on();
        return result;
    case 13: { /* the pages themselves are everything else meanwhile */
        unsigned long mfn = mfn_of(pool[dice(PAGES)]);

        if (dice(2))
            return mmuext(MMUEXT_UNPIN_TABLE, mfn, 0);
        result = mmuext(MMUEXT_CLEAR_PAGE, mfn, 0); /* what else would stand there means other frames elsewhere */
        return result * 1000 + mmuext(MMUEXT_PIN_L1_TABLE, mfn, 0);
    }
    case 14:
        return remap(where, PTE(mfn_of(where), PTE_P | (dice(2) ? PTE_RW : 0) | PTE_US | PTE_A | PTE_D | PTE_NX));
    case 15:
        for (unsigned i = 0; i < PAGES; i++) /* from the start, as far as that goes */
            check(dice(40) || remap(windows[i], PTE(mfn_of(windows[i]), PTE_P | PTE_US | PTE_A | PTE_NX)) <= 0);
        return 0;
    default:
        return copy();
    }
}

static long one(unsigned what)
{
    unsigned long hash = (unsigned long)act(what);

    for (unsigned i = FIRST_REF; i < FIRST_REF + REFS + MORE; i++) {
        if (status_is_on)
            hash = (hash ^ grants2[i].hdr.flags ^ (unsigned long)grant_status[i] << 16) * 0x100000001b3UL;
        else
            hash = (hash ^ grants[i].flags) * 0x100000001b3UL;
    }
    return (long)hash;
}

void test_main(void)
{
    self = own_domid();
    victim = fact("domid") ? (unsigned)fact("domid") : 0x6fff;
    grants_init();
    if (fact("domid"))
        check_is(copy2(FIRST_REF, victim, 0, pool[0], 0, PAGE_SIZE, 0), GNTST_okay); /* whoever was here before us */
    grants[0].flags = grants[1].flags = 0; /* the console's and xenstore's: the hypervisor's side has what it wants */
    check_is(grant_version(2), 0);
    status_is_on = !grant_status_on();
    check_is(readonly(table), 0);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(table), 0), 0);
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    for (unsigned i = 0; i < HANDLES; i++)
        forget(i);
    throw_dice(one, 24, ROUNDS, xens, ARRAY_SIZE(xens));
}
