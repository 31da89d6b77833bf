/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * console_io writes to Xen's own log. Whether an ordinary domain may is the build's choice, so what is argued here is
 * only what it may not.
 */
#include "test.h"

const char test_name[] = "console-io";

void test_main(void)
{
    char text[] = "console-io: a line for the hypervisor's log\n";
    long result = HYPERVISOR_console_io(CONSOLEIO_write, sizeof(text) - 1, text);

    check(result == 0 || result == -XEN_EPERM);
    if (start_info->flags & SIF_INITDOMAIN) {
        check_is(HYPERVISOR_console_io(CONSOLEIO_write, 0, text), 0);
        check_is(HYPERVISOR_console_io(CONSOLEIO_write, 16, (char *)8), -XEN_EFAULT);
        check_is(HYPERVISOR_console_io(77, 1, text), -XEN_ENOSYS);
    }
}
