/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * cpuid is not privileged, so a PV guest asks behind the prefix `ud2; "xen"`, which traps, and is answered by Xen: what
 * it may use, and at 0x40000000 who answers.
 */
#include "test.h"

const char test_name[] = "cpuid";

static void cpuid_of(unsigned leaf, unsigned subleaf, unsigned r[4])
{
    asm volatile(XEN_CPUID : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "0"(leaf), "2"(subleaf));
}

static void cpuid(unsigned leaf, unsigned r[4])
{
    cpuid_of(leaf, 0, r);
}

static void is_empty(unsigned leaf, unsigned subleaf)
{
    unsigned r[4];

    cpuid_of(leaf, subleaf, r);
    check_is(r[0] | r[1] | r[2] | r[3], 0);
}

/* Xen's own leaves, as they are for a PV guest. */
static void xens(void)
{
    unsigned r[4], khz;
    const volatile struct vcpu_time_info *time = &shared_info->vcpu_info[0].time;

    cpuid(XEN_CPUID_LEAF(0), r);
    check(!memcmp(&r[1], "XenVMMXenVMM", 12));
    check_is(r[0], XEN_CPUID_LEAF(XEN_CPUID_MAX_NUM_LEAVES));
    cpuid(XEN_CPUID_LEAF(1), r);
    check_is(r[0], HYPERVISOR_xen_version(XENVER_version, 0));
    check_is(r[1] | r[2] | r[3], 0);
    cpuid(XEN_CPUID_LEAF(2), r);
    check_is(r[0], 1); /* one hypercall page, and the MSR that makes one */
    check_is(r[1], 0x40000000);
    check_is(r[2], XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD);
    check_is(r[3], 0);

    /* The clock: TSC mode 0, how fast it counts, and the scale that the clock page has, too. */
    cpuid(XEN_CPUID_LEAF(3), r);
    khz = r[2];
    check((r[0] & 3) == 1 || (r[0] & 3) == 2); /* it is emulated, or it can be relied upon */
    check_is(r[1], 0);
    check_is(r[3], 1); /* the first life of the clock: it was not restored anywhere */
    check(khz > 100000);
    cpuid_of(XEN_CPUID_LEAF(3), 1, r);
    check_is(r[2], time->tsc_to_system_mul);
    check_is((int)r[3], (int)time->tsc_shift);
    cpuid_of(XEN_CPUID_LEAF(3), 2, r);
    check_is(r[0], khz);
    is_empty(XEN_CPUID_LEAF(3), 3);

    is_empty(XEN_CPUID_LEAF(4), 0); /* HVM guests' */
    cpuid(XEN_CPUID_LEAF(5), r);
    check(r[1] > 20 && r[1] < 52); /* the width of a machine address */
    check(mfn_of((void *)start_info->mfn_list) < 1UL << (r[1] - 12));
    check_is(r[0] | r[2] | r[3], 0);
    is_empty(XEN_CPUID_LEAF(5), 1);
    is_empty(XEN_CPUID_LEAF(6), 0);
    is_empty(XEN_CPUID_LEAF(0x100), 0);
}

void test_main(void)
{
    unsigned r[4];

    xens();
    cpuid(0, r);
    check(r[0] >= 1);
    cpuid(1, r);
    check(r[3] & (1 << 25));    /* SSE */
    check(r[3] & (1 << 24));    /* FXSR */
    check(!(r[3] & (1 << 3)));  /* PSE: there are no large pages here */
    check(!(r[2] & (1 << 17))); /* PCID: Xen's own */
    check(r[2] & (1U << 31));   /* a hypervisor is present */
    cpuid(0x80000001, r);
    check(r[3] & (1 << 20)); /* NX */
    check(r[3] & (1 << 29)); /* long mode */
    check(!(r[3] & (1 << 26)));  /* 1 GiB pages */

    /* The prefix without cpuid behind it is just ud2. */
    check_is(probe(".byte 0x0f,0x0b,0x78,0x65,0x6e,0x90"), 6);
}
