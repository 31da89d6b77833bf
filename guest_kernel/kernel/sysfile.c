/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * System calls about files.
 */
#include <file.h>
#include <lib.h>
#include <process.h>
#include <syscall.h>
#include <tty.h>

static struct file *descriptor(u64 fd)
{
    return fd < FILES_MAX ? current->files[fd] : NULL;
}

static s64 install(struct file *file)
{
    for (unsigned fd = 0; fd < FILES_MAX; fd++) {
        if (!current->files[fd]) {
            current->files[fd] = file;
            return fd;
        }
    }
    file_put(file);
    return -EMFILE;
}

s64 sys_open(struct trap_frame *frame)
{
    char path[PATH_MAX];
    int error = copy_string_from_user(path, ARG1(frame), sizeof(path));
    struct file *file;

    if (error < 0)
        return error;
    file = file_open(path, (u32)ARG2(frame), &error);
    return file ? install(file) : error;
}

s64 sys_close(struct trap_frame *frame)
{
    struct file *file = descriptor(ARG1(frame));

    if (!file)
        return -EBADF;
    current->files[ARG1(frame)] = NULL;
    file_put(file);
    return 0;
}

s64 sys_read(struct trap_frame *frame)
{
    struct file *file = descriptor(ARG1(frame));

    return file ? file_read(file, ARG2(frame), ARG3(frame)) : -EBADF;
}

s64 sys_write(struct trap_frame *frame)
{
    struct file *file = descriptor(ARG1(frame));

    return file ? file_write(file, ARG2(frame), ARG3(frame)) : -EBADF;
}

s64 sys_seek(struct trap_frame *frame)
{
    struct file *file = descriptor(ARG1(frame));
    s64 base;

    if (!file)
        return -EBADF;
    if (!file->inode || (file->inode->kind != KIND_FILE && !(file->device && file->device->has_position)))
        return -ESPIPE;
    base = ARG3(frame) == SEEK_SET ? 0 : ARG3(frame) == SEEK_CUR ? (s64)file->position : (s64)file->inode->size;
    if (ARG3(frame) > SEEK_END || base + (s64)ARG2(frame) < 0)
        return -EINVAL;
    file->position = base + ARG2(frame);
    return file->position;
}

s64 sys_dup(struct trap_frame *frame)
{
    struct file *file = descriptor(ARG1(frame));

    return file ? install(file_get(file)) : -EBADF;
}

s64 sys_dup2(struct trap_frame *frame)
{
    struct file *file = descriptor(ARG1(frame)), *before;
    u64 wanted = ARG2(frame);

    if (!file || wanted >= FILES_MAX)
        return -EBADF;
    before = current->files[wanted];
    current->files[wanted] = file_get(file);
    if (before)
        file_put(before);
    return wanted;
}

s64 sys_pipe(struct trap_frame *frame)
{
    struct file *reader, *writer;
    int error = pipe_create(&reader, &writer), fds[2];

    if (error)
        return error;
    fds[0] = (int)install(reader);
    fds[1] = (int)install(writer);
    if (fds[0] >= 0 && fds[1] >= 0 && !copy_to_user(ARG1(frame), fds, sizeof(fds)))
        return 0;
    error = fds[0] < 0 || fds[1] < 0 ? -EMFILE : -EFAULT;
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0) {
            file_put(current->files[fds[i]]);
            current->files[fds[i]] = NULL;
        }
    }
    return error;
}

s64 sys_unlink(struct trap_frame *frame)
{
    char path[PATH_MAX];
    int error = copy_string_from_user(path, ARG1(frame), sizeof(path));

    return error < 0 ? error : inode_remove(path);
}

s64 sys_mkdir(struct trap_frame *frame)
{
    char path[PATH_MAX];
    int error = copy_string_from_user(path, ARG1(frame), sizeof(path));
    struct inode *inode;

    if (error < 0)
        return error;
    error = inode_create(path, KIND_DIRECTORY, &inode);
    if (!error)
        inode_put(inode);
    return error;
}

s64 sys_readdir(struct trap_frame *frame)
{
    struct file *file = descriptor(ARG1(frame));
    struct directory_entry entry = { 0 };
    int result;

    if (!file)
        return -EBADF;
    if (!file->inode || file->inode->kind != KIND_DIRECTORY)
        return -ENOTDIR;
    result = file->inode->operations->list(file->inode, &file->position, &entry);
    return result == 1 && copy_to_user(ARG2(frame), &entry, sizeof(entry)) ? -EFAULT : result;
}

/* The inode that a system call's first argument names, in use. */
static int named(struct trap_frame *frame, struct inode **inode)
{
    char path[PATH_MAX];
    int error = copy_string_from_user(path, ARG1(frame), sizeof(path));

    return error < 0 ? error : inode_find(path, inode);
}

s64 sys_stat(struct trap_frame *frame)
{
    struct inode *inode;
    struct file_info info = { 0 };
    int error = named(frame, &inode);

    if (error)
        return error;
    info.size = inode->size;
    info.kind = inode->kind;
    inode_put(inode);
    return copy_to_user(ARG2(frame), &info, sizeof(info));
}

s64 sys_chdir(struct trap_frame *frame)
{
    struct inode *inode, *before = current->directory;
    int error = named(frame, &inode);

    if (error)
        return error;
    if (inode->kind != KIND_DIRECTORY) {
        inode_put(inode);
        return -ENOTDIR;
    }
    current->directory = inode;
    inode_put(before);
    return 0;
}

s64 sys_getcwd(struct trap_frame *frame)
{
    char path[PATH_MAX];
    int n = inode_path(current->directory, path, sizeof(path));

    if (n < 0 || (u64)n >= ARG2(frame))
        return -ENAMETOOLONG;
    return copy_to_user(ARG1(frame), path, n + 1) ? -EFAULT : n;
}

s64 sys_tty(struct trap_frame *frame)
{
    return tty_control((int)ARG1(frame), ARG2(frame));
}
