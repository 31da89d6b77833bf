/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * cpuid is not privileged, so a PV guest asks behind the prefix `ud2; "xen"`, which traps, and is answered by Xen: what
 * it may use, and at 0x40000000 who answers.
 */
#include "test.h"

const char test_name[] = "cpuid";

static void cpuid(unsigned leaf, unsigned r[4])
{
    asm volatile(XEN_CPUID : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "0"(leaf), "2"(0));
}

void test_main(void)
{
    unsigned r[4], most;

    cpuid(0x40000000, r);
    check(!memcmp(&r[1], "XenVMMXenVMM", 12));
    most = r[0];
    check(most >= 0x40000002);
    cpuid(0x40000001, r);
    check_is(r[0], HYPERVISOR_xen_version(XENVER_version, 0));

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
