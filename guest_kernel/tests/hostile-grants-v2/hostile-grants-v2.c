/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A version 2 grant table against its rules: what is changed while it is in use, entries that grant what is not there or
 * not theirs to give, others' grants passed on and on, and status frames for anything but statuses.
 */
#include "grants2.h"

const char test_name[] = "hostile-grants-v2";

PAGE(page);
PAGE(at);
static unsigned long table[512] PAGE_ALIGNED;

#define LENT FIRST_REF /* the victim's: to us, to us for reading, and to somebody else */
#define SHOWN (FIRST_REF + 1)
#define NOT_OURS (FIRST_REF + 2)
#define MINE (FIRST_REF + 20)
#define RIGHTS (PTE_P | PTE_US | PTE_A | PTE_D | PTE_NX)

static unsigned self;

static int status_frames(unsigned domid, unsigned count, const void *list)
{
    struct gnttab_get_status_frames op = { .dom = (domid_t)domid, .nr_frames = count, .status = 99 };
    int result;

    set_handle(op.frame_list, list);
    result = grant_op(GNTTABOP_get_status_frames, &op);
    return result ? 1000 + result : op.status;
}

static int map(unsigned flags, unsigned *handle)
{
    return grant_map(MINE, self, GNTMAP_host_map | flags, at, handle);
}

static void versions(void)
{
    static const unsigned wrong[] = { 0, 3, 0x80000002, ~0U };
    static const unsigned long nowhere[] = { 8, 0x0000800000000000UL, 0xffff830000000000UL, ~7UL };
    struct gnttab_get_version version = { .dom = 0x6fff };
    unsigned handle;

    grant(MINE, self, page, GTF_permit_access);
    check_is(map(0, &handle), GNTST_okay);
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
        check_is(grant_version(wrong[i]), -XEN_EINVAL);
    check_is(grant_version(2), -XEN_EBUSY);
    check_is(grant_version(1), 0);
    check_is(grant_unmap(at, handle), GNTST_okay); /* none of that ended it */
    for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
        check_is(grant_op(GNTTABOP_set_version, (void *)nowhere[i]), -XEN_EFAULT);
        check_is(grant_op(GNTTABOP_get_version, (void *)nowhere[i]), -XEN_EFAULT);
        check_is(grant_op(GNTTABOP_get_status_frames, (void *)nowhere[i]), -XEN_EFAULT);
    }
    check_is(grant_op(GNTTABOP_get_version, &version), -XEN_ESRCH);

    /* Carried out, and not answered: the page can be read only. */
    *(unsigned *)page = 2;
    check_is(readonly(page), 0);
    check_is(grant_op(GNTTABOP_set_version, page), -XEN_EFAULT);
    check_is(writable(page), 0);
    check_is(grant_version(2), 0);
    check_is(grant_map(MINE, self, GNTMAP_host_map, at, &handle), GNTST_general_error); /* the entry is gone */
}

static void frames(void)
{
    static unsigned long list[2];
    unsigned victim = (unsigned)fact("domid");

    check_is(status_frames(DOMID_SELF, 0, list), GNTST_okay);
    check_is(status_frames(DOMID_SELF, 2, list), GNTST_general_error);
    check_is(status_frames(DOMID_SELF, 0x20000000, list), GNTST_general_error);
    check_is(status_frames(DOMID_SELF, ~0U, list), GNTST_general_error);
    check_is(status_frames(0x6fff, 1, list), GNTST_bad_domain);
    check_is(status_frames(DOMID_SELF, 1, (void *)0xffff830000000000UL), 1000 - XEN_EFAULT);
    check_is(status_frames(DOMID_SELF, 1, (void *)8), GNTST_bad_virt_addr);
    struct gnttab_get_status_frames op = { .dom = DOMID_SELF };

    check_is(HYPERVISOR_grant_table_op(GNTTABOP_get_status_frames, &op, 0), -XEN_EINVAL);
    check_is(HYPERVISOR_grant_table_op(GNTTABOP_get_status_frames, &op, 2), -XEN_EINVAL);
    check(!list[0]);
    if (victim) {
        struct gnttab_get_version version = { .dom = (domid_t)victim };

        check_is(grant_op(GNTTABOP_get_version, &version), -XEN_EPERM);
        check_is(status_frames(victim, 0, list), GNTST_permission_denied);
        check_is(status_frames(victim, 1, list), GNTST_permission_denied);
    }

    /* A status frame is memory, and nothing else; it is not ours to give away, nor to have twice. */
    check_is(status_frames(DOMID_SELF, 1, list), GNTST_okay);
    struct gnttab_transfer transfer = { .mfn = list[0], .domid = (domid_t)self, .ref = MINE };

    check_is(mmuext(MMUEXT_PIN_L1_TABLE, list[0], 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, list[0], 0), -XEN_EINVAL);
    check(HYPERVISOR_set_gdt(list, 512) < 0);
    check_is(grant_op(GNTTABOP_transfer, &transfer), 0);
    check_is(transfer.status, GNTST_bad_page);
    check_is(remap(table, PTE(list[0], RIGHTS | PTE_RW)), 0); /* mapped a second time: it cannot go yet */
    check_is(grant_status_on(), GNTST_okay);
    grant_status_off();
    check_is(grant_version(1), -XEN_EBUSY);
    check_is(remap(table, PTE(mfn_of(table), RIGHTS | PTE_RW)), 0);
    check_is(grant_version(1), 0);
    check(remap(at, PTE(list[0], RIGHTS)) < 0); /* it is not ours any more */
    check_is(grant_version(2), 0);
    check_is(grant_status_on(), GNTST_okay);
}

/* Entries that grant frames of somebody else, or none. */
static void false_grants(void)
{
    static const char *facts[] = { "l4", "secret", "lent", "gdt", "shared", "xen", "m2p" };
    unsigned long frames[16] = { 0, 1UL << 32, 1UL << 40, 1UL << 63, ~0UL };
    unsigned count = 5, handle;

    for (unsigned i = 0; i < ARRAY_SIZE(facts); i++)
        if (fact(facts[i]))
            frames[count++] = fact(facts[i]);
    for (unsigned i = 0; i < count; i++) {
        grant2(MINE, GTF_permit_access, self, 0, frames[i]);
        check_is(map(0, &handle), GNTST_bad_page);
        check_is(copy2(MINE, self, 0, page, 0, 8, 1), GNTST_bad_page);
        check_is(copy2(MINE, self, 0, page, 0, 8, 0), GNTST_bad_page);
        grant2(MINE, GTF_permit_access | GTF_sub_page, self, 0xffff0000, frames[i]);
        check_is(copy2(MINE, self, 0, page, 0, 8, 1), GNTST_bad_page);
    }
    /* Our own page tables may be read, be it in parts. */
    grant2(MINE, GTF_permit_access | GTF_sub_page, self, 0xffff0000, mfn_of(pte_of(page, 1)));
    check_is(copy2(MINE, self, 0, page, 0, 8, 1), GNTST_okay);
    check_is(copy2(MINE, self, 0, page, 0, 8, 0), GNTST_general_error);
    grant2(MINE, GTF_permit_access | GTF_sub_page, self, 0xffffffff, mfn_of(page));
    check_is(copy2(MINE, self, 0x7fff, page, 0, 1, 1), GNTST_bad_copy_arg);
    check_is(copy2(MINE, self, 4095, page, 0, 1, 1), GNTST_general_error);
    grant2(MINE, GTF_permit_access | GTF_sub_page, self, 8 << 16, mfn_of(page));
    check_is(copy2(MINE, self, 0, at, 0, 0xffff, 1), GNTST_bad_copy_arg);
    check_is(copy2(MINE, self, 0, page, 9, 8, 1), GNTST_okay);
    check_is(copy2(MINE, self, 1, page, 9, 8, 1), GNTST_general_error);
    check_is(grant_status[MINE], 0); /* none of these left it in use */
}

/* What the victim grants us, and what not, passed on to ourselves; and to the victim what it has itself. */
static void passing_on(void)
{
    unsigned victim = (unsigned)fact("domid"), handle;

    grant2(MINE, GTF_transitive, self, self, MINE); /* round and round */
    check_is(copy2(MINE, self, 0, page, 0, 8, 1), GNTST_general_error);
    grant2(MINE, GTF_transitive, self, 0x6fff, MINE);
    check_is(copy2(MINE, self, 0, page, 0, 8, 1), GNTST_general_error);
    grant2(MINE, GTF_transitive, self, DOMID_SELF, MINE);
    check_is(copy2(MINE, self, 0, page, 0, 8, 1), GNTST_general_error);
    grant2(MINE, GTF_transitive | GTF_sub_page, self, DOMID_XEN, MINE);
    check_is(copy2(MINE, self, 0, page, 0, 8, 1), GNTST_general_error);
    check_is(map(GNTMAP_readonly, &handle), GNTST_general_error);
    if (!victim)
        return;
    grant2(MINE, GTF_transitive, self, victim, SHOWN);
    check_is(copy2(MINE, self, 0, page, 0, 64, 1), GNTST_okay);
    check_is(copy2(SHOWN, victim, 0, page, 64, 64, 1), GNTST_okay);
    check(!memcmp(page, page + 64, 64));
    check_is(copy2(MINE, self, 0, page, 0, 8, 0), GNTST_general_error); /* for reading only */
    check_is(map(GNTMAP_readonly, &handle), GNTST_general_error);
    grant2(MINE, GTF_transitive, self, victim, NOT_OURS);
    check_is(copy2(MINE, self, 0, page, 0, 8, 1), GNTST_general_error);
    grant2(MINE, GTF_transitive, self, victim, 100000);
    check_is(copy2(MINE, self, 0, page, 0, 8, 1), GNTST_bad_gntref);
    /* What was lent to us for writing we may read and write, and pass on as less. */
    check_is(copy2(LENT, victim, 0, page, 0, 64, 1), GNTST_okay);
    grant2(MINE, GTF_transitive, self, victim, LENT);
    check_is(copy2(MINE, self, 0, page, 0, 64, 0), GNTST_okay);
    grant2(MINE, GTF_transitive | GTF_readonly, self, victim, LENT);
    check_is(copy2(MINE, self, 0, page, 0, 64, 0), GNTST_general_error);
    check_is(copy2(MINE, self, 0, page, 0, 64, 1), GNTST_okay);
    grant2(MINE, GTF_transitive, self + 1, victim, LENT); /* to somebody else */
    check_is(copy2(MINE, self, 0, page, 0, 64, 1), GNTST_general_error);
    check_is(grant_status[MINE], 0);

    /* A batch that is at home with the victim is no more trusted than one that is not. */
    struct gnttab_copy op[2] = {
        { .source = { .u.ref = SHOWN, .domid = (domid_t)victim }, .len = 8, .flags = GNTCOPY_source_gref },
        { .source = { .u.gmfn = fact("secret"), .domid = (domid_t)victim }, .len = 8 } };

    for (unsigned i = 0; i < 2; i++)
        op[i].dest.u.gmfn = mfn_of(page), op[i].dest.domid = DOMID_SELF, op[i].status = 99;
    check_is(HYPERVISOR_grant_table_op(GNTTABOP_copy, op, 2), 0);
    check_is(op[0].status, GNTST_okay);
    check_is(op[1].status, GNTST_permission_denied);
}

/* Entries and statuses written over while they are in use. */
static void under_use(void)
{
    unsigned reading, writing;

    grant2(MINE, GTF_permit_access, self, 0, mfn_of(page));
    check_is(map(GNTMAP_readonly, &reading), GNTST_okay);
    for (unsigned i = 0; i < 2048; i++)
        grant_status[i] = 0xffff;
    grant2(MINE, GTF_permit_access | GTF_sub_page, self + 5, 100 | 50 << 16, 12345);
    check_is(grant_map(MINE, self, GNTMAP_host_map | GNTMAP_readonly, table, &writing), GNTST_okay);
    check_is(grant_unmap(table, writing), GNTST_okay);
    check_is(grant_map(MINE, self, GNTMAP_host_map, table, &writing), GNTST_okay); /* whom it is for was asked before */
    check_is(copy2(MINE, self, 0, at, 0, 8, 1), GNTST_okay);
    check_is(grant_unmap(table, writing), GNTST_okay);
    check_is(copy2(MINE, self, 100, at, 0, 8, 0), GNTST_bad_page); /* a first use to write: it is another frame now */
    grant2(MINE, GTF_permit_access | GTF_readonly, self, 0, mfn_of(page));
    check_is(grant_map(MINE, self, GNTMAP_host_map, table, &writing), GNTST_general_error);
    check_is(grant_unmap(at, reading), GNTST_okay);
    check_is(grant_status[MINE], 0xffff & ~GTF_reading & ~GTF_writing);
    memset(grant_status, 0, PAGE_SIZE);
    check_is(remap(table, PTE(mfn_of(table), RIGHTS | PTE_RW)), 0);
    check_is(remap(at, PTE(mfn_of(at), RIGHTS | PTE_RW)), 0);
}

void test_main(void)
{
    self = own_domid();
    grants_init();
    versions();
    frames();
    false_grants();
    passing_on();
    under_use();
    grant_status_off();
    grant2(MINE, 0, 0, 0, 0);
    check_is(grant_version(1), 0);
}
