/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ext2: blocks, and where the superblock, a group's description and an inode lie in them.  See ext2_disk.h for the
 * layout.
 *
 * What is found is used where it lies, in the buffer: so there is one copy of everything, and who changes it marks the
 * buffer as changed.  A buffer is a page, and has as many blocks as fit.
 */
#include <api/errno.h>
#include <ext2.h>
#include <lib.h>
#include <pv_ops.h>

static bool is_on_disk(struct ext2 *fs, u32 block)
{
    return block >= fs->first_block && block < fs->blocks;
}

u8 *ext2_block(struct ext2 *fs, u32 number, struct buffer **buffer, int *error)
{
    u64 at = (u64)number * fs->block_size;

    if (!is_on_disk(fs, number)) {
        *error = ext2_damaged(fs, "there is no block", number);
        return NULL;
    }
    *buffer = buffer_get(fs->disk, at / PAGE_SIZE, error);
    return *buffer ? (*buffer)->data + at % PAGE_SIZE : NULL;
}

u8 *ext2_new_block(struct ext2 *fs, u32 number, struct buffer **buffer, int *error)
{
    u64 at = (u64)number * fs->block_size;

    /* If a page is one block, there is nothing in it to be read first. */
    *buffer = fs->block_size == PAGE_SIZE ? buffer_get_empty(fs->disk, at / PAGE_SIZE, error)
                                          : buffer_get(fs->disk, at / PAGE_SIZE, error);
    if (!*buffer)
        return NULL;
    memset((*buffer)->data + at % PAGE_SIZE, 0, fs->block_size);
    buffer_changed(*buffer);
    return (*buffer)->data + at % PAGE_SIZE;
}

struct ext2_super *ext2_super(struct disk *disk, struct buffer **buffer, int *error)
{
    *buffer = buffer_get(disk, 0, error);
    return *buffer ? (struct ext2_super *)((*buffer)->data + EXT2_SUPER_OFFSET) : NULL;
}

/* The descriptions begin in the block behind the superblock. */
struct ext2_group *ext2_group(struct ext2 *fs, u32 group, struct buffer **buffer, int *error)
{
    u32 in_block = fs->block_size / sizeof(struct ext2_group);
    u8 *block = ext2_block(fs, fs->first_block + 1 + group / in_block, buffer, error);
    struct ext2_group *found = (struct ext2_group *)block + group % in_block;

    if (!block)
        return NULL;
    if (is_on_disk(fs, found->block_bitmap) && is_on_disk(fs, found->inode_bitmap) &&
        is_on_disk(fs, found->inode_table) &&
        is_on_disk(fs, found->inode_table + fs->inodes_per_group * fs->inode_size / fs->block_size - 1))
        return found;
    buffer_put(*buffer);
    *error = ext2_damaged(fs, "what is said cannot be of group", group);
    return NULL;
}

struct ext2_inode *ext2_inode(struct ext2 *fs, u32 number, struct buffer **buffer, int *error)
{
    u32 index = (number - 1) % fs->inodes_per_group, at = index * fs->inode_size, table;
    struct ext2_group *group;
    u8 *block;

    if (!number || number > fs->inodes) {
        *error = ext2_damaged(fs, "there is no inode", number);
        return NULL;
    }
    group = ext2_group(fs, (number - 1) / fs->inodes_per_group, buffer, error);
    if (!group)
        return NULL;
    table = group->inode_table;
    buffer_put(*buffer);
    block = ext2_block(fs, table + at / fs->block_size, buffer, error);
    return block ? (struct ext2_inode *)(block + at % fs->block_size) : NULL;
}

/* Not what the group itself is described by, and not the beginning of the disk. */
bool ext2_is_data(struct ext2 *fs, u32 block)
{
    u32 table_blocks = fs->inodes_per_group * fs->inode_size / fs->block_size;
    struct buffer *buffer;
    struct ext2_group *group;
    int error = 0;
    bool is;

    if (block <= fs->first_block || block >= fs->blocks)
        return false;
    group = ext2_group(fs, (block - fs->first_block) / fs->blocks_per_group, &buffer, &error);
    if (!group)
        return false;
    is = block != group->block_bitmap && block != group->inode_bitmap && block - group->inode_table >= table_blocks;
    buffer_put(buffer);
    return is;
}

u32 ext2_now(void)
{
    return (u32)(pv.wallclock() / 1000000000UL);
}

int ext2_damaged(struct ext2 *fs, const char *what, u32 number)
{
    struct buffer *buffer;
    struct ext2_super *super;
    int error = 0;

    if (!fs->damaged)
        kprintf("%s: ext2: damaged: %s %u\n", fs->disk->name, what, number);
    fs->damaged = true;
    super = ext2_super(fs->disk, &buffer, &error);
    if (!super)
        return -EUCLEAN;
    if (!fs->mount->readonly && !(super->state & EXT2_ERRORS)) {
        super->state |= EXT2_ERRORS; /* e2fsck will look closely */
        buffer_changed(buffer);
    }
    buffer_put(buffer);
    return -EUCLEAN;
}
