/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a paravirtual machine has for devices.
 */
#include <device.h>

#include "../pv/pv.h"

void platform_devices(void)
{
    timer_init();
    console_init();
    grants_init();
    reports_init();
    xenstore_init();
}
