/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Files, in three layers: a descriptor is an index into process.files; a `file` is an open file with its
 * position, shared by dup and fork; an `inode` is the thing itself, of one of the file systems.
 */
#pragma once

#include <api/syscalls.h>
#include <types.h>

#define NAME_MAX 255
#define PATH_MAX 512

struct inode;
struct file;
struct mount;

/* How bytes of files are moved: to or from a user address, or a kernel one. 0, or an error. */
typedef int (*copy_out)(u64 to, const void *from, size_t n);
typedef int (*copy_in)(void *to, u64 from, size_t n);

struct device {
    const char *name;
    bool has_position; /* of a disk: one may go to any place of it */
    int (*open)(struct file *file);
    long (*read)(struct file *file, u64 user_buffer, size_t n);
    long (*write)(struct file *file, u64 user_buffer, size_t n);
    void (*close)(struct file *file);
};

/*
 * What a file system does.  A name is `length` bytes, and has no zero byte at its end.  find() and create() give an
 * inode in use: the caller's to put.
 */
struct inode_operations {
    int (*find)(struct inode *directory, const char *name, size_t length, struct inode **out);
    int (*create)(struct inode *directory, const char *name, size_t length, int kind, struct inode **out);
    int (*remove)(struct inode *directory, const char *name, size_t length);
    int (*list)(struct inode *directory, u64 *position, struct directory_entry *entry); /* 1, or 0 at the end */
    long (*read)(struct inode *file, u64 offset, u64 to, size_t n, copy_out copy);
    long (*write)(struct inode *file, u64 offset, u64 from, size_t n, copy_in copy);
    int (*truncate)(struct inode *file); /* to nothing */
    void (*release)(struct inode *inode); /* nobody uses it any more */
};

struct inode {
    int kind;       /* KIND_ */
    u32 references; /* open files, working directories ... */
    const struct inode_operations *operations;
    struct mount *mount;          /* of which file system; NULL: the one in memory */
    struct inode *parent;         /* of a directory: its `..` */
    struct inode *mounted;        /* on this directory: the root of another file system */
    const char *name;             /* of a directory, for its path */
    size_t size;
    const struct device *device;  /* of KIND_DEVICE */
};

struct file {
    u32 references;
    u32 mode; /* O_ flags */
    u64 position;
    struct inode *inode;         /* NULL for what has no name: a pipe's end */
    const struct device *device; /* that reads and writes it; NULL for a file or a directory */
    void *device_data;
};

/* kernel/inode.c */
extern struct inode *root_directory;
struct inode *inode_get(struct inode *inode);
void inode_put(struct inode *inode);

/* kernel/path.c: 0, or an error. What they give is in use. */
int inode_find(const char *path, struct inode **out);
int inode_create(const char *path, int kind, struct inode **out);
int inode_remove(const char *path);
int inode_path(struct inode *inode, char *to, size_t room); /* of a directory: the length */

/* kernel/ramfs.c: the tree in memory */
void ramfs_init(const u8 *archive, const u8 *archive_end);

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
