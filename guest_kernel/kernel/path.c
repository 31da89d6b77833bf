/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * From a path to an inode: name by name, from the root or from where the process is, and over into the file system
 * that is mounted on a directory.  What a name means, the directory's file system knows; but `.` and `..` are the
 * same for all.
 *
 * Whoever gets an inode here has it in use, and puts it (inode_put) when it is done.
 */
#include <api/errno.h>
#include <file.h>
#include <lib.h>
#include <process.h>

static bool is_dots(const char *name, size_t length)
{
    return length <= 2 && name[0] == '.' && name[length - 1] == '.';
}

/* One step, from `at`, which is put, to *at, or to NULL. */
static int step(struct inode **at, const char *name, size_t length)
{
    struct inode *from = *at, *to = NULL;
    int error = 0;

    if (from->kind != KIND_DIRECTORY)
        error = -ENOTDIR;
    else if (is_dots(name, length))
        to = inode_get(length == 1 ? from : from->parent);
    else if (length > NAME_MAX)
        error = -ENAMETOOLONG;
    else
        error = from->operations->find(from, name, length, &to);
    inode_put(from);
    while (!error && to->mounted) {
        from = to;
        to = inode_get(from->mounted);
        inode_put(from);
    }
    *at = error ? NULL : to;
    return error;
}

/* To the directory that holds, or would hold, the path's last name. That is put at *last; it is empty for "/". */
static int walk(const char *path, struct inode **directory, const char **last, size_t *last_length)
{
    struct inode *at = inode_get(*path == '/' || !current || !current->directory ? root_directory : current->directory);

    for (;;) {
        const char *name;
        size_t length;
        int error;

        while (*path == '/')
            path++;
        for (name = path; *path && *path != '/'; path++)
            ;
        length = path - name;
        while (*path == '/')
            path++;
        if (!*path) {
            *last = name;
            *last_length = length;
            *directory = at;
            return 0;
        }
        error = step(&at, name, length);
        if (error)
            return error;
    }
}

int inode_find(const char *path, struct inode **out)
{
    const char *name;
    size_t length;
    int error = walk(path, out, &name, &length);

    return error || !length ? error : step(out, name, length);
}

int inode_create(const char *path, int kind, struct inode **out)
{
    const char *name;
    size_t length;
    struct inode *directory;
    int error = walk(path, &directory, &name, &length);

    if (error)
        return error;
    if (directory->kind != KIND_DIRECTORY)
        error = -ENOTDIR;
    else if (!length || is_dots(name, length))
        error = -EEXIST;
    else if (length > NAME_MAX)
        error = -ENAMETOOLONG;
    else
        error = directory->operations->create(directory, name, length, kind, out);
    inode_put(directory);
    return error;
}

int inode_remove(const char *path)
{
    const char *name;
    size_t length;
    struct inode *directory, *inode;
    int error = walk(path, &directory, &name, &length);

    if (error)
        return error;
    if (!length || is_dots(name, length)) {
        error = -EPERM;
    } else if (directory->kind != KIND_DIRECTORY) {
        error = -ENOTDIR;
    } else if (!(error = directory->operations->find(directory, name, length, &inode))) {
        error = inode->mounted ? -EBUSY : 0;
        inode_put(inode);
        if (!error)
            error = directory->operations->remove(directory, name, length);
    }
    inode_put(directory);
    return error;
}

/* From the end of `to` backwards: up to the root, name by name. */
int inode_path(struct inode *inode, char *to, size_t room)
{
    char *at = to + room - 1;
    size_t length;

    *at = 0;
    for (; inode != root_directory; inode = inode->parent) {
        length = strlen(inode->name);
        if (length + 1 > (size_t)(at - to))
            return -ENAMETOOLONG;
        at -= length;
        memcpy(at, inode->name, length);
        *--at = '/';
    }
    if (!*at)
        *--at = '/';
    length = to + room - 1 - at;
    memmove(to, at, length + 1);
    return (int)length;
}
