/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Open files, whatever is behind them: a file, a directory, a device, a pipe's end.
 */
#include <api/errno.h>
#include <file.h>
#include <lib.h>
#include <vm.h>

struct file *file_create(u32 mode)
{
    struct file *file = kmalloc(sizeof(*file));

    if (file) {
        file->references = 1;
        file->mode = mode;
    }
    return file;
}

struct file *file_get(struct file *file)
{
    file->references++;
    return file;
}

void file_put(struct file *file)
{
    if (--file->references)
        return;
    if (file->device && file->device->close)
        file->device->close(file);
    if (file->inode)
        inode_put(file->inode);
    kfree(file);
}

struct file *file_open(const char *path, u32 mode, int *error)
{
    struct inode *inode = inode_find(path);
    struct file *file;

    *error = 0;
    if (!inode && (mode & O_CREATE))
        *error = inode_create(path, KIND_FILE, &inode);
    else if (!inode)
        *error = -ENOENT;
    else if (inode->kind == KIND_DIRECTORY && (mode & O_WRITE))
        *error = -EISDIR;
    if (*error)
        return NULL;
    file = file_create(mode);
    if (!file) {
        *error = -ENOMEM;
        return NULL;
    }
    inode_get(inode);
    file->inode = inode;
    file->device = inode->device;
    if (file->device && file->device->open)
        *error = file->device->open(file);
    if (*error) {
        file->inode = NULL;
        inode_put(inode);
        kfree(file);
        return NULL;
    }
    if ((mode & O_TRUNCATE) && (mode & O_WRITE) && inode->kind == KIND_FILE)
        content_truncate(inode);
    return file;
}

long file_read(struct file *file, u64 to, size_t n)
{
    long done;

    if (!(file->mode & O_READ))
        return -EBADF;
    if (file->device)
        return file->device->read ? file->device->read(file, to, n) : -EINVAL;
    if (file->inode->kind == KIND_DIRECTORY)
        return -EISDIR;
    done = content_read(file->inode, file->position, to, n, copy_to_user);
    if (done > 0)
        file->position += done;
    return done;
}

long file_write(struct file *file, u64 from, size_t n)
{
    long done;

    if (!(file->mode & O_WRITE))
        return -EBADF;
    if (file->device)
        return file->device->write ? file->device->write(file, from, n) : -EINVAL;
    if (file->mode & O_APPEND)
        file->position = file->inode->size;
    done = content_write(file->inode, file->position, from, n, copy_from_user);
    if (done > 0)
        file->position += done;
    return done;
}

void device_register(const struct device *device)
{
    struct inode *inode;
    char path[PATH_MAX];

    format(path, sizeof(path), "/dev/%s", device->name);
    if (inode_create(path, KIND_DEVICE, &inode))
        panic("cannot make %s", path);
    inode->device = device;
}
