/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The first file system: a tree of inodes in memory. It begins as the archive the kernel carries (a "newc" cpio, as
 * for Linux's initramfs); files keep pointing into that until somebody writes to them.
 *
 * Nothing here ever sleeps.
 */
#include <api/errno.h>
#include <file.h>
#include <lib.h>
#include <page.h>
#include <ramfs.h>

static const struct inode_operations operations;

static struct ram_inode root = {
    .inode = {
        .kind = KIND_DIRECTORY, .references = 1, .operations = &operations, .parent = &root.inode, .name = "" } };

static struct ram_inode *child_named(struct inode *directory, const char *name, size_t length)
{
    for (struct ram_inode *child = ram_inode(directory)->children; child; child = child->next)
        if (strlen(child->name) == length && !memcmp(child->name, name, length))
            return child;
    return NULL;
}

static int find(struct inode *directory, const char *name, size_t length, struct inode **out)
{
    struct ram_inode *child = child_named(directory, name, length);

    if (!child)
        return -ENOENT;
    *out = inode_get(&child->inode);
    return 0;
}

static int create(struct inode *directory, const char *name, size_t length, int kind, struct inode **out)
{
    struct ram_inode *made, **link;

    if (ram_inode(directory)->removed)
        return -ENOENT;
    if (child_named(directory, name, length))
        return -EEXIST;
    if (length > RAM_NAME_MAX)
        return -ENAMETOOLONG;
    made = kmalloc(sizeof(*made));
    if (!made)
        return -ENOMEM;
    made->inode = (struct inode){
        .kind = kind, .references = 1, .operations = &operations, .parent = directory, .name = made->name };
    memcpy(made->name, name, length);
    /* In the order of names, so that `ls` need not sort. */
    for (link = &ram_inode(directory)->children; *link && strcmp((*link)->name, made->name) < 0; link = &(*link)->next)
        ;
    made->next = *link;
    *link = made;
    *out = inode_get(&made->inode);
    return 0;
}

/* The name goes at once; the contents when the last who has it open closes it. */
static int remove(struct inode *directory, const char *name, size_t length)
{
    struct ram_inode *child = child_named(directory, name, length), **link;

    if (!child)
        return -ENOENT;
    if (child->inode.kind == KIND_DEVICE)
        return -EPERM;
    if (child->children)
        return -ENOTEMPTY;
    for (link = &ram_inode(directory)->children; *link != child; link = &(*link)->next)
        ;
    *link = child->next;
    child->removed = true;
    child->inode.parent = &root.inode;
    inode_put(&child->inode);
    return 0;
}

/* The position in an open directory is the number of entries already read. */
static int list(struct inode *directory, u64 *position, struct directory_entry *entry)
{
    struct ram_inode *child = ram_inode(directory)->children;

    for (u64 i = 0; child && i < *position; i++)
        child = child->next;
    if (!child)
        return 0;
    ++*position;
    strlcpy(entry->name, child->name, sizeof(entry->name));
    entry->size = child->inode.size;
    entry->kind = child->inode.kind;
    return 1;
}

static void release(struct inode *inode)
{
    content_truncate(inode);
    kfree(inode);
}

static const struct inode_operations operations = {
    .find = find, .create = create, .remove = remove, .list = list,
    .read = content_read, .write = content_write, .truncate = content_truncate, .release = release };

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

/* Of a path in the archive, directories come before what is in them. */
static struct inode *unpack_name(const char *path, int kind)
{
    struct inode *at = &root.inode, *made;
    const char *slash;

    for (slash = path; *slash; slash++) {
        if (*slash != '/')
            continue;
        at = &child_named(at, path, slash - path)->inode;
        if (!at || at->kind != KIND_DIRECTORY)
            return NULL;
        path = slash + 1;
    }
    if (create(at, path, slash - path, kind, &made))
        return NULL;
    inode_put(made);
    return made;
}

void ramfs_init(const u8 *at, const u8 *end)
{
    unsigned count = 0;

    root_directory = &root.inode;
    while (at + CPIO_HEADER <= end && !memcmp(at, "070701", 6)) {
        const char *name = (const char *)at + CPIO_HEADER;
        u32 size = cpio_number(at, CPIO_SIZE), mode = cpio_number(at, CPIO_MODE);
        const u8 *data = (const u8 *)((((u64)name + cpio_number(at, CPIO_NAME_SIZE)) + 3) & ~3UL);
        struct inode *inode;

        if (!strcmp(name, "TRAILER!!!"))
            break;
        inode = unpack_name(name, (mode & 0170000) == 0040000 ? KIND_DIRECTORY : KIND_FILE);
        if (!inode)
            panic("the archive has a bad name: %s", name);
        if (inode->kind == KIND_FILE) {
            ram_inode(inode)->packed = data;
            inode->size = size;
            count++;
        }
        at = (const u8 *)(((u64)data + size + 3) & ~3UL);
    }
    if (!count)
        panic("the archive is empty");
    for (const char *const *name = (const char *const[]){ "tmp", "dev", "mnt", NULL }; *name; name++)
        unpack_name(*name, KIND_DIRECTORY);
}
