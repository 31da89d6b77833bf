/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ext2: which blocks and inodes are in use.  Each group has a bitmap of both, a block each; how many are free is
 * counted in the group's description and in the superblock, and all three change together.
 *
 * Who takes something says near what it should be: a file's next block near the one before, its first near its inode.
 */
#include <api/errno.h>
#include <ext2.h>
#include <lib.h>

enum kind { BLOCKS, INODES };

/* How many the group has: the last one may have fewer blocks. */
static u32 group_size(struct ext2 *fs, enum kind kind, u32 group)
{
    if (kind == INODES)
        return fs->inodes_per_group;
    return MIN(fs->blocks_per_group, fs->blocks - fs->first_block - group * fs->blocks_per_group);
}

/* `change` more are free, or fewer: in the group and in the whole. */
static int count(struct ext2 *fs, enum kind kind, u32 group, int change, int directories)
{
    struct buffer *buffer;
    struct ext2_group *described;
    struct ext2_super *super;
    int error = 0;

    described = ext2_group(fs, group, &buffer, &error);
    if (!described)
        return error;
    *(kind == BLOCKS ? &described->free_blocks : &described->free_inodes) += (u16)change;
    described->directories += (u16)directories;
    buffer_changed(buffer);
    buffer_put(buffer);
    super = ext2_super(fs->disk, &buffer, &error);
    if (!super)
        return error;
    *(kind == BLOCKS ? &super->free_blocks : &super->free_inodes) += (u32)change;
    buffer_changed(buffer);
    buffer_put(buffer);
    return 0;
}

static u8 *bitmap(struct ext2 *fs, enum kind kind, u32 group, struct buffer **buffer, int *error)
{
    struct ext2_group *described = ext2_group(fs, group, buffer, error);
    u32 block;

    if (!described)
        return NULL;
    block = kind == BLOCKS ? described->block_bitmap : described->inode_bitmap;
    buffer_put(*buffer);
    return ext2_block(fs, block, buffer, error);
}

/* The first clear bit from `start` on, or `size`. */
static u32 find_clear(const u8 *bits, u32 start, u32 size)
{
    u32 at = start;

    while (at < size && bits[at / 8] & 1 << at % 8)
        at += at % 8 == 0 && bits[at / 8] == 0xff ? 8 : 1;
    return MIN(at, size);
}

/* In the group of `near` from there on, then in the groups behind it, round to where it began. */
static int take(struct ext2 *fs, enum kind kind, u32 near, int directories, u32 *taken)
{
    u32 per_group = kind == BLOCKS ? fs->blocks_per_group : fs->inodes_per_group;
    u32 first = near / per_group < fs->groups ? near / per_group : 0, start = near % per_group;

    for (u32 i = 0; i <= fs->groups; i++, start = 0) {
        u32 group = (first + i) % fs->groups, size = group_size(fs, kind, group), at;
        struct buffer *buffer;
        int error = 0;
        u8 *bits = bitmap(fs, kind, group, &buffer, &error);

        if (!bits)
            return error;
        at = find_clear(bits, start, size);
        if (at < size) {
            bits[at / 8] |= (u8)(1 << at % 8);
            buffer_changed(buffer);
        }
        buffer_put(buffer);
        if (at < size) {
            *taken = group * per_group + at;
            return count(fs, kind, group, -1, directories);
        }
    }
    return -ENOSPC;
}

static int give_back(struct ext2 *fs, enum kind kind, u32 index, int directories)
{
    u32 per_group = kind == BLOCKS ? fs->blocks_per_group : fs->inodes_per_group;
    u32 group = index / per_group, at = index % per_group;
    struct buffer *buffer;
    bool was_set;
    int error = 0;
    u8 *bits = bitmap(fs, kind, group, &buffer, &error);

    if (!bits)
        return error;
    was_set = bits[at / 8] & 1 << at % 8;
    if (was_set) {
        bits[at / 8] &= (u8)~(1 << at % 8);
        buffer_changed(buffer);
    }
    buffer_put(buffer);
    if (!was_set)
        return ext2_damaged(fs, kind == BLOCKS ? "free twice is block" : "free twice is inode", index);
    return count(fs, kind, group, 1, directories);
}

/* Blocks are counted from the first one of the first group, inodes from 1. */
int ext2_take_block(struct ext2 *fs, u32 near, u32 *block)
{
    int error = take(fs, BLOCKS, near > fs->first_block ? near - fs->first_block : 0, 0, block);

    if (error)
        return error;
    *block += fs->first_block;
    return ext2_is_data(fs, *block) ? 0 : ext2_damaged(fs, "marked as free is block", *block);
}

int ext2_free_block(struct ext2 *fs, u32 block)
{
    if (!ext2_is_data(fs, block))
        return ext2_damaged(fs, "a file has block", block);
    return give_back(fs, BLOCKS, block - fs->first_block, 0);
}

int ext2_take_inode(struct ext2 *fs, u32 near, bool directory, u32 *number)
{
    int error = take(fs, INODES, near - 1, directory, number);

    if (error)
        return error;
    ++*number;
    return *number >= fs->first_inode ? 0 : ext2_damaged(fs, "marked as free is inode", *number);
}

int ext2_free_inode(struct ext2 *fs, u32 number, bool directory)
{
    return give_back(fs, INODES, number - 1, directory ? -1 : 0);
}
