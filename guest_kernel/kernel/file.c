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

/* May the inode be opened in that way? And does its device want to be? */
static int open_inode(struct file *file, struct inode *inode)
{
    int error = 0;

    if (inode->kind == KIND_OTHER)
        return -EOPNOTSUPP;
    if (inode->kind == KIND_DIRECTORY && (file->mode & O_WRITE))
        return -EISDIR;
    file->inode = inode;
    file->device = inode->device;
    if (file->device && file->device->open)
        error = file->device->open(file);
    else if ((file->mode & O_TRUNCATE) && (file->mode & O_WRITE) && inode->kind == KIND_FILE)
        error = inode->operations->truncate(inode);
    return error;
}

struct file *file_open(const char *path, u32 mode, int *error)
{
    struct inode *inode;
    struct file *file;

    *error = inode_find(path, &inode);
    if (*error == -ENOENT && (mode & O_CREATE))
        *error = inode_create(path, KIND_FILE, &inode);
    if (*error)
        return NULL;
    file = file_create(mode);
    *error = file ? open_inode(file, inode) : -ENOMEM;
    if (*error) {
        inode_put(inode);
        kfree(file);
        return NULL;
    }
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
    done = file->inode->operations->read(file->inode, file->position, to, n, copy_to_user);
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
    done = file->inode->operations->write(file->inode, file->position, from, n, copy_from_user);
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
    inode_put(inode);
}
