/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Which L4s have the M2P in slot 256: by itself one that a kernel has run on; with the assist m2p_strict all but those
 * that users run on. An L4 that was made before the assist was on is as it was.
 */
#include "test.h"

const char test_name[] = "m2p-strict";

#define SLOT 256

static unsigned long tables[4][512] PAGE_ALIGNED;

/* A new L4 that maps what the kernel's does, pinned. */
static unsigned long make(unsigned n)
{
    const unsigned long *boot = (unsigned long *)start_info->pt_base;

    for (unsigned slot = 0; slot < 512; slot++)
        if (slot < 256 || slot > 271)
            tables[n][slot] = boot[slot];
    check_is(readonly(tables[n]), 0);
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(tables[n]), 0), 0);
    return mfn_of(tables[n]);
}

static int shown(unsigned n)
{
    return ((volatile unsigned long *)tables[n])[SLOT] & PTE_P;
}

static void kernel_on(unsigned long mfn)
{
    check_is(mmuext(MMUEXT_NEW_BASEPTR, mfn, 0), 0);
    check(pfn_of_mfn(mfn_of(tables)) == pfn_of(tables)); /* it is read there */
}

void test_main(void)
{
    unsigned long boot = mfn_of((void *)start_info->pt_base), first, second, third, fourth;

    check(((unsigned long *)start_info->pt_base)[SLOT] & PTE_P);
    first = make(0);
    check_is(shown(0), 0);
    check_is(mmuext(MMUEXT_NEW_USER_BASEPTR, first, 0), 0);
    check_is(shown(0), 0);
    kernel_on(first);
    check_is(shown(0), PTE_P);
    kernel_on(boot);
    check_is(mmuext(MMUEXT_NEW_USER_BASEPTR, first, 0), 0); /* it is that already */
    check_is(shown(0), PTE_P);
    second = make(1);

    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, VMASST_TYPE_m2p_strict), 0);
    check_is(shown(1), 0);
    third = make(2);
    check_is(shown(2), PTE_P);
    fourth = make(3);
    check_is(mmuext(MMUEXT_NEW_USER_BASEPTR, third, 0), 0);
    check_is(shown(2), 0);
    check_is(mmuext(MMUEXT_NEW_USER_BASEPTR, second, 0), 0);
    check_is(shown(1), 0);
    kernel_on(fourth);
    check_is(shown(3), PTE_P);
    check_is(mmuext(MMUEXT_NEW_USER_BASEPTR, first, 0), 0);
    check_is(shown(0), 0);

    check_is(HYPERVISOR_vm_assist(VMASST_CMD_disable, VMASST_TYPE_m2p_strict), 0);
    kernel_on(boot);
    kernel_on(third); /* and so it comes back */
    check_is(shown(2), PTE_P);
    kernel_on(boot);
}
