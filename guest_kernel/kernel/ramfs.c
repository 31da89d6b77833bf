/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The file system: a tree of inodes in memory. It begins as the archive the kernel carries (a "newc" cpio, as
 * for Linux's initramfs); files keep pointing into that until somebody writes to them.
 */
#include <api/errno.h>
#include <file.h>
#include <lib.h>
#include <process.h>

static struct inode root = { .kind = KIND_DIRECTORY, .references = 1, .parent = &root };

void inode_get(struct inode *inode)
{
    inode->references++;
}

void inode_put(struct inode *inode)
{
    if (--inode->references == 0) {
        content_truncate(inode);
        kfree(inode);
    }
}

static struct inode *child_named(struct inode *directory, const char *name, size_t length)
{
    if (length == 1 && name[0] == '.')
        return directory;
    if (length == 2 && name[0] == '.' && name[1] == '.')
        return directory->parent;
    for (struct inode *child = directory->children; child; child = child->next)
        if (strlen(child->name) == length && !memcmp(child->name, name, length))
            return child;
    return NULL;
}

/* Walk to the directory that holds, or would hold, the last name of the path. That name is put at *last. */
static struct inode *walk(const char *path, const char **last, size_t *last_length)
{
    struct inode *at = *path == '/' || !current || !current->directory ? &root : current->directory;

    for (;;) {
        const char *name;
        size_t length;

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
            return at;
        }
        at = child_named(at, name, length);
        if (!at || at->kind != KIND_DIRECTORY)
            return NULL;
    }
}

struct inode *inode_find(const char *path)
{
    const char *name;
    size_t length;
    struct inode *directory = walk(path, &name, &length);

    return directory && length ? child_named(directory, name, length) : directory;
}

int inode_create(const char *path, int kind, struct inode **out)
{
    const char *name;
    size_t length;
    struct inode *directory = walk(path, &name, &length), *inode, **link;

    if (!directory)
        return -ENOENT;
    if (!length || child_named(directory, name, length))
        return -EEXIST;
    if (length > NAME_MAX)
        return -ENAMETOOLONG;
    inode = kmalloc(sizeof(*inode));
    if (!inode)
        return -ENOMEM;
    inode->kind = kind;
    inode->references = 1;
    memcpy(inode->name, name, length);
    inode->parent = directory;
    /* In the order of names, so that `ls` need not sort. */
    for (link = &directory->children; *link && strcmp((*link)->name, inode->name) < 0; link = &(*link)->next)
        ;
    inode->next = *link;
    *link = inode;
    *out = inode;
    return 0;
}

/* The name goes at once; the contents when the last who has it open closes it. */
int inode_remove(const char *path)
{
    struct inode *inode = inode_find(path), **link;

    if (!inode)
        return -ENOENT;
    if (inode == &root || inode->kind == KIND_DEVICE)
        return -EPERM;
    if (inode->children)
        return -ENOTEMPTY;
    for (link = &inode->parent->children; *link != inode; link = &(*link)->next)
        ;
    *link = inode->next;
    inode->parent = &root;
    inode_put(inode);
    return 0;
}

int inode_path(struct inode *inode, char *to, size_t room)
{
    int at, n;

    if (inode == &root)
        return format(to, room, "/");
    at = inode->parent == &root ? 0 : inode_path(inode->parent, to, room);
    if (at < 0 || (size_t)at >= room)
        return -ENAMETOOLONG;
    n = format(to + at, room - at, "/%s", inode->name);
    return (size_t)(at + n) < room ? at + n : -ENAMETOOLONG;
}

/* A cpio "newc" header: a magic and thirteen numbers of eight hexadecimal digits each. */
enum { CPIO_MODE = 1, CPIO_SIZE = 6, CPIO_NAME_SIZE = 11, CPIO_HEADER = 110 };

static u32 cpio_number(const u8 *header, int field)
{
    u32 value = 0;

    for (int i = 0; i < 8; i++) {
        u8 c = header[6 + 8 * field + i];

        value = value * 16 + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value;
}

void ramfs_init(const u8 *at, const u8 *end)
{
    unsigned count = 0;
    struct inode *inode;

    while (at + CPIO_HEADER <= end && !memcmp(at, "070701", 6)) {
        const char *name = (const char *)at + CPIO_HEADER;
        u32 size = cpio_number(at, CPIO_SIZE), mode = cpio_number(at, CPIO_MODE);
        const u8 *data = (const u8 *)((((u64)name + cpio_number(at, CPIO_NAME_SIZE)) + 3) & ~3UL);

        if (!strcmp(name, "TRAILER!!!"))
            break;
        if (inode_create(name, (mode & 0170000) == 0040000 ? KIND_DIRECTORY : KIND_FILE, &inode))
            panic("the archive has a bad name: %s", name);
        if (inode->kind == KIND_FILE) {
            inode->packed = data;
            inode->size = size;
            count++;
        }
        at = (const u8 *)(((u64)data + size + 3) & ~3UL);
    }
    if (!count)
        panic("the archive is empty");
    inode_create("/tmp", KIND_DIRECTORY, &inode);
    inode_create("/dev", KIND_DIRECTORY, &inode);
}
