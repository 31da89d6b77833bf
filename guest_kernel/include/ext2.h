/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ext2 in memory, and what the files ext2*.c tell each other.
 *
 * Nothing of the disk is trusted: each number is checked where it is used, and what cannot be is -EUCLEAN.
 */
#pragma once

#include <block.h>
#include <ext2_disk.h>
#include <mount.h>

struct ext2 {
    struct mount *mount;
    struct disk *disk;
    u32 block_size, blocks, first_block, blocks_per_group, groups;
    u32 inodes, inodes_per_group, inode_size, first_inode;
    bool file_types, large_files, was_clean, damaged;
    struct node *nodes;
};

/* An inode that somebody has in use: there is one for each number. */
struct node {
    struct inode inode;
    u32 number;
    bool deleted; /* it has no name any more, and goes when nobody uses it ... */
    bool buried;  /* ... which has begun */
    struct node *next;
    char name[];
};

static inline struct node *node_of(struct inode *inode) { return (struct node *)inode; }
static inline struct ext2 *ext2_of(struct inode *inode) { return inode->mount->data; }

static inline int ext2_kind(const struct ext2_inode *inode)
{
    u16 type = inode->mode & EXT2_TYPE;

    return type == EXT2_FILE ? KIND_FILE : type == EXT2_DIRECTORY ? KIND_DIRECTORY : KIND_OTHER;
}

static inline u64 ext2_size(const struct ext2_inode *inode)
{
    return inode->size | (ext2_kind(inode) == KIND_FILE ? (u64)inode->size_high << 32 : 0);
}

/* ext2.c: the file system as a whole */
extern const struct filesystem ext2_filesystem;

/* ext2_block.c: a block, with its buffer held until buffer_put(); and what is counted and described in some of them */
u8 *ext2_block(struct ext2 *fs, u32 number, struct buffer **buffer, int *error);
u8 *ext2_new_block(struct ext2 *fs, u32 number, struct buffer **buffer, int *error); /* zeroes, whatever is there */
struct ext2_super *ext2_super(struct disk *disk, struct buffer **buffer, int *error);
struct ext2_group *ext2_group(struct ext2 *fs, u32 group, struct buffer **buffer, int *error);
struct ext2_inode *ext2_inode(struct ext2 *fs, u32 number, struct buffer **buffer, int *error);
bool ext2_is_data(struct ext2 *fs, u32 block); /* may it belong to a file? */
u32 ext2_now(void);
int ext2_damaged(struct ext2 *fs, const char *what, u32 number); /* says so, notes it on the disk; -EUCLEAN */

/* ext2_alloc.c: the bitmaps */
int ext2_take_block(struct ext2 *fs, u32 near, u32 *block);
int ext2_free_block(struct ext2 *fs, u32 block);
int ext2_take_inode(struct ext2 *fs, u32 near, bool directory, u32 *number);
int ext2_free_inode(struct ext2 *fs, u32 number, bool directory);

/* ext2_map.c: which block of the disk is which block of a file */
int ext2_map(struct ext2 *fs, u32 number, struct ext2_inode *inode, struct buffer *buffer, u64 index, bool create,
             u32 *block, bool *is_new);
int ext2_unmap_all(struct ext2 *fs, struct ext2_inode *inode, struct buffer *buffer);

/* ext2_file.c: bytes */
long ext2_read(struct inode *file, u64 offset, u64 to, size_t n, copy_out copy);
long ext2_write(struct inode *file, u64 offset, u64 from, size_t n, copy_in copy);
int ext2_truncate(struct inode *file);

/* ext2_directory.c: names */
int ext2_find_name(struct inode *directory, const char *name, size_t length, u32 *number); /* 0, or -ENOENT ... */
int ext2_add_name(struct inode *directory, const char *name, size_t length, u32 number, int kind);
int ext2_drop_name(struct inode *directory, const char *name, size_t length);
int ext2_is_empty(struct inode *directory); /* 0, or -ENOTEMPTY ... */
int ext2_fill_new(struct inode *directory, u32 parent); /* with "." and ".." */
int ext2_list(struct inode *directory, u64 *position, struct directory_entry *entry);

/* ext2_node.c: inodes that somebody uses, made and removed */
int ext2_node(struct mount *mount, u32 number, struct inode *parent, const char *name, size_t length,
              struct inode **out);
int ext2_create(struct inode *directory, const char *name, size_t length, int kind, struct inode **out);
int ext2_remove(struct inode *directory, const char *name, size_t length, struct inode **out);
int ext2_bury(struct inode *inode);
struct inode *ext2_forget(struct inode *inode);
