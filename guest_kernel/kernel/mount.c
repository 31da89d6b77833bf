/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What is mounted where.
 *
 * The root of a file system takes the place of a directory: it has its name and its parent, and paths go from the one
 * to the other (path.c).  What was in that directory is not to be seen until the file system goes.
 */
#include <api/errno.h>
#include <ext2.h>
#include <lib.h>
#include <mount.h>

static struct mount *mounts;
static struct lock changing; /* one thing is mounted, or unmounted, at a time */

static struct disk *disk_named(const char *path)
{
    for (struct disk *disk = disks; disk; disk = disk->next)
        if (!strncmp(path, "/dev/", 5) && !strcmp(path + 5, disk->name))
            return disk;
    return NULL;
}

/* Whether it is a directory on which something can be mounted. Its path from the root is put at `path`. */
static int check_place(struct inode *place, char path[PATH_MAX])
{
    int n;

    if (place->kind != KIND_DIRECTORY)
        return -ENOTDIR;
    if (place == root_directory || (place->mount && place == place->mount->root))
        return -EBUSY;
    n = inode_path(place, path, PATH_MAX);
    return n < 0 ? n : 0;
}

static int mount_on(struct disk *disk, struct inode *place, int flags)
{
    struct mount *mount = kmalloc(sizeof(*mount)), **last = &mounts;
    int error;

    if (!mount)
        return -ENOMEM;
    mount->disk = disk;
    mount->type = &ext2_filesystem;
    mount->readonly = flags & MOUNT_READONLY || disk->readonly;
    error = check_place(place, mount->directory);
    if (!error)
        error = mount->type->mount(mount);
    if (error) {
        kfree(mount);
        return error;
    }
    mount->covered = inode_get(place);
    mount->root->parent = place->parent;
    mount->root->name = place->name;
    place->mounted = mount->root;
    disk->mounted = true;
    while (*last)
        last = &(*last)->next;
    *last = mount;
    return 0;
}

int mount_add(const char *device, const char *directory, int flags)
{
    struct disk *disk = disk_named(device);
    struct inode *place;
    int error = disk ? disk_connect(disk) : -ENODEV;

    if (error)
        return error;
    error = inode_find(directory, &place);
    if (!error) {
        lock_take(&changing);
        error = disk->mounted ? -EBUSY : mount_on(disk, place, flags);
        lock_release(&changing);
        inode_put(place);
    }
    if (error)
        disk_release(disk);
    return error;
}

static int take_away(struct mount *mount)
{
    struct mount **link = &mounts;
    int error;

    if (mount->type->busy(mount))
        return -EBUSY;
    mount->covered->mounted = NULL; /* nobody finds it any more */
    error = mount->type->unmount(mount);
    while (*link != mount)
        link = &(*link)->next;
    *link = mount->next;
    mount->type->end(mount);
    mount->disk->mounted = false;
    disk_release(mount->disk);
    inode_put(mount->covered);
    kfree(mount);
    return error;
}

int mount_remove(const char *directory)
{
    struct inode *root;
    struct mount *mount;
    int error = inode_find(directory, &root);

    if (error)
        return error;
    mount = root->mount && root == root->mount->root ? root->mount : NULL;
    inode_put(root);
    if (!mount)
        return -EINVAL;
    lock_take(&changing);
    error = take_away(mount);
    lock_release(&changing);
    return error;
}

int mounts_list(u64 which, struct mount_info *info)
{
    struct mount *mount;
    int error;

    lock_take(&changing);
    for (mount = mounts; mount && which; which--)
        mount = mount->next;
    if (mount) {
        format(info->device, sizeof(info->device), "/dev/%s", mount->disk->name);
        strlcpy(info->directory, mount->directory, sizeof(info->directory));
        info->flags = mount->readonly ? MOUNT_READONLY : 0;
        error = mount->type->usage(mount, info);
    }
    lock_release(&changing);
    return !mount ? 0 : error ? error : 1;
}

int mounts_end(void)
{
    int error = 0;

    lock_take(&changing); /* and keep it: nothing is mounted any more */
    for (struct mount *mount = mounts; mount; mount = mount->next) {
        int failed = mount->type->unmount(mount);

        error = error ? error : failed;
    }
    return error;
}
