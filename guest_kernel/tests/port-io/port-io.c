/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Ports: without the I/O privilege level, which a guest gets by physdev_op, `in` and `out` are faults; with it they are
 * Xen's to answer, and a guest without hardware reads ones.
 */
#include "test.h"

const char test_name[] = "port-io";

void test_main(void)
{
    struct physdev_set_iopl iopl = { .iopl = 1 };
    long trap = PROBE_NONE;

    check_is(probe("inb $0x61, %%al"), 13);
    check_is(probe("outb %%al, $0x80"), 13);
    check_is(probe("cli"), 13);

    check_is(HYPERVISOR_physdev_op(PHYSDEVOP_set_iopl, &iopl), 0);
    asm volatile("xorl %%eax, %%eax; inb $0xb0, %%al" : "=a"(trap));
    check_is(trap & 0xff, 0xff);
    check_is(probe("cli"), PROBE_NONE); /* allowed, and ignored: the upcall mask is the interrupt flag */

    iopl.iopl = 4;
    check_is(HYPERVISOR_physdev_op(PHYSDEVOP_set_iopl, &iopl), -XEN_EINVAL);
    iopl.iopl = 0;
    check_is(HYPERVISOR_physdev_op(PHYSDEVOP_set_iopl, &iopl), 0);
    check_is(probe("inb $0x61, %%al"), 13);
}
