/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ext2: inodes that somebody uses, each once in memory, however many names it has; and how they come to be and go.
 *
 * An inode goes when it has no name any more (`links` is 0) and nobody uses it.  A directory that is in use keeps its
 * parent in use: so the way up is always there, and since each has one parent, it ends, whatever the disk says.
 *
 * Not modelled: making links, devices; symbolic links are listed and removed, but not followed.
 */
#include <api/errno.h>
#include <ext2.h>
#include <lib.h>

#define MODE_FILE (EXT2_FILE | 0644)
#define MODE_DIRECTORY (EXT2_DIRECTORY | 0755)
#define LINKS_MAX 32000
#define ATTRIBUTES_MAGIC 0xea020000

static struct node *node_in_use(struct ext2 *fs, u32 number)
{
    struct node *node = fs->nodes;

    while (node && node->number != number)
        node = node->next;
    return node;
}

/* The inode of that number, with one more reference; `parent` and `name` are what it was found by. */
int ext2_node(struct mount *mount, u32 number, struct inode *parent, const char *name, size_t length,
              struct inode **out)
{
    struct ext2 *fs = mount->data;
    struct node *node = node_in_use(fs, number);
    struct ext2_inode *inode;
    struct buffer *buffer;
    int error = 0;

    if (node) {
        if (node->deleted || (node->inode.kind == KIND_DIRECTORY && node->inode.parent != parent))
            return ext2_damaged(fs, "a second name has directory", number);
        *out = &node->inode;
        inode_get(*out);
        return 0;
    }
    if (number != EXT2_ROOT && number < fs->first_inode)
        return ext2_damaged(fs, "a name has inode", number);
    inode = ext2_inode(fs, number, &buffer, &error);
    if (!inode)
        return error;
    if (!inode->links || !inode->mode) {
        error = ext2_damaged(fs, "a name has the unused inode", number);
    } else if (!(node = kmalloc(sizeof(*node) + length + 1))) {
        error = -ENOMEM;
    } else {
        node->inode = (struct inode){
            .kind = ext2_kind(inode), .references = 1, .operations = mount->type->operations, .mount = mount,
            .parent = parent, .name = node->name, .size = ext2_size(inode) };
        memcpy(node->name, name, length);
        node->number = number;
        node->next = fs->nodes;
        fs->nodes = node;
        if (parent)
            inode_get(parent);
        *out = &node->inode;
    }
    buffer_put(buffer);
    return error;
}

/* It is not in memory any more. What it kept in use: its parent, whose reference is the caller's now; or NULL. */
struct inode *ext2_forget(struct inode *inode)
{
    struct node **link = &ext2_of(inode)->nodes, *node = node_of(inode);
    struct inode *parent = node->number == EXT2_ROOT ? NULL : inode->parent;

    while (*link != node)
        link = &(*link)->next;
    *link = node->next;
    kfree(node);
    return parent;
}

/* -- to come to be ------------------------------------------------------------------------------------------------ */

static int make_inode(struct ext2 *fs, u32 number, int kind)
{
    struct buffer *buffer;
    int error = 0;
    struct ext2_inode *inode = ext2_inode(fs, number, &buffer, &error);

    if (!inode)
        return error;
    memset(inode, 0, fs->inode_size);
    inode->mode = kind == KIND_DIRECTORY ? MODE_DIRECTORY : MODE_FILE;
    inode->links = kind == KIND_DIRECTORY ? 2 : 1; /* its own "." is the second */
    inode->access_time = inode->change_time = inode->modify_time = ext2_now();
    buffer_changed(buffer);
    buffer_put(buffer);
    return 0;
}

/* How many names it has. With none it is deleted. */
static int change_links(struct inode *of, int by)
{
    struct buffer *buffer;
    int error = 0, links;
    struct ext2_inode *inode = ext2_inode(ext2_of(of), node_of(of)->number, &buffer, &error);

    if (!inode)
        return error;
    links = inode->links + by;
    if (links <= LINKS_MAX) {
        inode->links = (u16)MAX(links, 0);
        inode->change_time = ext2_now();
        node_of(of)->deleted = !inode->links;
        buffer_changed(buffer);
    }
    buffer_put(buffer);
    return links > LINKS_MAX ? -EMLINK : 0;
}

int ext2_create(struct inode *directory, const char *name, size_t length, int kind, struct inode **out)
{
    struct ext2 *fs = ext2_of(directory);
    bool is_directory = kind == KIND_DIRECTORY;
    struct inode *made = NULL;
    u32 number;
    int error = 0;

    if (node_of(directory)->deleted)
        return -ENOENT;
    error = ext2_find_name(directory, name, length, &number);
    if (error != -ENOENT)
        return error ? error : -EEXIST;
    error = ext2_take_inode(fs, node_of(directory)->number, is_directory, &number);
    if (error)
        return error;
    error = make_inode(fs, number, kind);
    if (!error)
        error = ext2_node(directory->mount, number, directory, name, length, &made);
    if (error) {
        ext2_free_inode(fs, number, is_directory);
        return error;
    }
    if (is_directory && !(error = ext2_fill_new(made, node_of(directory)->number)))
        error = change_links(directory, 1); /* by its ".." */
    if (!error && (error = ext2_add_name(directory, name, length, number, kind)) && is_directory)
        change_links(directory, -1);
    if (error) { /* it never was */
        change_links(made, -LINKS_MAX);
        ext2_bury(made);
        ext2_forget(made)->references--; /* the directory's: its caller has another one */
        return error;
    }
    *out = made;
    return 0;
}

/* -- and to go ---------------------------------------------------------------------------------------------------- */

/* The name goes at once, the rest when nobody uses it: so it is the caller's to put, when the lock is released. */
int ext2_remove(struct inode *directory, const char *name, size_t length, struct inode **out)
{
    struct inode *inode;
    u32 number;
    bool is_directory;
    int error = ext2_find_name(directory, name, length, &number);

    if (!error)
        error = ext2_node(directory->mount, number, directory, name, length, &inode);
    if (error)
        return error;
    *out = inode;
    is_directory = inode->kind == KIND_DIRECTORY;
    if (is_directory)
        error = ext2_is_empty(inode);
    if (!error)
        error = ext2_drop_name(directory, name, length);
    if (!error)
        error = change_links(inode, is_directory ? -LINKS_MAX : -1);
    if (!error && is_directory)
        error = change_links(directory, -1); /* its ".." */
    return error;
}

/* Extended attributes may be in a block that several inodes share; its second word says how many. */
static int free_attributes(struct ext2 *fs, struct ext2_inode *inode)
{
    struct buffer *buffer;
    int error = 0;
    u32 block = inode->attributes, *header = (u32 *)ext2_block(fs, block, &buffer, &error), users;

    if (!header)
        return error;
    users = header[0] == ATTRIBUTES_MAGIC ? header[1] : 1;
    if (users > 1) {
        header[1]--;
        buffer_changed(buffer);
    }
    buffer_put(buffer);
    return users > 1 ? 0 : ext2_free_block(fs, block);
}

/* Of a short symbolic link, and of a device, what stands in the place of the blocks are no blocks. */
static bool has_blocks(struct ext2 *fs, const struct ext2_inode *inode)
{
    u32 type = inode->mode & EXT2_TYPE, others = inode->attributes ? fs->block_size / SECTOR_SIZE : 0;

    return type == EXT2_FILE || type == EXT2_DIRECTORY || (type == EXT2_LINK && inode->sectors > others);
}

/* A deleted one: all that it had is free again. */
int ext2_bury(struct inode *of)
{
    struct ext2 *fs = ext2_of(of);
    struct buffer *buffer;
    struct ext2_inode *inode;
    int error = 0, failed;

    if (node_of(of)->buried)
        return 0;
    node_of(of)->buried = true;
    inode = ext2_inode(fs, node_of(of)->number, &buffer, &error);
    if (!inode)
        return error;
    if (has_blocks(fs, inode))
        error = ext2_unmap_all(fs, inode, buffer);
    failed = inode->attributes ? free_attributes(fs, inode) : 0;
    error = error ? error : failed;
    inode->attributes = inode->size = 0;
    inode->delete_time = ext2_now();
    buffer_changed(buffer);
    buffer_put(buffer);
    failed = ext2_free_inode(fs, node_of(of)->number, of->kind == KIND_DIRECTORY);
    return error ? error : failed;
}
