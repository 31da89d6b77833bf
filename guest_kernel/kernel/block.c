/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Between those who want sectors and the drivers that fetch them: a queue for each disk.
 *
 * A request is begun and then forgotten about, until the driver says that it is done; so many can be under way, and a
 * driver is asked for all that it has room for before it tells its device to look.  Who wants to wait, sleeps.
 *
 * Not modelled: sorting requests, or joining neighbours: the buffers (buffer.c) ask for long stretches anyway.
 */
#include <api/errno.h>
#include <block.h>
#include <lib.h>

struct disk *disks;

/* The first to open a disk makes its driver find out what it is; so does the first after it was given up. */
int disk_connect(struct disk *disk)
{
    int error;

    lock_take(&disk->connecting); /* and whoever comes meanwhile waits */
    error = disk->connected ? 0 : disk->driver->connect(disk);
    if (!error && !disk->connected) {
        disk->cannot_flush = false;
        disk->write_error = 0;
        disk->connected = true;
    }
    if (!error)
        disk->users++;
    lock_release(&disk->connecting);
    return error;
}

void disk_release(struct disk *disk)
{
    ASSERT(disk->users > 0);
    if (!--disk->users && disk->driver->unused)
        disk->driver->unused(disk);
}

void request_begin(struct disk *disk, struct request *request)
{
    request->disk = disk;
    request->next = NULL;
    *disk->last = request;
    disk->last = &request->next;
}

static struct request *take_first(struct disk *disk)
{
    struct request *request = disk->first;

    disk->first = request->next;
    if (!disk->first)
        disk->last = &disk->first;
    disk->under_way++;
    return request;
}

static void put_back(struct disk *disk, struct request *request)
{
    disk->under_way--;
    if (!disk->first)
        disk->last = &request->next;
    request->next = disk->first;
    disk->first = request;
}

static bool anything_under_way(void)
{
    for (struct disk *disk = disks; disk; disk = disk->next)
        if (disk->under_way)
            return true;
    return false;
}

void requests_run(struct disk *disk)
{
    bool any = false;

    if (disk->running) /* a driver that is done at once comes back here */
        return;
    disk->running = true;
    while (disk->first) {
        struct request *request = take_first(disk);

        if (disk->driver->start(disk, request)) {
            any = true;
            continue;
        }
        put_back(disk, request);
        if (anything_under_way())
            break;
        request_done(take_first(disk), -ENOMEM); /* nothing will ever make room */
    }
    disk->running = false;
    if (any && disk->driver->kick)
        disk->driver->kick(disk);
}

void request_done(struct request *request, int error)
{
    struct disk *disk = request->disk;

    if (request->operation == BLOCK_FLUSH && error == -EOPNOTSUPP) {
        disk->cannot_flush = true; /* it has nothing to flush: what it said is written, is written */
        error = 0;
    }
    disk->under_way--;
    request->done(request, error); /* and the request is gone */
    for (disk = disks; disk; disk = disk->next)
        requests_run(disk); /* any of them: what drivers run out of, such as grants, they share */
}
