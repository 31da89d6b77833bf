/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * df: how full what is mounted is, in KiB.
 */
#include <user.h>

int main(int argc, char **argv)
{
    struct mount_info info;
    int result;

    printf("device           total      free directory\n");
    for (unsigned which = 0; (result = mounts(which, &info)) == 1; which++)
        printf("%-12s %9lu %9lu %s\n", info.device, info.blocks * info.block_size / 1024,
               info.free_blocks * info.block_size / 1024, info.directory);
    if (result < 0)
        fail("df: %s\n", error_text(result));
    return 0;
}
