/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What boot calls to get at the devices: the ones every kernel has, and those of its column.
 */
#pragma once

void devices_init(void);      /* kernel/device.c: /dev/null, /dev/zero */
void platform_devices(void);  /* the column: console, and what else there is */
