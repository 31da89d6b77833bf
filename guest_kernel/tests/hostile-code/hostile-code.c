/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Code in frames that are mapped twice, change hands, and come back: what runs is what is there.
 */
#include "test.h"

const char test_name[] = "hostile-code";

PAGE(code);
PAGE(alias);

#define RX (PTE_P | PTE_US | PTE_A)
#define RW (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)

/* movl $value, %eax; ret */
static void write_code(volatile unsigned char *at, unsigned value)
{
    at[0] = 0xb8, at[1] = (unsigned char)value, at[2] = (unsigned char)(value >> 8), at[3] = at[4] = 0, at[5] = 0xc3;
}

static unsigned run(const void *at)
{
    return ((unsigned (*)(void))at)();
}

void test_main(void)
{
    unsigned long first, frame = mfn_of(code);
    struct xen_memory_reservation op = { .nr_extents = 1, .domid = DOMID_SELF };

    /* Written through one mapping, run through the other, many times. */
    check_is(remap(alias, PTE(frame, RW)), 0);
    for (unsigned i = 0; i < 200; i++) {
        write_code(code, i);
        check_is(remap(code, PTE(frame, RX)), 0);
        check_is(run(code), i);
        write_code(alias, i + 1000); /* while the other is executable */
        check_is(run(code), i + 1000);
        check_is(remap(code, PTE(frame, RW)), 0);
    }

    /* Written by the hypervisor for us: an entry of mmu_update's, a page copied. */
    write_code(code, 1);
    check_is(remap(alias, 0) | remap(code, PTE(frame, RX)), 0);
    check_is(run(code), 1);
    check_is(mmu_update(frame << 12, 0xc3000000f2b8UL), 0);
    check_is(run(code), 0xf2);
    check_is(remap(alias, PTE(mfn_of(alias), RW)), 0);
    write_code(alias, 3);
    check_is(mmuext(MMUEXT_COPY_PAGE, frame, mfn_of(alias)), 0);
    check_is(run(code), 3);

    /* A frame that is given back with code in it, and another, or the same, in its place. */
    for (unsigned i = 0; i < 50; i++) {
        check_is(remap(code, 0), 0);
        first = frame;
        set_handle(op.extent_start, &first);
        check_is(HYPERVISOR_memory_op(XENMEM_decrease_reservation, &op), 1);
        first = pfn_of(code);
        check_is(HYPERVISOR_memory_op(XENMEM_populate_physmap, &op), 1);
        frame = ((unsigned long *)start_info->mfn_list)[pfn_of(code)] = first;
        check_is(remap(code, PTE(frame, RW)), 0);
        write_code(code, i + 100);
        check_is(remap(code, PTE(frame, RX)), 0);
        check_is(run(code), i + 100);
    }

    /* A page of code that becomes a table and a page again. */
    check_is(remap(code, PTE(frame, RW)), 0);
    memset(code, 0, PAGE_SIZE);
    check_is(readonly(code), 0);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, frame, 0), 0);
    check_is(mmu_update(frame << 12, 0xc300000008b8UL), 0); /* not present, so it is anything: code */
    check_is(remap(alias, PTE(frame, RX)), 0);
    check_is(run(alias), 8);
    check_is(mmu_update(frame << 12, 0xc300000009b8UL & ~1UL), 0);
    check_is(mmuext(MMUEXT_UNPIN_TABLE, frame, 0), 0);
    check_is(remap(alias, PTE(mfn_of(alias), RW)), 0);
    check_is(writable(code), 0);
    write_code(code, 10);
    check_is(remap(code, PTE(frame, RX)), 0);
    check_is(run(code), 10);
    check_is(remap(code, PTE(frame, RW)), 0);
}
