/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Page tables hold frames from everywhere, so the p2m list that start_info points to is a guest's only order in them.
 */
#include "test.h"

const char test_name[] = "memory-map";

void test_main(void)
{
    unsigned long *p2m = (unsigned long *)start_info->mfn_list, tables = 0;
    unsigned long value, stack;

    check(!memcmp(start_info->magic, "xen-3.0-x86_64", 14));
    check(start_info->nr_pages >= 1024);
    check(start_info->nr_pt_frames >= 4);
    check(start_info->pt_base > (unsigned long)_end && start_info->pt_base % PAGE_SIZE == 0);

    /* The boot mapping: our memory in a row from VIRT_BASE, 512 KiB at least behind the last thing in it. */
    for (unsigned long va = VIRT_BASE; va < start_info->pt_base + start_info->nr_pt_frames * PAGE_SIZE + 0x80000;
         va += PAGE_SIZE)
        check(PTE_MFN(*pte_of((void *)va, 1)) == p2m[pfn_of((void *)va)] || va == ((unsigned long)shared_info & ~0xfffUL));

    /* Of that, the page tables are read-only, and nothing else is. */
    for (unsigned long va = start_info->pt_base; va < start_info->pt_base + start_info->nr_pt_frames * PAGE_SIZE;
         va += PAGE_SIZE)
        if (!(*pte_of((void *)va, 1) & PTE_RW))
            tables++;
    check_is(tables, start_info->nr_pt_frames);
    check_is(probe_write(start_info, *(unsigned long *)start_info), PROBE_NONE);
    asm volatile("movq %%rsp, %0" : "=r"(stack));
    check(stack > VIRT_BASE);
    check_is(probe_read((void *)0xffff880000000000UL, &value), 14); /* nothing else is mapped */
    check_is(probe_read((void *)0, &value), 14);
    if (!(start_info->flags & SIF_INITDOMAIN)) {
        check(start_info->store_evtchn && start_info->console.domU.evtchn);
        check(pfn_of_mfn(start_info->store_mfn) < start_info->nr_pages);
        check(pfn_of_mfn(start_info->console.domU.mfn) < start_info->nr_pages);
    }
}
