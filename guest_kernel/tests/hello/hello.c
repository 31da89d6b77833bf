/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The least a guest can do: say a word on the console ring, and power itself off.
 */
#include "test.h"

const char test_name[] = "hello";

void test_main(void)
{
    say("Hello from domain %s\n", start_info->flags & SIF_INITDOMAIN ? "0" : "U");
}
