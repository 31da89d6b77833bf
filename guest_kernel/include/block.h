/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Disks, in three layers: a driver carries out requests for sectors; kernel/block.c queues them; kernel/buffer.c keeps
 * what was read and what is to be written, a page at a time, so that programs and file systems need not wait for each.
 *
 *      a file system          /dev/xvda
 *              |                  |            (kernel/diskfile.c)
 *              +---- buffers -----+            (kernel/buffer.c)    a page, known by its number on the disk
 *                       |
 *                     queue                    (kernel/block.c)     requests that wait, in order
 *                       |
 *       start(), kick()     request_done()     the driver: a ring, or a controller's registers; an interrupt
 */
#pragma once

#include <file.h>
#include <lock.h>
#include <page.h>
#include <types.h>

#define SECTOR_SIZE 512
#define PAGE_SECTORS (PAGE_SIZE / SECTOR_SIZE)
#define REQUEST_PAGES 32

enum block_operation { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH };

struct disk;

/* Some sectors in a row, and the pages for them. A flush has neither: it ends when all that was written is safe. */
struct request {
    enum block_operation operation;
    u64 sector;                        /* the first */
    u32 sectors;                       /* how many */
    u32 page_count;
    struct page *pages[REQUEST_PAGES]; /* each from its beginning, in this order; the last perhaps not to its end */
    void (*done)(struct request *request, int error); /* told by request_done(); never sleeps */
    void *owner;                       /* whoever waits for it */
    struct disk *disk;
    struct request *next;              /* in the queue */
};

/* What a driver does. All of it is called with interrupts off; only connect() may sleep. */
struct disk_driver {
    int (*connect)(struct disk *disk);                        /* at the first open: fills in what the disk is like */
    bool (*start)(struct disk *disk, struct request *request); /* take one; false: no room until another one is done */
    void (*kick)(struct disk *disk);                          /* some were taken: tell the device. May be NULL */
    void (*unused)(struct disk *disk);                        /* nobody has it open any more. May be NULL */
};

struct disk {
    char name[12]; /* of /dev/NAME */
    const struct disk_driver *driver;
    void *driver_data;

    /* What connect() finds out. */
    u64 sectors;
    bool readonly;
    u32 pages_most; /* of one request */

    /* kernel/block.c, buffer.c and diskfile.c */
    struct lock connecting;
    bool connected, cannot_flush, mounted;
    u32 users;                      /* open files and mounts: between disk_connect() and disk_release() */
    bool running;                   /* requests_run() is at work */
    u32 under_way;                  /* requests that the driver has */
    int write_error;                /* of a write that nobody waited for; told once, by disk_sync() */
    struct request *first, **last;  /* those that wait */
    struct device device;
    struct disk *next;
};

/* kernel/block.c */
extern struct disk *disks;
int disk_connect(struct disk *disk);
void disk_release(struct disk *disk);
void request_begin(struct disk *disk, struct request *request); /* into the queue; see requests_run() */
void requests_run(struct disk *disk);                           /* start as many as have room; tell the device once */
void request_done(struct request *request, int error);          /* by the driver: 0, -EIO, or -EOPNOTSUPP of a flush */

/* kernel/diskfile.c: a driver's disk becomes /dev/NAME */
void disk_register(struct disk *disk);

/* kernel/buffer.c: pages of a disk in memory */
struct buffer {
    struct disk *disk;
    u64 number;     /* which page of the disk */
    struct page *page;
    u8 *data;
    u32 users;      /* between buffer_get() and buffer_put() it stays what it is */
    bool valid;     /* it has the disk's bytes, or newer ones */
    bool dirty;     /* newer ones */
    bool busy;      /* a request is under way */
    int error;      /* of the last request */
    u64 last_use;
    struct buffer *next; /* of the same hash */
};

struct buffer *buffer_get(struct disk *disk, u64 number, int *error);       /* with the disk's bytes */
struct buffer *buffer_get_empty(struct disk *disk, u64 number, int *error); /* all of it is about to be written */
void buffer_put(struct buffer *buffer);
void buffer_changed(struct buffer *buffer);
bool buffer_is_there(struct disk *disk, u64 number);                       /* or is on its way */
void buffers_read_ahead(struct disk *disk, u64 number, u64 count); /* begin to read; waits for nothing but memory */
int buffers_write(struct disk *disk);                              /* what is dirty, to the disk */
void buffers_forget(struct disk *disk, u64 number, u64 count);     /* what is neither dirty nor in use */
bool buffers_let_go(struct disk *disk); /* begin to write all; true: nothing is left of it here, or under way */
int disk_sync(struct disk *disk);                                  /* write all, and have the disk make it safe */
int disks_sync(void);
