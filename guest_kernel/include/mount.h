/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * File systems of disks, each mounted on a directory: its root is then found where that directory was.
 */
#pragma once

#include <block.h>
#include <file.h>
#include <lock.h>

struct mount;

/* A kind of file system. */
struct filesystem {
    const struct inode_operations *operations;
    int (*mount)(struct mount *mount);   /* fills in root and data */
    bool (*busy)(struct mount *mount);   /* somebody uses more than its root */
    int (*unmount)(struct mount *mount); /* all of it is on the disk, which is clean; nothing is written any more */
    void (*end)(struct mount *mount);    /* it is gone from memory */
    int (*usage)(struct mount *mount, struct mount_info *info);
};

struct mount {
    struct disk *disk;
    const struct filesystem *type;
    struct inode *covered, *root;
    bool readonly;
    void *data;       /* the file system's */
    struct lock lock; /* one process at a time is inside */
    char directory[PATH_MAX];
    struct mount *next;
};

/* kernel/mount.c */
int mount_add(const char *device, const char *directory, int flags);
int mount_remove(const char *directory);
int mounts_list(u64 which, struct mount_info *info); /* 1, or 0 behind the last */
int mounts_end(void); /* all of them, used or not, are clean on their disks: the machine is about to be switched off */
