/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * umount DIRECTORY: the file system that is mounted there goes, and the disk is clean.
 */
#include <user.h>

int main(int argc, char **argv)
{
    int error;

    if (argc != 2)
        fail("usage: umount DIRECTORY\n");
    error = umount(argv[1]);
    if (error == -EINVAL)
        fail("umount: %s: nothing is mounted there\n", argv[1]);
    if (error)
        fail("umount: %s: %s\n", argv[1], error_text(error));
    return 0;
}
