/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * date: year-month-day hour:minute:second, UTC.
 */
#include <user.h>

static int is_leap(u64 year)
{
    return (year % 4 == 0 && year % 100) || year % 400 == 0;
}

int main(int argc, char **argv)
{
    static const u8 lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    u64 seconds = time() / 1000000000, days = seconds / 86400, year = 1970, month = 0;

    for (; days >= 365U + is_leap(year); year++)
        days -= 365 + is_leap(year);
    for (;; month++) {
        u64 length = lengths[month] + (month == 1 && is_leap(year));

        if (days < length)
            break;
        days -= length;
    }
    printf("%04lu-%02lu-%02lu %02lu:%02lu:%02lu UTC\n", year, month + 1, days + 1, seconds / 3600 % 24,
           seconds / 60 % 60, seconds % 60);
    return 0;
}
