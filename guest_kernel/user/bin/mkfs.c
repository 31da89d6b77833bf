/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * mkfs DEVICE: an empty ext2 file system, in blocks of 1 KiB.
 *
 * Each group begins with a copy of the superblock and of the descriptions of all groups; then come its two bitmaps
 * and its inodes.  In the first one there are two directories: the root, and lost+found, where e2fsck puts what has
 * lost its name.
 */
#include <ext2_disk.h>
#include <user.h>

enum { BLOCK = 1024, PER_GROUP = 8 * BLOCK, FIRST_BLOCK = 1, IN_BLOCK = BLOCK / sizeof(struct ext2_inode), LEAST = 64 };
enum { LOST_AND_FOUND = EXT2_FIRST_INODE };

static const char *device;
static int disk;
static u32 blocks, groups, description_blocks, inodes_per_group, table_blocks;

static void write_block(u32 number, const void *bytes)
{
    long n = seek(disk, (long)number * BLOCK, SEEK_SET);

    if (n >= 0)
        n = write(disk, bytes, BLOCK);
    if (n != BLOCK)
        fail("mkfs: %s: block %u: %s\n", device, number, error_text(n < 0 ? n : -ENOSPC));
}

static u32 start_of(u32 group) { return FIRST_BLOCK + group * PER_GROUP; }
static u32 size_of(u32 group) { return group + 1 < groups ? PER_GROUP : blocks - start_of(group); }

/* What a group has besides data: superblock, descriptions, bitmaps, inodes; the first one also two directories. */
static u32 taken_in(u32 group) { return 1 + description_blocks + 2 + table_blocks + (group ? 0 : 2); }
static u32 bitmaps_of(u32 group) { return start_of(group) + 1 + description_blocks; }
static u32 root_block(void) { return bitmaps_of(0) + 2 + table_blocks; }

/* As many groups as the disk has room for; a last one that would have no room for data is left out. */
static void plan(u64 size)
{
    blocks = (u32)(size / BLOCK);
    for (;; blocks = start_of(groups - 1)) {
        if (blocks < LEAST)
            fail("mkfs: %s: too small\n", device);
        groups = (blocks - FIRST_BLOCK + PER_GROUP - 1) / PER_GROUP;
        description_blocks = (u32)(groups * sizeof(struct ext2_group) + BLOCK - 1) / BLOCK;
        inodes_per_group = (MIN(blocks, PER_GROUP) / 4 + IN_BLOCK) & ~(IN_BLOCK - 1U); /* one for 4 KiB of data */
        table_blocks = inodes_per_group / IN_BLOCK;
        if (size_of(groups - 1) >= taken_in(groups - 1) + LEAST / 4)
            return;
    }
}

static void fill_super(struct ext2_super *super)
{
    u64 noise = time();

    *super = (struct ext2_super){
        .inodes = groups * inodes_per_group, .blocks = blocks, .first_block = FIRST_BLOCK,
        .free_inodes = groups * inodes_per_group - LOST_AND_FOUND,
        .blocks_per_group = PER_GROUP, .fragments_per_group = PER_GROUP, .inodes_per_group = inodes_per_group,
        .write_time = (u32)(noise / 1000000000), .mounts_max = 0xffff, .magic = EXT2_MAGIC, .state = EXT2_CLEAN,
        .on_error = 1, .last_check = (u32)(noise / 1000000000), .revision = 1, .first_inode = EXT2_FIRST_INODE,
        .inode_size = sizeof(struct ext2_inode), .incompatible = EXT2_FILE_TYPES };
    for (u32 group = 0; group < groups; group++)
        super->free_blocks += size_of(group) - taken_in(group);
    for (unsigned i = 0; i < sizeof(super->uuid); i++) {
        noise = noise * 6364136223846793005UL + 1442695040888963407UL;
        super->uuid[i] = (u8)(noise >> 56);
    }
}

static void fill_group(struct ext2_group *described, u32 group)
{
    described->block_bitmap = bitmaps_of(group);
    described->inode_bitmap = bitmaps_of(group) + 1;
    described->inode_table = bitmaps_of(group) + 2;
    described->free_blocks = (u16)(size_of(group) - taken_in(group));
    described->free_inodes = (u16)(inodes_per_group - (group ? 0 : LOST_AND_FOUND));
    described->directories = group ? 0 : 2;
}

/* Bits [0, from) are in use, and those that nothing belongs to, from `end` on. */
static void write_bitmap(u32 number, u32 from, u32 end)
{
    static u8 bits[BLOCK];

    for (u32 i = 0; i < PER_GROUP; i++)
        bits[i / 8] = (u8)((bits[i / 8] & ~(1 << i % 8)) | (i < from || i >= end) << i % 8);
    write_block(number, bits);
}

static struct ext2_inode directory_inode(u16 mode, u16 links, u32 block)
{
    u32 now = (u32)(time() / 1000000000);

    return (struct ext2_inode){
        .mode = EXT2_DIRECTORY | mode, .size = BLOCK, .access_time = now, .change_time = now, .modify_time = now,
        .links = links, .sectors = BLOCK / 512, .block = { block } };
}

static void write_table(u32 group)
{
    static struct ext2_inode table[IN_BLOCK];

    for (u32 i = 0; i < table_blocks; i++) {
        u32 first = i * IN_BLOCK + 1; /* its number */

        memset(table, 0, sizeof(table));
        if (!group && EXT2_ROOT - first < IN_BLOCK)
            table[EXT2_ROOT - first] = directory_inode(0755, 3, root_block());
        if (!group && LOST_AND_FOUND - first < IN_BLOCK)
            table[LOST_AND_FOUND - first] = directory_inode(0700, 2, root_block() + 1);
        write_block(bitmaps_of(group) + 2 + i, table);
    }
}

/* Each entry as long as its name needs; the last one to the end of the block. */
static void write_directory(u32 number, u32 self, u32 parent, const char *name, u32 inode)
{
    static u8 block[BLOCK];
    const struct {
        const char *name;
        u32 inode;
    } entries[] = { { ".", self }, { "..", parent }, { name, inode } };
    u32 at = 0, count = name ? 3 : 2;

    memset(block, 0, sizeof(block));
    for (u32 i = 0; i < count; i++) {
        struct ext2_entry *entry = (struct ext2_entry *)(block + at);
        size_t length = strlen(entries[i].name);

        entry->inode = entries[i].inode;
        entry->length = (u16)(i + 1 < count ? (sizeof(*entry) + length + 3) & ~3UL : BLOCK - at);
        entry->name_length = (u8)length;
        entry->type = 2; /* a directory */
        memcpy(entry->name, entries[i].name, length);
        at += entry->length;
    }
    write_block(number, block);
}

static void write_group(u32 group, struct ext2_super *super, const u8 *descriptions)
{
    super->group = (u16)group;
    write_block(start_of(group), super);
    for (u32 i = 0; i < description_blocks; i++)
        write_block(start_of(group) + 1 + i, descriptions + i * BLOCK);
    write_bitmap(bitmaps_of(group), taken_in(group), size_of(group));
    write_bitmap(bitmaps_of(group) + 1, group ? 0 : LOST_AND_FOUND, inodes_per_group);
    write_table(group);
}

int main(int argc, char **argv)
{
    static u8 super[BLOCK];
    struct file_info info;
    u8 *descriptions;
    int error;

    if (argc != 2)
        fail("usage: mkfs DEVICE\n");
    device = argv[1];
    disk = open(device, O_READ | O_WRITE);
    if (disk < 0)
        fail("mkfs: %s: %s\n", device, error_text(disk));
    stat(device, &info); /* by now it knows */
    plan(info.size);
    descriptions = malloc(description_blocks * BLOCK);
    if (!descriptions)
        fail("mkfs: out of memory\n");
    memset(descriptions, 0, description_blocks * BLOCK);
    for (u32 group = 0; group < groups; group++)
        fill_group((struct ext2_group *)descriptions + group, group);
    fill_super((struct ext2_super *)super);
    for (u32 group = 0; group < groups; group++)
        write_group(group, (struct ext2_super *)super, descriptions);
    write_directory(root_block(), EXT2_ROOT, EXT2_ROOT, "lost+found", LOST_AND_FOUND);
    write_directory(root_block() + 1, LOST_AND_FOUND, EXT2_ROOT, NULL, 0);
    error = sync();
    if (error)
        fail("mkfs: %s: %s\n", device, error_text(error));
    printf("%s: %u blocks of %u bytes, %u inodes\n", device, blocks, BLOCK, groups * inodes_per_group);
    return 0;
}
