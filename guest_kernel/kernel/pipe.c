/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Pipes: a ring of one page, readers asleep when it is empty, writers when it is full. Each end is an open file with
 * a device behind it that has no name.
 */
#include <api/errno.h>
#include <file.h>
#include <lib.h>
#include <page.h>
#include <process.h>

struct pipe {
    u8 *ring;
    u64 written, read; /* bytes ever; their difference is what is in the ring */
    bool has_reader, has_writer;
};

static long pipe_read(struct file *file, u64 to, size_t n)
{
    struct pipe *pipe = file->device_data;
    size_t done = 0;

    while (pipe->read == pipe->written) {
        if (!pipe->has_writer)
            return 0;
        if (sleep_on(&pipe->written))
            return -EINTR;
    }
    while (done < n && pipe->read < pipe->written) {
        size_t at = pipe->read % PAGE_SIZE, piece = MIN(n - done, pipe->written - pipe->read);

        piece = MIN(piece, PAGE_SIZE - at);
        if (copy_to_user(to + done, pipe->ring + at, piece))
            return -EFAULT;
        pipe->read += piece;
        done += piece;
    }
    wake_up(&pipe->read);
    return (long)done;
}

static long pipe_write(struct file *file, u64 from, size_t n)
{
    struct pipe *pipe = file->device_data;
    size_t done = 0;

    while (done < n) {
        size_t room = PAGE_SIZE - (pipe->written - pipe->read), at = pipe->written % PAGE_SIZE;
        size_t piece = MIN(MIN(n - done, room), PAGE_SIZE - at);

        if (!pipe->has_reader)
            return -EPIPE;
        if (!room) {
            if (sleep_on(&pipe->read))
                return -EINTR;
            continue;
        }
        if (copy_from_user(pipe->ring + at, from + done, piece))
            return -EFAULT;
        pipe->written += piece;
        done += piece;
        wake_up(&pipe->written);
    }
    return (long)done;
}

static void pipe_close(struct file *file)
{
    struct pipe *pipe = file->device_data;

    if (file->mode & O_WRITE)
        pipe->has_writer = false;
    else
        pipe->has_reader = false;
    wake_up(&pipe->written);
    wake_up(&pipe->read);
    if (!pipe->has_reader && !pipe->has_writer) {
        kfree(pipe->ring);
        kfree(pipe);
    }
}

static const struct device ends = { .read = pipe_read, .write = pipe_write, .close = pipe_close };

int pipe_create(struct file **reader, struct file **writer)
{
    struct pipe *pipe = kmalloc(sizeof(*pipe));
    u8 *ring = kmalloc(PAGE_SIZE);

    *reader = file_create(O_READ);
    *writer = file_create(O_WRITE);
    if (!pipe || !ring || !*reader || !*writer) {
        kfree(pipe);
        kfree(ring);
        kfree(*reader);
        kfree(*writer);
        return -ENOMEM;
    }
    *pipe = (struct pipe){ .ring = ring, .has_reader = true, .has_writer = true };
    (*reader)->device = (*writer)->device = &ends;
    (*reader)->device_data = (*writer)->device_data = pipe;
    return 0;
}
