/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The second extended file system, as it lies on a disk, and what the files ext2*.c tell each other.
 *
 *      | boot | super- | group       | block  | inode  | inode      | data                      | the next
 *      | 1 KiB| block  | descriptors | bitmap | bitmap | table      | blocks                    | group ...
 *
 * The disk is cut into groups of blocks, each with its own bitmaps and inodes, so that a file's inode and blocks are near
 * each other.  An inode is a file without its name; a directory is a file of names and numbers of inodes.
 *
 * Nothing of the disk is trusted: each number is checked where it is used, and what cannot be is -EUCLEAN.
 *
 * (Linux: fs/ext2/ext2.h.)
 */
#pragma once

#include <block.h>
#include <mount.h>

/* -- on the disk; all of it little-endian, as we are -------------------------------------------------------------- */

#define EXT2_MAGIC 0xef53
#define EXT2_SUPER_OFFSET 1024 /* bytes from the start of the disk, whatever the size of a block */
#define EXT2_ROOT 2            /* the number of the root directory's inode */
#define EXT2_FIRST_INODE 11    /* in revision 0: the lower ones have a special use */

struct ext2_super {
    u32 inodes, blocks, reserved_blocks, free_blocks, free_inodes, first_block;
    u32 log_block_size, log_fragment_size; /* 0: 1 KiB, 1: 2 KiB, 2: 4 KiB */
    u32 blocks_per_group, fragments_per_group, inodes_per_group;
    u32 mount_time, write_time;
    u16 mounts, mounts_max, magic, state, on_error, minor_revision;
    u32 last_check, check_interval, creator, revision;
    u16 uid, gid;
    /* from revision 1 on */
    u32 first_inode;
    u16 inode_size, group;
    u32 compatible, incompatible, readonly_compatible; /* features */
    u8 uuid[16];
    char label[16];
};

#define EXT2_CLEAN 1  /* state: it was unmounted */
#define EXT2_ERRORS 2 /* something was found that cannot be */

#define EXT2_FILE_TYPES 2             /* incompatible: who does not know it may not even read. A directory's entries have types */
#define EXT2_FEW_SUPERS 1             /* read-only compatible: who does not know it may not write. Few copies of the superblock */
#define EXT2_LARGE_FILES 2

struct ext2_group {
    u32 block_bitmap, inode_bitmap, inode_table; /* blocks */
    u16 free_blocks, free_inodes, directories, flags;
    u32 reserved[3];
};

#define EXT2_DIRECT 12 /* pointers to data; then one to a block of pointers, one to a block of those, and once more */
#define EXT2_POINTERS 15

struct ext2_inode {
    u16 mode, uid;
    u32 size, access_time, change_time, modify_time, delete_time;
    u16 gid, links;
    u32 sectors; /* that it has, pointers' blocks among them, in units of 512 bytes */
    u32 flags, version;
    u32 block[EXT2_POINTERS];
    u32 generation, attributes /* a block of them */, size_high, fragment;
    u8 more[12];
};

#define EXT2_TYPE 0170000 /* of mode */
#define EXT2_FIFO 0010000
#define EXT2_DIRECTORY 0040000
#define EXT2_FILE 0100000
#define EXT2_LINK 0120000
#define EXT2_INDEXED 0x1000 /* flags: a directory with an index for who knows it; we change it and leave that behind */

struct ext2_entry {
    u32 inode;       /* 0: nobody is here */
    u16 length;      /* to the next one: the last reaches to the end of its block */
    u8 name_length, type;
    char name[];
};

/* -- in memory ---------------------------------------------------------------------------------------------------- */

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
int ext2_node(struct mount *mount, u32 number, struct inode *parent, const char *name, size_t length, struct inode **out);
int ext2_create(struct inode *directory, const char *name, size_t length, int kind, struct inode **out);
int ext2_remove(struct inode *directory, const char *name, size_t length, struct inode **out);
int ext2_bury(struct inode *inode);
struct inode *ext2_forget(struct inode *inode);
