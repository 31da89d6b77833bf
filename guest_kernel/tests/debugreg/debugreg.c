/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Debug registers by hypercall: what is written is read, but no breakpoint may lie in the hypervisor.
 */
#include "test.h"

const char test_name[] = "debugreg";

PAGE(page);

void test_main(void)
{
    for (int i = 0; i < 4; i++) {
        check_is(HYPERVISOR_set_debugreg(i, (unsigned long)page + i * 8), 0);
        check_is(HYPERVISOR_get_debugreg(i), (unsigned long)page + i * 8);
    }
    check_is(HYPERVISOR_get_debugreg(6) & 0xf, 0);
    check_is(HYPERVISOR_get_debugreg(7) & 0xff, 0);
    check_is(HYPERVISOR_set_debugreg(0, 0xffff830000000000UL), -XEN_EPERM);
    check_is(HYPERVISOR_get_debugreg(0), (unsigned long)page);
    check_is(HYPERVISOR_set_debugreg(9, 0), -XEN_ENODEV);
    check_is(HYPERVISOR_get_debugreg(9), -XEN_ENODEV);
    for (int i = 0; i < 4; i++)
        check_is(HYPERVISOR_set_debugreg(i, 0), 0);
}
