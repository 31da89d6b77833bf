/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ps: who is there. Time is CPU time, in milliseconds; memory is what is mapped, in KiB.
 */
#include <user.h>

int main(int argc, char **argv)
{
    static struct process_info list[64];
    int count = ps(list, ARRAY_SIZE(list));

    printf("  PID  PPID  PGRP STATE     TIME      MEM NAME\n");
    for (int i = 0; i < count; i++)
        printf("%5d %5d %5d %5c %8lu %8lu %s\n", list[i].pid, list[i].parent, list[i].group, list[i].state,
               list[i].nanoseconds / 1000000, list[i].pages * 4, list[i].name);
    return 0;
}
