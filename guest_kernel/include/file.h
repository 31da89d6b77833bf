/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Files, in three layers: a descriptor is an index into process.files; a `file` is an open file with its
 * position, shared by dup and fork; an `inode` is the thing itself.
 */
#pragma once

#include <api/syscalls.h>
#include <types.h>

#define FILE_PAGES 512 /* one page of pointers: a file holds 2 MiB at most */
#define NAME_MAX 31
#define PATH_MAX 128

struct inode;
struct file;

struct device {
    const char *name;
    bool has_position; /* of a disk: one may go to any place of it */
    int (*open)(struct file *file);
    long (*read)(struct file *file, u64 user_buffer, size_t n);
    long (*write)(struct file *file, u64 user_buffer, size_t n);
    void (*close)(struct file *file);
};

struct inode {
    int kind; /* KIND_FILE, KIND_DIRECTORY, KIND_DEVICE */
    u32 references; /* open files, working directories, and one for its name */
    char name[NAME_MAX + 1];
    struct inode *parent, *next, *children;
    size_t size;
    const u8 *packed;      /* contents still in the boot archive ... */
    struct page **content; /* ... or in pages of our own, once written to */
    const struct device *device;
};

struct file {
    u32 references;
    u32 mode; /* O_ flags */
    u64 position;
    struct inode *inode;         /* NULL for what has no name: a pipe's end */
    const struct device *device; /* that reads and writes it; NULL for a file or a directory */
    void *device_data;
};

/* kernel/ramfs.c: the tree in memory */
void ramfs_init(const u8 *archive, const u8 *archive_end);
struct inode *inode_find(const char *path);
int inode_create(const char *path, int kind, struct inode **out);
int inode_remove(const char *path);
void inode_get(struct inode *inode);
void inode_put(struct inode *inode);
int inode_path(struct inode *inode, char *to, size_t room);

/* kernel/content.c: the bytes of a file. Each takes a kernel or a user address by its own way of copying. */
typedef int (*copy_out)(u64 to, const void *from, size_t n);
typedef int (*copy_in)(void *to, u64 from, size_t n);
long content_read(struct inode *inode, u64 offset, u64 to, size_t n, copy_out copy);
long content_write(struct inode *inode, u64 offset, u64 from, size_t n, copy_in copy);
void content_truncate(struct inode *inode);
int copy_out_kernel(u64 to, const void *from, size_t n); /* a copy_out within the kernel */

/* kernel/file.c: open files */
struct file *file_create(u32 mode);
struct file *file_open(const char *path, u32 mode, int *error);
struct file *file_get(struct file *file);
void file_put(struct file *file);
long file_read(struct file *file, u64 to, size_t n);
long file_write(struct file *file, u64 from, size_t n);
void device_register(const struct device *device);

/* kernel/pipe.c */
int pipe_create(struct file **reader, struct file **writer);
