/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * free: memory, in KiB.
 */
#include <user.h>

int main(int argc, char **argv)
{
    struct memory_info info;

    memory(&info);
    printf("   total     used     free   tables\n");
    printf("%8lu %8lu %8lu %8lu\n", info.total_pages * 4, (info.total_pages - info.free_pages) * 4, info.free_pages * 4,
           info.table_pages * 4);
    return 0;
}
