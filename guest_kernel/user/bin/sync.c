/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * sync: when it ends, everything that was written is safe on the disks.
 */
#include <user.h>

int main(int argc, char **argv)
{
    int error = sync();

    if (error)
        fail("sync: %s\n", error_text(error));
    return 0;
}
