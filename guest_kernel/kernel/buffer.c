/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Buffers: pages of disks that are in memory, because somebody reads them, or changed them, or did so lately.
 *
 * What was changed is written late: when there are too many such pages, when somebody calls for it (`sync`), or when
 * the file system is unmounted.  Then neighbours go in one request, and all requests at once.  There is no clock that
 * does it: an idle machine stays silent, and a crash loses what was not synced.
 *
 * Somebody may change a page while it is being written.  It is then written once more.
 *
 * Not modelled: giving pages back when programs need them.
 */
#include <api/errno.h>
#include <block.h>
#include <lib.h>
#include <process.h>

#define BUFFERS_MAX 512 /* 2 MiB; less where memory is small */
#define HASHES 64

static struct buffer buffers[BUFFERS_MAX];
static struct buffer *by_hash[HASHES];
static u32 buffer_count, dirty_count;
static u64 uses;

static u32 most(void)
{
    return (u32)MIN(BUFFERS_MAX, MAX(pages_total / 16, 32));
}

static struct buffer **hash_of(struct disk *disk, u64 number)
{
    return &by_hash[(number + ((u64)disk >> 6)) % HASHES];
}

static struct buffer *find(struct disk *disk, u64 number)
{
    struct buffer *buffer = *hash_of(disk, number);

    while (buffer && (buffer->disk != disk || buffer->number != number))
        buffer = buffer->next;
    return buffer;
}

/* -- requests ----------------------------------------------------------------------------------------------------- */

/* `count` pages in a row, all marked busy. The last of the disk may be short. */
static int begin(struct disk *disk, enum block_operation operation, u64 number, u32 count,
                 void (*done)(struct request *request, int error))
{
    struct request *request = kmalloc(sizeof(*request));

    if (!request)
        return -ENOMEM;
    request->operation = operation;
    request->sector = number * PAGE_SECTORS;
    request->sectors = (u32)MIN(count * PAGE_SECTORS, disk->sectors - request->sector);
    request->page_count = count;
    request->done = done;
    for (u32 i = 0; i < count; i++) {
        struct buffer *buffer = find(disk, number + i);

        buffer->busy = true;
        request->pages[i] = buffer->page;
    }
    request_begin(disk, request);
    return 0;
}

static void finish(struct request *request, int error)
{
    for (u32 i = 0; i < request->page_count; i++) {
        struct buffer *buffer = find(request->disk, request->sector / PAGE_SECTORS + i);

        buffer->busy = false;
        buffer->error = error;
        if (request->operation == BLOCK_READ)
            buffer->valid = !error;
        wake_up(buffer);
    }
    if (error && request->operation == BLOCK_WRITE)
        request->disk->write_error = error;
    kfree(request);
}

/* Begin to write what is dirty and not being written already: each stretch of neighbours in few requests. */
static int begin_writes(struct disk *disk)
{
    int error = 0;

    for (struct buffer *at = buffers; !error && at < buffers + buffer_count; at++) {
        struct buffer *buffer = at, *before;
        u32 count;

        if (at->disk != disk || !at->dirty || at->busy)
            continue;
        /* Only from the first of a stretch on; the others come along. */
        before = at->number ? find(disk, at->number - 1) : NULL;
        if (before && before->dirty && !before->busy)
            continue;
        for (u64 number = at->number; !error && buffer && buffer->dirty && !buffer->busy; number += count) {
            for (count = 0; count < disk->pages_most && buffer && buffer->dirty && !buffer->busy; count++)
                buffer = find(disk, number + count + 1);
            error = begin(disk, BLOCK_WRITE, number, count, finish);
            for (u32 i = 0; !error && i < count; i++) {
                find(disk, number + i)->dirty = false;
                dirty_count--;
            }
        }
    }
    requests_run(disk);
    return error;
}

/* -- which page is kept, and which has to go ---------------------------------------------------------------------- */

static void forget(struct buffer *buffer)
{
    struct buffer **link = hash_of(buffer->disk, buffer->number);

    while (*link != buffer)
        link = &(*link)->next;
    *link = buffer->next;
    buffer->disk = NULL;
    buffer->valid = false;
}

static struct buffer *oldest_unused(void)
{
    struct buffer *oldest = NULL;

    for (struct buffer *buffer = buffers; buffer < buffers + buffer_count; buffer++)
        if (!buffer->users && !buffer->busy && !buffer->dirty && (!oldest || buffer->last_use < oldest->last_use))
            oldest = buffer;
    return oldest;
}

static struct buffer *any_busy(struct disk *disk)
{
    for (struct buffer *buffer = buffers; buffer < buffers + buffer_count; buffer++)
        if (buffer->busy && (!disk || buffer->disk == disk))
            return buffer;
    return NULL;
}

/* One that is free to be used anew. NULL if there is none without waiting. */
static struct buffer *fresh(void)
{
    struct buffer *buffer;

    if (buffer_count < most()) {
        struct page *page = page_alloc();

        if (page) {
            buffer = &buffers[buffer_count++];
            buffer->page = page;
            buffer->data = page_virt(page);
            return buffer;
        }
    }
    buffer = oldest_unused();
    if (buffer && buffer->disk)
        forget(buffer);
    return buffer;
}

static struct buffer *add(struct buffer *buffer, struct disk *disk, u64 number)
{
    struct buffer **hash = hash_of(disk, number);

    buffer->disk = disk;
    buffer->number = number;
    buffer->error = 0;
    buffer->next = *hash;
    *hash = buffer;
    return buffer;
}

/* The buffer of that page, whatever it has in it; it is the caller's until buffer_put(). */
static struct buffer *take(struct disk *disk, u64 number, int *error)
{
    struct buffer *buffer;

    while (!(buffer = find(disk, number))) {
        struct buffer *unused = fresh();

        if (unused) {
            buffer = add(unused, disk, number);
            break;
        }
        /* All are dirty, or busy, or in use. */
        for (struct disk *each = disks; each; each = each->next)
            begin_writes(each);
        unused = any_busy(NULL);
        if (!unused) {
            *error = -ENOMEM;
            return NULL;
        }
        wait_on(unused);
    }
    buffer->users++;
    buffer->last_use = ++uses;
    return buffer;
}

/* -- what users do with them -------------------------------------------------------------------------------------- */

struct buffer *buffer_get(struct disk *disk, u64 number, int *error)
{
    struct buffer *buffer = take(disk, number, error);
    bool asked = false;

    while (buffer && !buffer->valid) {
        if (!buffer->busy && asked) {
            *error = buffer->error;
            buffer_put(buffer);
            return NULL;
        }
        if (!buffer->busy) { /* perhaps it failed once, as one of many: now it is asked for by itself */
            buffer->error = begin(disk, BLOCK_READ, number, 1, finish);
            asked = true;
            requests_run(disk);
        }
        while (buffer->busy)
            wait_on(buffer);
    }
    return buffer;
}

struct buffer *buffer_get_empty(struct disk *disk, u64 number, int *error)
{
    struct buffer *buffer = take(disk, number, error);

    while (buffer && buffer->busy && !buffer->valid) /* what is being read must not come later than what is written */
        wait_on(buffer);
    if (buffer && !buffer->valid) {
        memset(buffer->data, 0, PAGE_SIZE); /* should less of it be written than was meant, nobody's bytes are there */
        buffer->valid = true;
    }
    return buffer;
}

void buffer_put(struct buffer *buffer)
{
    ASSERT(buffer->users > 0);
    buffer->users--;
}

void buffer_changed(struct buffer *buffer)
{
    if (!buffer->dirty) {
        buffer->dirty = true;
        dirty_count++;
    }
    if (dirty_count > most() / 2)
        begin_writes(buffer->disk);
}

bool buffer_is_there(struct disk *disk, u64 number)
{
    struct buffer *buffer = find(disk, number);

    return buffer && (buffer->valid || buffer->busy);
}

void buffers_read_ahead(struct disk *disk, u64 number, u64 count)
{
    u64 end = MIN(number + count, (disk->sectors + PAGE_SECTORS - 1) / PAGE_SECTORS);
    u32 run = 0; /* pages in a row, up to `at`, that nobody has */

    for (u64 at = number; run || at < end; at++) {
        struct buffer *buffer = at < end && !find(disk, at) ? fresh() : NULL; /* NULL also if there is no room */

        if (buffer) {
            add(buffer, disk, at)->last_use = ++uses;
            buffer->busy = true;
            run++;
        }
        if (run && (!buffer || run == disk->pages_most)) {
            u64 first = at + (buffer ? 1 : 0) - run;

            if (begin(disk, BLOCK_READ, first, run, finish))
                for (u32 i = 0; i < run; i++)
                    find(disk, first + i)->busy = false;
            run = 0;
        }
    }
    requests_run(disk);
}

void buffers_forget(struct disk *disk, u64 number, u64 count)
{
    for (struct buffer *buffer = buffers; buffer < buffers + buffer_count; buffer++)
        if (buffer->disk == disk && buffer->number - number < count && !buffer->dirty && !buffer->busy &&
            !buffer->users)
            forget(buffer);
}

bool buffers_let_go(struct disk *disk)
{
    begin_writes(disk);
    buffers_forget(disk, 0, ~0UL);
    for (struct buffer *buffer = buffers; buffer < buffers + buffer_count; buffer++)
        if (buffer->disk == disk)
            return false;
    return !disk->under_way && !disk->first;
}

int buffers_write(struct disk *disk)
{
    struct buffer *busy;
    int error = begin_writes(disk);

    while (!error && (busy = any_busy(disk))) {
        wait_on(busy);
        error = begin_writes(disk); /* what was changed meanwhile */
    }
    if (!error) {
        error = disk->write_error;
        disk->write_error = 0;
    }
    return error;
}

struct flush {
    bool over;
    int error;
};

static void flushed(struct request *request, int error)
{
    struct flush *flush = request->owner;

    flush->error = error;
    flush->over = true;
    wake_up(flush);
    kfree(request);
}

int disk_sync(struct disk *disk)
{
    int error = disk->connected && !disk->readonly ? buffers_write(disk) : 0;
    struct flush flush = { 0 };
    struct request *request;

    if (!disk->connected || disk->readonly || disk->cannot_flush)
        return error;
    request = kmalloc(sizeof(*request));
    if (!request)
        return -ENOMEM;
    request->operation = BLOCK_FLUSH;
    request->done = flushed;
    request->owner = &flush;
    request_begin(disk, request);
    requests_run(disk);
    while (!flush.over)
        wait_on(&flush);
    return error ? error : flush.error;
}

int disks_sync(void)
{
    int error = 0;

    for (struct disk *disk = disks; disk; disk = disk->next) {
        int failed = disk_sync(disk);

        error = error ? error : failed;
    }
    return error;
}
