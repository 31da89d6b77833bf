/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The file system in memory: its inodes, and what ramfs.c and content.c tell each other.
 */
#pragma once

#include <file.h>

#define FILE_PAGES 512 /* one page of pointers: a file holds 2 MiB at most */
#define RAM_NAME_MAX 31

struct ram_inode {
    struct inode inode; /* one reference is for its name */
    char name[RAM_NAME_MAX + 1];
    bool removed; /* it has no name any more */
    struct ram_inode *next, *children;
    const u8 *packed;      /* contents still in the boot archive ... */
    struct page **content; /* ... or in pages of our own, once written to */
};

static inline struct ram_inode *ram_inode(struct inode *inode) { return (struct ram_inode *)inode; }

/* kernel/content.c: the bytes of a file */
long content_read(struct inode *inode, u64 offset, u64 to, size_t n, copy_out copy);
long content_write(struct inode *inode, u64 offset, u64 from, size_t n, copy_in copy);
int content_truncate(struct inode *inode);
