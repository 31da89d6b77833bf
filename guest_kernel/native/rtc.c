/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The clock with the battery (MC146818, ports 70H and 71H).  It counts seconds, in bytes that may be decimal; while it
 * carries from one byte to the next they cannot be read.  We read it once, at boot, and count on with the TSC.
 */
#include <lib.h>

#include "instructions.h"
#include "native.h"

#define INDEX 0x70
#define DATA 0x71

enum { SECOND, MINUTE = 2, HOUR = 4, DAY = 7, MONTH = 8, YEAR = 9, STATUS_A = 10, STATUS_B = 11, CENTURY = 0x32 };

#define A_CARRYING 0x80
#define B_24_HOURS 0x02
#define B_BINARY 0x04
#define HOUR_PM 0x80

static u64 boot_time; /* ns since 1970 */

static const u8 which[] = { SECOND, MINUTE, HOUR, DAY, MONTH, YEAR, CENTURY };

static u8 read(u8 index)
{
    out8(INDEX, index);
    return in8(DATA);
}

static void read_all(u8 values[])
{
    while (read(STATUS_A) & A_CARRYING)
        continue;
    for (unsigned i = 0; i < sizeof(which); i++)
        values[i] = read(which[i]);
}

static unsigned number(u8 byte, u8 status)
{
    return status & B_BINARY ? byte : (byte >> 4) * 10U + (byte & 15);
}

/* Days since 1970: years begin in March here, so that the odd day is their last. */
static u64 day_number(u64 year, u64 month, u64 day)
{
    if (month < 3) {
        month += 12;
        year--;
    }
    return year * 365 + year / 4 - year / 100 + year / 400 + (153 * (month - 3) + 2) / 5 + day - 1 - 719468;
}

void rtc_init(void)
{
    u8 v[sizeof(which)], again[sizeof(which)], status = read(STATUS_B);
    unsigned hour;
    u64 days;

    do { /* a carry may have begun in between: what is the same twice is right */
        read_all(v);
        read_all(again);
    } while (memcmp(v, again, sizeof(v)));
    hour = number(v[2] & ~HOUR_PM, status);
    if (!(status & B_24_HOURS))
        hour = hour % 12 + (v[2] & HOUR_PM ? 12 : 0);
    days = day_number(number(v[6], status) * 100UL + number(v[5], status), number(v[4], status), number(v[3], status));
    boot_time = (((days * 24 + hour) * 60 + number(v[1], status)) * 60 + number(v[0], status)) * 1000000000UL;
    boot_time -= native_now();
}

u64 native_wallclock(void)
{
    return boot_time + native_now();
}
