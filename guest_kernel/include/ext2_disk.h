/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The second extended file system, as it lies on a disk; all of it little-endian, as we are.
 *
 *      | boot | super- | group       | block  | inode  | inode      | data                      | the next
 *      | 1 KiB| block  | descriptors | bitmap | bitmap | table      | blocks                    | group ...
 *
 * The disk is cut into groups of blocks, each with its own bitmaps and inodes, so that a file's inode and blocks are
 * near each other.  Some groups, or all, begin with a copy of the superblock and the descriptors.  An inode is a file
 * without its name; a directory is a file of names and numbers of inodes.
 *
 * (Linux: fs/ext2/ext2.h.)
 */
#pragma once

#include <types.h>

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

/* Features. Who does not know an incompatible one may not mount it; a read-only compatible one, may not write. */
#define EXT2_FILE_TYPES 2  /* incompatible: a directory's entries have types */
#define EXT2_FEW_SUPERS 1  /* read-only compatible: only some groups have a copy of the superblock */
#define EXT2_LARGE_FILES 2 /* read-only compatible: some are of 2 GiB and more */

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
