/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ext2: which block of the disk is which block of a file.
 *
 *      inode.block[ 0 ]  ->  data
 *             ...
 *                 [11]   ->  data
 *                 [12]   ->  a block of pointers  ->  data, data, data ...
 *                 [13]   ->  pointers  ->  pointers  ->  data ...
 *                 [14]   ->  pointers  ->  pointers  ->  pointers  ->  data ...
 *
 * A pointer of 0 is a hole: it reads as zeroes, and gets a block when somebody writes there.
 */
#include <api/errno.h>
#include <ext2.h>
#include <lib.h>

#define DEPTH_MAX 4

/* The way to a block: an index into inode.block, and one into each block of pointers. How many; 0: it is too far. */
static unsigned way_to(struct ext2 *fs, u64 index, u32 way[DEPTH_MAX])
{
    u64 in_block = fs->block_size / sizeof(u32), reach = 1;

    if (index < EXT2_DIRECT) {
        way[0] = (u32)index;
        return 1;
    }
    index -= EXT2_DIRECT;
    for (unsigned depth = 2; depth <= DEPTH_MAX; depth++) {
        reach *= in_block;
        if (index >= reach) {
            index -= reach;
            continue;
        }
        way[0] = EXT2_DIRECT + depth - 2;
        for (unsigned i = depth - 1; i > 0; i--) {
            way[i] = (u32)(index % in_block);
            index /= in_block;
        }
        return depth;
    }
    return 0;
}

/* An empty block for `*slot`, in the buffer `holder`. Pointers are zeroed here, data by whoever writes it. */
static int fill_slot(struct ext2 *fs, struct ext2_inode *inode, struct buffer *inode_buffer, u32 near, bool is_pointers,
                     u32 *slot, struct buffer *holder)
{
    struct buffer *buffer;
    u32 block;
    int error = ext2_take_block(fs, near, &block);

    if (error)
        return error;
    if (is_pointers) {
        if (!ext2_new_block(fs, block, &buffer, &error)) {
            ext2_free_block(fs, block);
            return error;
        }
        buffer_put(buffer);
    }
    *slot = block;
    buffer_changed(holder);
    inode->sectors += fs->block_size / SECTOR_SIZE;
    buffer_changed(inode_buffer);
    return 0;
}

/* Block `index` of the file whose inode is in `buffer`; 0 for a hole. With `create`, a hole gets a block: *is_new. */
int ext2_map(struct ext2 *fs, u32 number, struct ext2_inode *inode, struct buffer *buffer, u64 index, bool create,
             u32 *block, bool *is_new)
{
    u32 near = fs->first_block + (number - 1) / fs->inodes_per_group * fs->blocks_per_group; /* in the inode's group */
    u32 way[DEPTH_MAX], *slot;
    unsigned depth = way_to(fs, index, way);
    struct buffer *holder = buffer;
    int error = 0;

    *block = 0;
    *is_new = false;
    if (!depth)
        return -EFBIG;
    slot = &inode->block[way[0]];
    for (unsigned level = 1;; level++) {
        if (!*slot && create) {
            if (way[level - 1] && slot[-1])
                near = slot[-1]; /* behind the block before it */
            error = fill_slot(fs, inode, buffer, near, level < depth, slot, holder);
            *is_new = true;
        }
        if (error || !*slot)
            break;
        if (!ext2_is_data(fs, *slot)) {
            error = ext2_damaged(fs, "a file has block", *slot);
            break;
        }
        if (level == depth) {
            *block = *slot;
            break;
        }
        struct buffer *next;
        u8 *pointers = ext2_block(fs, *slot, &next, &error);

        if (!pointers)
            break;
        near = *slot;
        *is_new = false;
        if (holder != buffer)
            buffer_put(holder);
        holder = next;
        slot = (u32 *)pointers + way[level];
    }
    if (holder != buffer)
        buffer_put(holder);
    return error;
}

/* A block, and with levels > 0 all that it points to. */
static int free_tree(struct ext2 *fs, u32 block, unsigned levels)
{
    int error = 0;

    if (levels) {
        for (u32 i = 0; !error && i < fs->block_size / sizeof(u32); i++) {
            struct buffer *buffer;
            u32 *pointers = (u32 *)ext2_block(fs, block, &buffer, &error), below;

            if (!pointers)
                return error;
            below = pointers[i];
            buffer_put(buffer);
            if (below)
                error = free_tree(fs, below, levels - 1);
        }
    }
    return error ? error : ext2_free_block(fs, block);
}

int ext2_unmap_all(struct ext2 *fs, struct ext2_inode *inode, struct buffer *buffer)
{
    int error = 0;

    for (unsigned i = 0; i < EXT2_POINTERS; i++) {
        u32 block = inode->block[i];
        int failed;

        if (!block)
            continue;
        inode->block[i] = 0; /* even if it cannot be: nothing is freed twice */
        buffer_changed(buffer);
        failed = free_tree(fs, block, i < EXT2_DIRECT ? 0 : i - EXT2_DIRECT + 1);
        error = error ? error : failed;
    }
    inode->sectors = 0;
    buffer_changed(buffer);
    return error;
}
