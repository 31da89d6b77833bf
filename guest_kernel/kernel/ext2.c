/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ext2: the file system as a whole.  How a disk is mounted, and what of it the kernel may call.
 *
 * While it is mounted, the disk says that it is not clean; so who finds it after a crash knows.  One process at a
 * time is inside: each of the calls below takes the mount's lock, for any of them may have to wait for the disk.
 *
 * Not modelled: a journal, extents, and all else that came with ext3 and ext4: such a disk is not mounted, or, if
 * that is harmless, only to be read.
 */
#include <api/errno.h>
#include <ext2.h>
#include <lib.h>

/* -- calls -------------------------------------------------------------------------------------------------------- */

static int find(struct inode *directory, const char *name, size_t length, struct inode **out)
{
    u32 number;
    int error = 0;

    lock_take(&directory->mount->lock);
    error = ext2_find_name(directory, name, length, &number);
    if (!error)
        error = ext2_node(directory->mount, number, directory, name, length, out);
    lock_release(&directory->mount->lock);
    return error;
}

static int create(struct inode *directory, const char *name, size_t length, int kind, struct inode **out)
{
    int error = -EROFS;

    lock_take(&directory->mount->lock);
    if (!directory->mount->readonly)
        error = ext2_create(directory, name, length, kind, out);
    lock_release(&directory->mount->lock);
    return error;
}

static int remove(struct inode *directory, const char *name, size_t length)
{
    struct inode *inode = NULL;
    int error = -EROFS;

    lock_take(&directory->mount->lock);
    if (!directory->mount->readonly)
        error = ext2_remove(directory, name, length, &inode);
    lock_release(&directory->mount->lock);
    if (inode)
        inode_put(inode);
    return error;
}

static int list(struct inode *directory, u64 *position, struct directory_entry *entry)
{
    int result;

    lock_take(&directory->mount->lock);
    result = ext2_list(directory, position, entry);
    lock_release(&directory->mount->lock);
    return result;
}

static long read(struct inode *file, u64 offset, u64 to, size_t n, copy_out copy)
{
    long result;

    lock_take(&file->mount->lock);
    result = ext2_read(file, offset, to, n, copy);
    lock_release(&file->mount->lock);
    return result;
}

static long write(struct inode *file, u64 offset, u64 from, size_t n, copy_in copy)
{
    long result = -EROFS;

    lock_take(&file->mount->lock);
    if (!file->mount->readonly)
        result = ext2_write(file, offset, from, n, copy);
    lock_release(&file->mount->lock);
    return result;
}

static int truncate(struct inode *file)
{
    int error = -EROFS;

    lock_take(&file->mount->lock);
    if (!file->mount->readonly)
        error = ext2_truncate(file);
    lock_release(&file->mount->lock);
    return error;
}

/* Nobody uses it any more; then perhaps nobody uses its parent. (In a loop: how deep a tree is, the disk decides.) */
static void release(struct inode *inode)
{
    do {
        if (node_of(inode)->deleted) {
            lock_take(&inode->mount->lock);
            if (!inode->mount->readonly)
                ext2_bury(inode);
            lock_release(&inode->mount->lock);
        }
        inode = ext2_forget(inode);
    } while (inode && --inode->references == 0);
}

static const struct inode_operations operations = {
    .find = find, .create = create, .remove = remove, .list = list,
    .read = read, .write = write, .truncate = truncate, .release = release };

/* -- mounting ----------------------------------------------------------------------------------------------------- */

/* What everything else relies on. After this, no number that is computed from these is beyond what it counts. */
static bool makes_sense(const struct ext2_super *super, const struct ext2 *fs)
{
    u64 bits = 8UL * fs->block_size, pages_end = fs->disk->sectors / (fs->block_size / SECTOR_SIZE);

    return super->log_block_size <= 2 && fs->first_block == (fs->block_size == 1024) &&
           fs->blocks > fs->first_block + 1 && fs->blocks <= pages_end &&
           fs->blocks_per_group >= 8 && fs->blocks_per_group <= bits &&
           fs->inodes_per_group && fs->inodes_per_group <= bits &&
           fs->inode_size >= sizeof(struct ext2_inode) && fs->inode_size <= fs->block_size &&
           !(fs->inode_size & (fs->inode_size - 1)) && fs->inodes_per_group * fs->inode_size % fs->block_size == 0 &&
           (u64)fs->groups * fs->inodes_per_group == fs->inodes && fs->first_inode > EXT2_ROOT;
}

static int read_super(struct mount *mount, struct ext2 *fs, const struct ext2_super *super)
{
    bool old = super->revision == 0;

    if (super->magic != EXT2_MAGIC || super->log_block_size > 2)
        return -EINVAL;
    fs->block_size = 1024 << super->log_block_size;
    fs->blocks = super->blocks;
    fs->first_block = super->first_block;
    fs->blocks_per_group = super->blocks_per_group;
    fs->inodes = super->inodes;
    fs->inodes_per_group = super->inodes_per_group;
    fs->inode_size = old ? sizeof(struct ext2_inode) : super->inode_size;
    fs->first_inode = old ? EXT2_FIRST_INODE : super->first_inode;
    if (fs->blocks_per_group && fs->blocks > fs->first_block)
        fs->groups = (fs->blocks - fs->first_block - 1) / fs->blocks_per_group + 1;
    if (!makes_sense(super, fs))
        return -EUCLEAN;
    if (!old && super->incompatible & ~(u32)EXT2_FILE_TYPES) {
        kprintf("%s: ext2: features (%x) that this kernel does not know\n", fs->disk->name, super->incompatible);
        return -EOPNOTSUPP;
    }
    fs->file_types = !old && super->incompatible & EXT2_FILE_TYPES;
    fs->large_files = !old && super->readonly_compatible & EXT2_LARGE_FILES;
    if (!old && super->readonly_compatible & ~(u32)(EXT2_FEW_SUPERS | EXT2_LARGE_FILES) && !mount->readonly) {
        kprintf("%s: ext2: to be read only, for its features (%x)\n", fs->disk->name, super->readonly_compatible);
        mount->readonly = true;
    }
    if (!(super->state & EXT2_CLEAN) || super->state & EXT2_ERRORS)
        kprintf("%s: ext2: it was not unmounted, or is damaged: e2fsck would help\n", fs->disk->name);
    return 0;
}

/* On the disk: clean or not, and since when. */
static int write_state(struct mount *mount, bool clean)
{
    struct buffer *buffer;
    int error = 0;
    struct ext2_super *super = ext2_super(mount->disk, &buffer, &error);

    if (!super)
        return error;
    super->state = (u16)((super->state & ~EXT2_CLEAN) | (clean ? EXT2_CLEAN : 0));
    super->write_time = ext2_now();
    if (!clean) {
        super->mount_time = super->write_time;
        super->mounts++;
    }
    buffer_changed(buffer);
    buffer_put(buffer);
    return disk_sync(mount->disk);
}

static int mount_ext2(struct mount *mount)
{
    struct ext2 *fs = kmalloc(sizeof(*fs));
    struct ext2_super *super;
    struct buffer *buffer;
    int error = 0;

    if (!fs)
        return -ENOMEM;
    mount->data = fs;
    fs->mount = mount;
    fs->disk = mount->disk;
    super = ext2_super(mount->disk, &buffer, &error);
    if (super) {
        error = read_super(mount, fs, super);
        fs->was_clean = super->state & EXT2_CLEAN;
        buffer_put(buffer);
    }
    if (!error)
        error = ext2_node(mount, EXT2_ROOT, NULL, "", 0, &mount->root);
    if (!error && mount->root->kind != KIND_DIRECTORY)
        error = ext2_damaged(fs, "no directory is inode", EXT2_ROOT);
    if (!error && !mount->readonly)
        error = write_state(mount, false);
    if (error) {
        if (mount->root)
            ext2_forget(mount->root);
        kfree(fs);
    }
    return error;
}

static bool busy(struct mount *mount)
{
    struct ext2 *fs = mount->data;

    return &fs->nodes->inode != mount->root || fs->nodes->next || mount->root->references > 1;
}

/* Whether or not somebody uses it still. What was deleted and not yet closed goes now. */
static int unmount(struct mount *mount)
{
    struct ext2 *fs = mount->data;
    bool readonly = mount->readonly;
    int error = 0, failed = 0;

    lock_take(&mount->lock);
    for (struct node *node = fs->nodes; !readonly && node; node = node->next)
        if (node->deleted)
            ext2_bury(&node->inode);
    mount->readonly = true;
    lock_release(&mount->lock);
    if (!readonly) {
        error = disk_sync(mount->disk); /* first all the rest, then that it is all there */
        failed = error ? 0 : write_state(mount, fs->was_clean);
    }
    return error ? error : failed;
}

static void end(struct mount *mount)
{
    ext2_forget(mount->root);
    kfree(mount->data);
}

static int usage(struct mount *mount, struct mount_info *info)
{
    struct ext2 *fs = mount->data;
    struct buffer *buffer;
    int error = 0;
    struct ext2_super *super = ext2_super(mount->disk, &buffer, &error);

    if (!super)
        return error;
    info->block_size = fs->block_size;
    info->blocks = fs->blocks;
    info->free_blocks = super->free_blocks;
    buffer_put(buffer);
    return 0;
}

const struct filesystem ext2_filesystem = {
    .operations = &operations, .mount = mount_ext2, .busy = busy, .unmount = unmount, .end = end, .usage = usage };
