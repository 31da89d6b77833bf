/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * vCPUs that do not exist, and contexts no vCPU may have: each refused, and nothing of it taken, so that the vCPU can
 * still be made in earnest.
 *
 * needs: vcpus=2
 */
#include "test.h"

const char test_name[] = "hostile-vcpus";

static struct vcpu_guest_context *context;
static unsigned long gdt[512] PAGE_ALIGNED;
PAGE(page);
static volatile unsigned came;

static void second(void)
{
    came = 1;
    for (;;)
        HYPERVISOR_sched_op(SCHEDOP_block, 0);
}

static struct vcpu_guest_context *good(void)
{
    return context = second_context(second);
}

static long initialise(void)
{
    return HYPERVISOR_vcpu_op(VCPUOP_initialise, 1, context);
}

void test_main(void)
{
    static const unsigned nobody[] = { 2, 31, 32, 8192, 0x80000000, ~0U };

    for (unsigned i = 0; i < ARRAY_SIZE(nobody); i++)
        for (unsigned cmd = 0; cmd < 16; cmd++)
            check_is(HYPERVISOR_vcpu_op((int)cmd, nobody[i], good()), -XEN_ENOENT);
    check_is(HYPERVISOR_vcpu_op(99, 0, 0), -XEN_ENOSYS);
    check_is(HYPERVISOR_vcpu_op(-1, 0, 0), -XEN_ENOSYS);

    /* A root that is none: no RAM, a plain page, a table of another level, somebody else's. */
    good()->ctrlreg[3] = ~0UL;
    check_is(initialise(), -XEN_EINVAL);
    good()->ctrlreg[3] = 0;
    check_is(initialise(), -XEN_EINVAL);
    good()->ctrlreg[3] = xen_pfn_to_cr3(mfn_of(page));
    check_is(initialise(), -XEN_EINVAL);
    good()->ctrlreg[3] = xen_pfn_to_cr3(mfn_of(pte_of(page, 1)));
    check_is(initialise(), -XEN_EINVAL);
    good()->ctrlreg[1] = xen_pfn_to_cr3(mfn_of(pte_of(page, 2))); /* the user's */
    check_is(initialise(), -XEN_EINVAL);
    if (fact("l4")) {
        good()->ctrlreg[3] = xen_pfn_to_cr3(fact("l4"));
        check_is(initialise(), -XEN_EINVAL);
        good()->ctrlreg[1] = xen_pfn_to_cr3(fact("l4"));
        check_is(initialise(), -XEN_EINVAL);
        good()->gdt_frames[0] = fact("gdt"), context->gdt_ents = 512;
        check_is(initialise(), -XEN_EINVAL);
    }

    /* A GDT too long, of frames that cannot be one; an LDT too long or in the hypervisor. */
    good()->gdt_ents = 7169;
    check_is(initialise(), -XEN_EINVAL);
    good()->gdt_ents = ~0UL;
    check_is(initialise(), -XEN_EINVAL);
    good()->gdt_frames[0] = mfn_of(gdt), context->gdt_ents = 512;
    check_is(initialise(), -XEN_EINVAL); /* still writable */
    good()->gdt_frames[0] = ~0UL, context->gdt_ents = 1;
    check_is(initialise(), -XEN_EINVAL);
    good()->ldt_ents = 8193, context->ldt_base = (unsigned long)gdt;
    check_is(initialise(), -XEN_EINVAL);
    good()->ldt_ents = 8, context->ldt_base = (unsigned long)gdt + 8;
    check_is(initialise(), -XEN_EINVAL);

    /* Addresses that are not canonical. */
    good()->user_regs.rip = 0x0000800000000000UL;
    check_is(initialise(), -XEN_EINVAL);
    good()->event_callback_eip = 0x8000000000000000UL;
    check_is(initialise(), -XEN_EINVAL);
    good()->failsafe_callback_eip = 0x0000800000000000UL;
    check_is(initialise(), -XEN_EINVAL);
    good()->syscall_callback_eip = 0xfffe000000000000UL;
    check_is(initialise(), -XEN_EINVAL);
    good()->trap_ctxt[200].address = 0x0000800000000000UL;
    check_is(initialise(), -XEN_EINVAL);
    good()->fs_base = 0x0000800000000000UL;
    check_is(initialise(), -XEN_EINVAL);
    good()->gs_base_kernel = 0x0000800000000000UL;
    check_is(initialise(), -XEN_EINVAL);
    good()->gs_base_user = 0x0000800000000000UL;
    check_is(initialise(), -XEN_EINVAL);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_initialise, 1, (void *)8), -XEN_EFAULT);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_up, 1, 0), -XEN_EINVAL);

    /* None of that was kept: no reference, no type. */
    check_is(readonly(gdt) | writable(gdt) | readonly(page) | writable(page), 0);

    /* In the hypervisor's memory it may begin, and would fault there; flags that are not its own fall away. */
    good()->user_regs.rflags = ~0UL & ~0x100UL & ~0x4000UL;
    context->debugreg[7] = 0x2400;
    check_is(initialise(), 0);
    check_is(initialise(), -XEN_EEXIST);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_up, 1, 0), 0);
    for (unsigned long end = now() + 2000000000; !came && now() < end;)
        HYPERVISOR_sched_op(SCHEDOP_yield, 0);
    check(came);

    /* vcpu_info in the wrong place: over a page's end, in a table, in somebody else's frame; and twice. */
    struct vcpu_register_vcpu_info info = { .mfn = mfn_of(page), .offset = 4096 - 63 };

    check_is(HYPERVISOR_vcpu_op(VCPUOP_register_vcpu_info, 0, &info), -XEN_ENXIO);
    info.offset = ~0U;
    check_is(HYPERVISOR_vcpu_op(VCPUOP_register_vcpu_info, 0, &info), -XEN_ENXIO);
    info.offset = 3;
    check_is(HYPERVISOR_vcpu_op(VCPUOP_register_vcpu_info, 0, &info), -XEN_ENXIO);
    info.offset = 0, info.mfn = mfn_of(pte_of(page, 1));
    check_is(HYPERVISOR_vcpu_op(VCPUOP_register_vcpu_info, 0, &info), -XEN_EINVAL);
    info.mfn = 0xfffffff;
    check_is(HYPERVISOR_vcpu_op(VCPUOP_register_vcpu_info, 0, &info), -XEN_EINVAL);
    if (fact("secret")) {
        info.mfn = fact("secret");
        check_is(HYPERVISOR_vcpu_op(VCPUOP_register_vcpu_info, 0, &info), -XEN_EINVAL);
    }
    info.mfn = mfn_of(page);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_register_vcpu_info, 1, &info), -XEN_EINVAL); /* it runs: only itself may */
    check_is(HYPERVISOR_vcpu_op(VCPUOP_down, 1, 0), 0);
}
