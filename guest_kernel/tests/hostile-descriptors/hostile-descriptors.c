/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Descriptors of every type and privilege: which ones a guest may have, what becomes of them, and that none lets it in
 * where it may not be. (check_descriptor)
 */
#include "test.h"

const char test_name[] = "hostile-descriptors";

static unsigned long gdt[512] PAGE_ALIGNED, ldt[512] PAGE_ALIGNED, two[512] PAGE_ALIGNED;

#define P (1UL << 47)
#define DPL(n) ((unsigned long)(n) << 45)
#define S (1UL << 44)
#define TYPE(n) ((unsigned long)(n) << 40)
#define A TYPE(1)
#define GATE(selector, offset) ((unsigned long)(selector) << 16 | (offset))
#define CODE64 0x00af9a000000ffffUL /* DPL 0 */
#define CALL_GATE (P | TYPE(0xc))
#define SLOT 20

static long put(unsigned long descriptor)
{
    return HYPERVISOR_update_descriptor(maddr_of(&gdt[SLOT]), descriptor);
}

/* What stands in the table; the CPU, or Xen for it, may have set the accessed bit of a segment. */
static unsigned long found(void)
{
    return gdt[SLOT] & S ? gdt[SLOT] & ~A : gdt[SLOT];
}

static void every_type(void)
{
    for (unsigned long dpl = 0; dpl < 4; dpl++) {
        for (unsigned long type = 0; type < 16; type++) {
            /* Code and data, conforming or not: any, but of DPL 3. Base and limit do not matter. */
            unsigned long segment = P | S | DPL(dpl) | TYPE(type) | 0xffcf00ffffffffffUL;

            check_is(put(segment), 0);
            check_is(found(), (segment | DPL(3)) & ~A);
            /* System descriptors: none but a call gate, and what looks like the upper half of one. */
            check_is(put(0x1234), 0);
            long result = put(P | DPL(dpl) | TYPE(type) | GATE(0xe033, 0x1000));

            check_is(result, type == 0 || type == 0xc ? 0 : -XEN_EINVAL);
            if (type == 0)
                check_is(found(), P | DPL(dpl) | GATE(0xe033, 0x1000));
            else if (type == 0xc) /* of DPL 0, so that its use faults; the RPL remembers what it was to be */
                check_is(found(), CALL_GATE | GATE(0xe033, 0x1000));
            else
                check_is(found(), 0x1234);
            /* Not present: anything. It cannot be used. */
            check_is(put(DPL(dpl) | TYPE(type)), 0);
            check_is(found(), DPL(dpl) | TYPE(type));
        }
    }
}

static void call_gates(void)
{
    /* Into the guest's own part of the GDT, into its LDT, and to the flat kernel segment, but to none of Xen's. */
    check_is(put(CALL_GATE | GATE(8, 0)), 0);
    check_is(found(), CALL_GATE | GATE(8 | 3, 0));
    check_is(put(CALL_GATE | DPL(3) | GATE(0xffff, 0)), 0);
    check_is(put(CALL_GATE | GATE(0xdff8, 0)), 0);
    check_is(put(CALL_GATE | GATE(0xe008, 0)), -XEN_EINVAL);
    check_is(put(CALL_GATE | GATE(0xe010, 0)), -XEN_EINVAL);
    check_is(put(CALL_GATE | GATE(0xe02b, 0)), -XEN_EINVAL);
    check_is(put(CALL_GATE | GATE(0xe033, 0) | 1UL << 32), -XEN_EINVAL); /* a parameter count */
    check_is(put(CALL_GATE | DPL(3) | GATE(0xe033, 0)), 0);

    struct { unsigned offset; unsigned short selector; } target = { 0, SLOT * 8 | 3 };

    check_is(probe("lcall *%1", : "m"(target)), 13);
    check_is(last_trap.error, SLOT * 8);
}

static void uses(void)
{
    unsigned selector = SLOT * 8 | 3;

    check_is(put(CODE64 | DPL(3)), 0); /* code that cannot be read is no data segment, nor anything a stack */
    check_is(probe("movl %k1, %%es", : "r"(selector)), PROBE_NONE);
    check_is(probe("movl %k1, %%ss", : "r"(selector)), 13);
    check_is(put((CODE64 | DPL(3)) & ~TYPE(2)), 0);
    asm volatile("movl %0, %%es" : : "r"(0));
    check_is(probe("movl %k1, %%es", : "r"(selector)), 13);
    check_is(last_trap.error, SLOT * 8);
    check_is(put((0x00cf92000000ffffUL | DPL(3)) & ~P), 0);
    check_is(probe("movl %k1, %%es", : "r"(selector)), 11); /* not present */
    check_is(last_trap.error, SLOT * 8);
    check_is(probe("movl %k1, %%es", : "r"(selector - SLOT * 8 + 0xe008)), 13); /* Xen's own: of DPL 0 */
    check_is(probe("movl %k1, %%es", : "r"(0xfffb)), 13);
    check_is(probe("lldt %w1", : "r"(selector)), 13);
    check_is(probe("ltr %w1", : "r"(selector)), 13);
}

static void tables(void)
{
    unsigned long frames[16], entry = maddr_of(&ldt[1]);

    /* A frame has one type: not writable, nor a page table, while it is a GDT; and not a GDT while it is those. */
    check_is(writable(gdt), -XEN_EBUSY);
    check_is(mmu_update(pte_maddr(two, 1), PTE(mfn_of(gdt), PTE_P | PTE_RW | PTE_US | PTE_NX)), -XEN_EBUSY);
    check_is(mmu_update(maddr_of(&gdt[SLOT]), 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(gdt), 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_CLEAR_PAGE, mfn_of(gdt), 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_COPY_PAGE, mfn_of(gdt), mfn_of(two)), -XEN_EINVAL);
    check_is(probe_write(&gdt[SLOT], 0), 14);
    frames[0] = mfn_of(gdt), frames[1] = mfn_of(pte_of(gdt, 1));
    check_is(HYPERVISOR_set_gdt(frames, 1024), -XEN_EINVAL);
    frames[1] = mfn_of(two);
    check_is(HYPERVISOR_set_gdt(frames, 1024), -XEN_EINVAL); /* still writable */
    frames[1] = ~0UL;
    check_is(HYPERVISOR_set_gdt(frames, 513), -XEN_EINVAL);
    check_is(HYPERVISOR_set_gdt(frames, 7169), -XEN_EINVAL);
    check_is(HYPERVISOR_set_gdt(frames, ~0U), -XEN_EINVAL);
    check_is(HYPERVISOR_set_gdt((unsigned long *)8, 512), -XEN_EFAULT);
    check_is(probe_read(&gdt[SLOT], 0), PROBE_NONE);

    /* update_descriptor writes to descriptor tables and to plain pages, and to nothing else. */
    check_is(HYPERVISOR_update_descriptor(maddr_of(&two[1]), CODE64), 0);
    check_is(two[1] & ~A, CODE64 | DPL(3));
    check_is(HYPERVISOR_update_descriptor(pte_maddr(two, 1), 0), -XEN_EINVAL);
    check_is(HYPERVISOR_update_descriptor(maddr_of(&two[1]) + 4, 0), -XEN_EINVAL);
    check_is(HYPERVISOR_update_descriptor(~0UL << 3, 0), -XEN_EINVAL);

    /* A whole frame is checked in order, and fixed up as far as it is good. */
    two[0] = 0, two[1] = CODE64, two[2] = P | TYPE(9), two[3] = CODE64;
    check_is(readonly(two), 0);
    frames[1] = mfn_of(two);
    check_is(HYPERVISOR_set_gdt(frames, 1024), -XEN_EINVAL);
    check_is(two[1] & ~A, CODE64 | DPL(3));
    check_is(two[3], CODE64);

    /* An LDT is looked at when it is used: then the page turns out to be bad, and it is the guest's fault. */
    check_is(mmuext(MMUEXT_SET_LDT, (unsigned long)two, 512), 0);
    check_is(probe("movl %k1, %%es", : "r"(3 * 8 | 7)), 14);
    check_is(last_cr2, (unsigned long)&two[3] & ~7UL);
    check_is(mmuext(MMUEXT_SET_LDT, (unsigned long)ldt, 2), 0); /* writable: the same */
    check_is(probe("movl %k1, %%es", : "r"(8 | 7)), 14);
    check_is(probe("movl %k1, %%es", : "r"(2 * 8 | 7)), 13); /* beyond its limit */
    check_is(readonly(ldt), 0);
    check_is(HYPERVISOR_update_descriptor(entry, CODE64), 0); /* a plain page, though mapped read-only */
    check_is(probe("movl %k1, %%es", : "r"(8 | 7)), PROBE_NONE);
    check_is(writable(ldt), -XEN_EBUSY);
    asm volatile("movl %0, %%es" : : "r"(0));
    check_is(mmuext(MMUEXT_SET_LDT, (unsigned long)ldt | 0x10, 2), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_SET_LDT, 0xffff830000000000UL, 2), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_SET_LDT, (unsigned long)ldt, 8193), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_SET_LDT, 0x5000, 512), 0); /* nothing is there, says the fault */
    check_is(probe("movl %k1, %%es", : "r"(8 | 7)), 14);
    check_is(last_cr2, 0x5008);
    check_is(mmuext(MMUEXT_SET_LDT, 0, 0), 0);
    check_is(writable(ldt) | writable(two), 0);
}

void test_main(void)
{
    unsigned long frame = mfn_of(gdt);

    check_is(readonly(gdt), 0);
    check_is(HYPERVISOR_set_gdt(&frame, 512), 0);
    every_type();
    call_gates();
    uses();
    tables();
}
