/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * mount [-r] DEVICE DIRECTORY      the file system of a disk appears there; -r: only to be read
 * mount                            what is mounted
 */
#include <user.h>

static int list(void)
{
    struct mount_info info;
    int result;

    for (unsigned which = 0; (result = mounts(which, &info)) == 1; which++)
        printf("%s on %s, ext2%s\n", info.device, info.directory, info.flags & MOUNT_READONLY ? ", read-only" : "");
    if (result < 0)
        fail("mount: %s\n", error_text(result));
    return 0;
}

int main(int argc, char **argv)
{
    int readonly = argc > 1 && !strcmp(argv[1], "-r"), error;

    if (argc == 1)
        return list();
    if (argc - readonly != 3)
        fail("usage: mount [-r] DEVICE DIRECTORY\n");
    error = mount(argv[1 + readonly], argv[2 + readonly], readonly ? MOUNT_READONLY : 0);
    if (error == -EINVAL)
        fail("mount: %s: there is no ext2 file system\n", argv[1 + readonly]);
    if (error)
        fail("mount: %s on %s: %s\n", argv[1 + readonly], argv[2 + readonly], error_text(error));
    return 0;
}
