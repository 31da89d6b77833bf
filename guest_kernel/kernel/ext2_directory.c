/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ext2: a directory is a file of entries, each as long as it says:
 *
 *      | inode 2, 12 bytes, "."  | inode 2, 12 bytes, ".." | inode 11, 20, "lost+found" | inode 12, 980, "motd" ... |
 *
 * The entries of a block fill it.  So to remove one, the one before it becomes longer; to add one, room is taken from
 * one that is longer than its name needs, or the directory gets one more block.
 *
 * Not modelled: the index that large directories may have.  It is a detour that we need not take; but who changes the
 * entries has to say that it is not true any more (EXT2_INDEXED).
 */
#include <api/errno.h>
#include <ext2.h>
#include <lib.h>

#define BLOCKS_MAX 4096 /* of a directory: some hundred thousand names */
#define ALIGN 4

static u32 space_for(size_t name_length)
{
    return (u32)(sizeof(struct ext2_entry) + name_length + ALIGN - 1) & ~(ALIGN - 1U);
}

static bool can_be(struct ext2 *fs, const struct ext2_entry *entry, u32 at)
{
    return at + sizeof(*entry) <= fs->block_size && entry->length >= space_for(entry->name_length) &&
           entry->length % ALIGN == 0 && at + entry->length <= fs->block_size && entry->inode <= fs->inodes;
}

static bool is_named(const struct ext2_entry *entry, const char *name, size_t length)
{
    return entry->inode && entry->name_length == length && !memcmp(entry->name, name, length);
}

static bool is_dots(const struct ext2_entry *entry)
{
    return is_named(entry, ".", 1) || is_named(entry, "..", 2);
}

/* Block `index` of a directory. NULL and no error: it has no more. */
static u8 *block_of(struct inode *directory, u64 index, bool create, struct buffer **buffer, int *error)
{
    struct ext2 *fs = ext2_of(directory);
    u32 number = node_of(directory)->number, block;
    struct buffer *inode_buffer;
    struct ext2_inode *inode;
    bool is_new, is_there = index < directory->size / fs->block_size;

    *error = 0;
    if (!is_there && !create)
        return NULL;
    if (index >= BLOCKS_MAX) {
        *error = -EFBIG;
        return NULL;
    }
    inode = ext2_inode(fs, number, &inode_buffer, error);
    if (!inode)
        return NULL;
    *error = ext2_map(fs, number, inode, inode_buffer, index, create && !is_there, &block, &is_new);
    if (!*error && !block)
        *error = ext2_damaged(fs, "a hole is in directory", number);
    if (!*error && create && !is_there) {
        directory->size = inode->size = (u32)((index + 1) * fs->block_size);
        buffer_changed(inode_buffer);
    }
    buffer_put(inode_buffer);
    if (*error)
        return NULL;
    return is_new ? ext2_new_block(fs, block, buffer, error) : ext2_block(fs, block, buffer, error);
}

/* What is done with each entry. 0: go on with the next one; else that is the result. */
typedef int (*visitor)(void *with, struct ext2 *fs, struct ext2_entry *before, struct ext2_entry *entry,
                       struct buffer *buffer, u64 position);

/* Every entry from the block of `position` on. `before` is the one before it in the same block, if there is one. */
static int visit(struct inode *directory, u64 position, visitor call, void *with)
{
    struct ext2 *fs = ext2_of(directory);
    struct buffer *buffer;
    int result = 0;
    u8 *block;

    for (u64 index = position / fs->block_size; !result; index++) {
        struct ext2_entry *before = NULL, *entry;

        block = block_of(directory, index, false, &buffer, &result);
        if (!block)
            break;
        for (u32 at = 0; !result && at < fs->block_size; at += entry->length, before = entry) {
            entry = (struct ext2_entry *)(block + at);
            if (!can_be(fs, entry, at)) {
                result = ext2_damaged(fs, "an entry cannot be in directory", node_of(directory)->number);
                break;
            }
            result = call(with, fs, before, entry, buffer, index * fs->block_size + at);
        }
        buffer_put(buffer);
    }
    return result;
}

struct search {
    const char *name;
    size_t length;
    u32 number;
    int kind;
};

#define FOUND 1

static int is_it(void *with, struct ext2 *fs, struct ext2_entry *before, struct ext2_entry *entry,
                 struct buffer *buffer, u64 position)
{
    struct search *search = with;

    if (!is_named(entry, search->name, search->length))
        return 0;
    search->number = entry->inode;
    return FOUND;
}

int ext2_find_name(struct inode *directory, const char *name, size_t length, u32 *number)
{
    struct search search = { .name = name, .length = length };
    int result = visit(directory, 0, is_it, &search);

    *number = search.number;
    return result == FOUND ? 0 : result ? result : -ENOENT;
}

static int drop_it(void *with, struct ext2 *fs, struct ext2_entry *before, struct ext2_entry *entry,
                   struct buffer *buffer, u64 position)
{
    struct search *search = with;

    if (!is_named(entry, search->name, search->length))
        return 0;
    if (before)
        before->length += entry->length;
    else
        entry->inode = 0;
    buffer_changed(buffer);
    return FOUND;
}

static void write_entry(struct ext2 *fs, struct ext2_entry *entry, const struct search *what)
{
    static const u8 types[] = { [KIND_FILE] = 1, [KIND_DIRECTORY] = 2 };

    entry->inode = what->number;
    entry->name_length = (u8)what->length;
    entry->type = fs->file_types ? types[what->kind] : 0;
    memcpy(entry->name, what->name, what->length);
}

/* Into an empty entry, or behind the name of one that is longer than it needs to be. */
static int add_it(void *with, struct ext2 *fs, struct ext2_entry *before, struct ext2_entry *entry,
                  struct buffer *buffer, u64 position)
{
    struct search *search = with;
    u32 used = entry->inode ? space_for(entry->name_length) : 0;

    if (entry->length - used < space_for(search->length))
        return 0;
    if (used) {
        struct ext2_entry *behind = (struct ext2_entry *)((u8 *)entry + used);

        behind->length = (u16)(entry->length - used);
        entry->length = (u16)used;
        entry = behind;
    }
    write_entry(fs, entry, search);
    buffer_changed(buffer);
    return FOUND;
}

/* The directory is another one now, and its index, if it has one, is not true any more. */
static int touch(struct inode *directory)
{
    struct buffer *buffer;
    int error = 0;
    struct ext2_inode *inode = ext2_inode(ext2_of(directory), node_of(directory)->number, &buffer, &error);

    if (!inode)
        return error;
    inode->flags &= ~EXT2_INDEXED;
    inode->modify_time = inode->change_time = ext2_now();
    buffer_changed(buffer);
    buffer_put(buffer);
    return 0;
}

int ext2_drop_name(struct inode *directory, const char *name, size_t length)
{
    struct search search = { .name = name, .length = length };
    int result = visit(directory, 0, drop_it, &search);

    return result == FOUND ? touch(directory) : result ? result : -ENOENT;
}

int ext2_add_name(struct inode *directory, const char *name, size_t length, u32 number, int kind)
{
    struct ext2 *fs = ext2_of(directory);
    struct search search = { name, length, number, kind };
    int result = visit(directory, 0, add_it, &search);
    struct ext2_entry *entry;
    struct buffer *buffer;

    if (!result) {
        entry = (struct ext2_entry *)block_of(directory, directory->size / fs->block_size, true, &buffer, &result);
        if (!entry)
            return result;
        entry->length = (u16)fs->block_size;
        write_entry(fs, entry, &search);
        buffer_changed(buffer);
        buffer_put(buffer);
        result = FOUND;
    }
    return result == FOUND ? touch(directory) : result;
}

int ext2_fill_new(struct inode *directory, u32 parent)
{
    int error = ext2_add_name(directory, ".", 1, node_of(directory)->number, KIND_DIRECTORY);

    return error ? error : ext2_add_name(directory, "..", 2, parent, KIND_DIRECTORY);
}

static int is_name(void *with, struct ext2 *fs, struct ext2_entry *before, struct ext2_entry *entry,
                   struct buffer *buffer, u64 position)
{
    return entry->inode && !is_dots(entry) ? -ENOTEMPTY : 0;
}

int ext2_is_empty(struct inode *directory)
{
    return visit(directory, 0, is_name, NULL);
}

struct listing {
    u64 position;
    struct directory_entry *entry;
    u32 number;
};

static int list_it(void *with, struct ext2 *fs, struct ext2_entry *before, struct ext2_entry *entry,
                   struct buffer *buffer, u64 position)
{
    struct listing *listing = with;

    if (position < listing->position || !entry->inode || is_dots(entry))
        return 0;
    listing->position = position + entry->length;
    listing->number = entry->inode;
    memcpy(listing->entry->name, entry->name, entry->name_length);
    return FOUND;
}

/* The position is in bytes. Where an entry stood may be the middle of another one by now: so a block is gone through
   from its beginning. */
int ext2_list(struct inode *directory, u64 *position, struct directory_entry *entry)
{
    struct listing listing = { *position, entry, 0 };
    struct ext2 *fs = ext2_of(directory);
    struct ext2_inode *inode;
    struct buffer *buffer;
    int result = visit(directory, *position, list_it, &listing);

    if (result != FOUND)
        return result;
    *position = listing.position;
    inode = ext2_inode(fs, listing.number, &buffer, &result);
    if (!inode)
        return result;
    entry->kind = ext2_kind(inode);
    entry->size = ext2_size(inode);
    buffer_put(buffer);
    return FOUND;
}
