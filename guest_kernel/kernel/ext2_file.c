/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ext2: the bytes of a file.
 */
#include <api/errno.h>
#include <ext2.h>
#include <lib.h>

#define SMALL_FILE 0x7fffffffUL /* of more bytes, a file system has to say that it has such files */
#define AHEAD 16 /* pages that are read at once, if they lie in a row */

static void set_size(struct inode *file, struct ext2_inode *inode, u64 size)
{
    file->size = size;
    inode->size = (u32)size;
    if (file->kind == KIND_FILE)
        inode->size_high = (u32)(size >> 32);
}

/* Of the file's blocks from `index` on, which is `first` on the disk, all that are beside each other there. */
static void read_ahead(struct ext2 *fs, u32 number, struct ext2_inode *inode, struct buffer *buffer, u64 index,
                       u64 size, u32 first)
{
    u64 bytes = fs->block_size, from = (u64)first * fs->block_size, end = (size + fs->block_size - 1) / fs->block_size;
    bool is_new;
    u32 block;

    while (bytes < AHEAD * PAGE_SIZE && ++index < end &&
           !ext2_map(fs, number, inode, buffer, index, false, &block, &is_new) &&
           (u64)block * fs->block_size == from + bytes)
        bytes += fs->block_size;
    buffers_read_ahead(fs->disk, from / PAGE_SIZE, (from + bytes - 1) / PAGE_SIZE - from / PAGE_SIZE + 1);
}

long ext2_read(struct inode *file, u64 offset, u64 to, size_t n, copy_out copy)
{
    static const u8 zeroes[PAGE_SIZE];
    struct ext2 *fs = ext2_of(file);
    u32 number = node_of(file)->number, block;
    struct buffer *inode_buffer, *buffer;
    struct ext2_inode *inode;
    size_t done = 0;
    int error = 0;
    bool is_new;

    if (offset >= file->size)
        return 0;
    n = MIN(n, file->size - offset);
    inode = ext2_inode(fs, number, &inode_buffer, &error);
    if (!inode)
        return error;
    while (!error && done < n) {
        u64 index = (offset + done) / fs->block_size, within = (offset + done) % fs->block_size;
        size_t piece = MIN(n - done, fs->block_size - within);
        const u8 *data = zeroes;

        error = ext2_map(fs, number, inode, inode_buffer, index, false, &block, &is_new);
        if (error)
            break;
        if (block) {
            if (!buffer_is_there(fs->disk, (u64)block * fs->block_size / PAGE_SIZE))
                read_ahead(fs, number, inode, inode_buffer, index, file->size, block);
            data = ext2_block(fs, block, &buffer, &error);
            if (!data)
                break;
        }
        error = copy(to + done, data + within, piece);
        if (block)
            buffer_put(buffer);
        if (!error)
            done += piece;
    }
    buffer_put(inode_buffer);
    return done ? (long)done : error;
}

/* One block's part of a write. Even if `from` cannot be read the file has grown: no block may be beyond its end. */
static int write_block(struct ext2 *fs, struct inode *file, struct ext2_inode *inode, struct buffer *inode_buffer,
                       u64 offset, u64 from, size_t n, copy_in copy)
{
    u64 within = offset % fs->block_size, index = offset / fs->block_size;
    struct buffer *buffer;
    bool is_new;
    u32 block;
    u8 *data;
    int error = ext2_map(fs, node_of(file)->number, inode, inode_buffer, index, true, &block, &is_new);

    if (error)
        return error;
    data = is_new || n == fs->block_size ? ext2_new_block(fs, block, &buffer, &error)
                                         : ext2_block(fs, block, &buffer, &error);
    if (offset + n > file->size) {
        set_size(file, inode, offset + n);
        buffer_changed(inode_buffer);
    }
    if (!data)
        return error;
    error = copy(data + within, from, n);
    buffer_changed(buffer);
    buffer_put(buffer);
    return error;
}

long ext2_write(struct inode *file, u64 offset, u64 from, size_t n, copy_in copy)
{
    struct ext2 *fs = ext2_of(file);
    struct buffer *buffer;
    struct ext2_inode *inode;
    size_t done = 0;
    int error = 0;

    if (offset + n < offset || (offset + n > SMALL_FILE && !fs->large_files))
        return -EFBIG;
    inode = ext2_inode(fs, node_of(file)->number, &buffer, &error);
    if (!inode)
        return error;
    while (!error && done < n) {
        size_t piece = MIN(n - done, fs->block_size - (offset + done) % fs->block_size);

        error = write_block(fs, file, inode, buffer, offset + done, from + done, piece, copy);
        if (!error)
            done += piece;
    }
    inode->modify_time = inode->change_time = ext2_now();
    buffer_changed(buffer);
    buffer_put(buffer);
    return done ? (long)done : error;
}

int ext2_truncate(struct inode *file)
{
    struct ext2 *fs = ext2_of(file);
    struct buffer *buffer;
    int error = 0;
    struct ext2_inode *inode = ext2_inode(fs, node_of(file)->number, &buffer, &error);

    if (!inode)
        return error;
    set_size(file, inode, 0);
    inode->modify_time = inode->change_time = ext2_now();
    error = ext2_unmap_all(fs, inode, buffer);
    buffer_put(buffer);
    return error;
}
