/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * SHUTDOWN_reboot: the domain asks to be started again.
 *
 * ends: reboot
 */
#include "test.h"

const char test_name[] = "reboot";

void test_main(void)
{
    say("PASS reboot\n");
    shutdown(SHUTDOWN_reboot);
}
