/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * /dev/xvda: a disk as a file, whose bytes are the disk's.
 *
 * Reads and writes go through the buffers, and are over when the bytes are there.  With O_DIRECT they are not over
 * before the disk has done them: nothing is taken from a buffer, and nothing is left to be written later.
 */
#include <api/errno.h>
#include <block.h>
#include <lib.h>
#include <vm.h>

#define AHEAD 64 /* pages asked for at once: enough for several requests to be under way */

static struct disk *disk_of(struct file *file)
{
    return (struct disk *)((char *)file->device - __builtin_offsetof(struct disk, device));
}

static int open(struct file *file)
{
    struct disk *disk = disk_of(file);
    int error = disk_connect(disk);

    if (error)
        return error;
    if ((file->mode & O_WRITE) && disk->readonly)
        error = -EROFS;
    else if ((file->mode & O_WRITE) && disk->mounted)
        error = -EBUSY; /* behind the back of its file system */
    if (error)
        disk_release(disk);
    else
        file->inode->size = disk->sectors * SECTOR_SIZE;
    return error;
}

static void close(struct file *file)
{
    disk_release(disk_of(file));
}

/* Of [position, position + n): whatever of it is on the disk. */
static size_t within_disk(struct disk *disk, u64 position, size_t n)
{
    u64 size = disk->sectors * SECTOR_SIZE;

    return position < size ? MIN(n, size - position) : 0;
}

static u64 pages_of(u64 position, size_t n)
{
    return (position + n - 1) / PAGE_SIZE - position / PAGE_SIZE + 1;
}

static long read(struct file *file, u64 to, size_t n)
{
    struct disk *disk = disk_of(file);
    u64 start = file->position, done = 0, asked = start / PAGE_SIZE, end;
    int error = 0;

    n = within_disk(disk, start, n);
    if (!n)
        return 0;
    end = asked + pages_of(start, n);
    if (file->mode & O_DIRECT)
        buffers_forget(disk, asked, end - asked);
    while (done < n) {
        u64 number = (start + done) / PAGE_SIZE, within = (start + done) % PAGE_SIZE;
        size_t piece = MIN(n - done, PAGE_SIZE - within);
        struct buffer *buffer;

        if (number + AHEAD / 2 >= asked && asked < end) {
            u64 count = MIN(end - asked, number + AHEAD - asked);

            buffers_read_ahead(disk, asked, count);
            asked += count;
        }
        buffer = buffer_get(disk, number, &error);
        if (!buffer)
            break;
        error = copy_to_user(to + done, buffer->data + within, piece);
        buffer_put(buffer);
        if (error)
            break;
        done += piece;
    }
    file->position += done;
    return done ? (long)done : error;
}

static long write(struct file *file, u64 from, size_t n)
{
    struct disk *disk = disk_of(file);
    u64 start = file->position, done = 0;
    int error = 0;

    if (n && !within_disk(disk, start, n))
        return -ENOSPC;
    n = within_disk(disk, start, n);
    while (done < n) {
        u64 number = (start + done) / PAGE_SIZE, within = (start + done) % PAGE_SIZE;
        size_t piece = MIN(n - done, PAGE_SIZE - within);
        struct buffer *buffer = piece == PAGE_SIZE ? buffer_get_empty(disk, number, &error)
                                                   : buffer_get(disk, number, &error);

        if (!buffer)
            break;
        error = copy_from_user(buffer->data + within, from + done, piece);
        buffer_changed(buffer);
        buffer_put(buffer);
        if (error)
            break;
        done += piece;
    }
    file->position += done;
    if (file->mode & O_DIRECT) {
        int failed = buffers_write(disk);

        if (failed)
            return failed;
    }
    return done ? (long)done : error;
}

void disk_register(struct disk *disk)
{
    struct disk **link = &disks;

    disk->last = &disk->first;
    disk->device = (struct device){
        .name = disk->name, .open = open, .read = read, .write = write, .close = close, .has_position = true };
    while (*link)
        link = &(*link)->next;
    *link = disk;
    device_register(&disk->device);
}
