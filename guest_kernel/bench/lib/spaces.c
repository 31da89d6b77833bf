/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Address spaces with a user half: a kernel L4 and a user L4 that share what is below slot 256.
 */
#include "bench.h"

#define SPACES 2
#define TABLE (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)

static struct {
    unsigned long kernel_l4[512], user_l4[512], l3[512], l2[512], l1[512];
} PAGE_ALIGNED tables[SPACES];

struct space *new_space(void)
{
    static struct space spaces[SPACES];
    static unsigned used;
    unsigned n = used++;

    check(n < SPACES);
    tables[n].l3[0] = PTE(mfn_of(tables[n].l2), TABLE);
    tables[n].l2[USER_BASE >> 21] = PTE(mfn_of(tables[n].l1), TABLE);
    tables[n].user_l4[0] = PTE(mfn_of(tables[n].l3), TABLE);
    tables[n].kernel_l4[0] = tables[n].user_l4[0];
    tables[n].kernel_l4[511] = *pte_of(&tables, 4); /* where this kernel is */
    for (unsigned page = 0; page < sizeof(tables[n]) / PAGE_SIZE; page++)
        check_is(readonly((char *)&tables[n] + page * PAGE_SIZE), 0);
    spaces[n].kernel_l4 = mfn_of(tables[n].kernel_l4);
    spaces[n].user_l4 = mfn_of(tables[n].user_l4);
    spaces[n].l1 = tables[n].l1;
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, spaces[n].kernel_l4, 0), 0);
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, spaces[n].user_l4, 0), 0);
    return &spaces[n];
}

void use_space(const struct space *space)
{
    check_is(mmuext(MMUEXT_NEW_BASEPTR, space->kernel_l4, 0), 0);
    check_is(mmuext(MMUEXT_NEW_USER_BASEPTR, space->user_l4, 0), 0);
}

unsigned long spare_mfn(unsigned long n)
{
    return ((unsigned long *)start_info->mfn_list)[start_info->nr_pages - 1 - n];
}
