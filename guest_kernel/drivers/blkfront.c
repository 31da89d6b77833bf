/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A disk, the front half.  The back half is in domain 0, and has the file; between them is one page of ours:
 *
 *      +----------+-----------+----------+-----------+
 *      | req_prod | req_event | rsp_prod | rsp_event |      counts, of all there ever were
 *      +----------+-----------+----------+-----------+--------+---------+
 *      |  slot 0  |  slot 1   |  slot 2  |  slot 3   |  ...   | slot 31 |      a request, and later a response
 *      +----------+-----------+----------+-----------+--------+---------+
 *
 *      The slots are used in turn, a count modulo 32 after the other:
 *
 *           free ... | a response, which we have to see | a request, under way | free ...
 *                    ^                                  ^                      ^
 *                    rsp_cons, which we keep            rsp_prod, theirs       req_prod, ours
 *
 *      A request:   READ, sector 800, id 5, segments: (grant 17, sectors 0 to 7), (grant 18, sectors 0 to 7) ...
 *      A response:  id 5, OKAY.  They come in any order: the id says which request is done.
 *
 * The data is not in the ring.  Each segment names a page of ours by a *grant reference*: for as long as the request
 * is under way domain 0 may map this page, and no other.  The event channel only says "look": whoever adds entries
 * compares its count with the other's `event` count, which says when that one wants to be woken; so one event may
 * stand for many requests.
 *
 * Two ends meet through xenstore, see connect().  The first program that opens the disk causes that, and waits for it.
 * They part when the backend says that it is closing, and nobody here has the disk open or mounted; see leave().
 *
 * Not modelled: partitions.  The backend has more to offer, of which a front end takes what it wants: segments listed
 * in pages of their own (indirect), grants that are kept (persistent), rings of many pages, many rings, discarding.
 *
 * (Xen: public/io/blkif.h, ring.h.  The other half: pvhv/devices/block.)
 */
#include <api/errno.h>
#include <block.h>
#include <lib.h>

#include "../pv/pv.h"

#define DISKS_MAX 16
#define SLOTS 32 /* what fits into a page, and is a power of two */
#define SEGMENTS BLKIF_MAX_SEGMENTS_PER_REQUEST

/* A request of which the other side has not said that it is done; its index is the id. */
struct slot {
    struct request *request; /* NULL: free */
    int references[SEGMENTS];
};

struct blkfront {
    struct disk disk;
    unsigned number; /* of the virtual device; xenstore knows the disk by it ... */
    char ours[32];   /* ... and our end of it by this directory */
    struct xenbus_backend backend;
    int port, reference; /* of the ring */
    blkif_front_ring_t ring; /* without a page: we have parted, or never met */
    struct slot slots[SLOTS];
};

static struct blkfront *fronts[DISKS_MAX];
static unsigned count;

/* -- requests ----------------------------------------------------------------------------------------------------- */

static const u8 operations[] = {
    [BLOCK_READ] = BLKIF_OP_READ, [BLOCK_WRITE] = BLKIF_OP_WRITE, [BLOCK_FLUSH] = BLKIF_OP_FLUSH_DISKCACHE };

/* Take the grants back. False if the other side has not let go of a page: then it must stay as it is, for ever. */
static bool end_grants(struct slot *slot, u32 granted)
{
    bool all = true;

    for (u32 i = 0; i < granted; i++)
        all &= !grant_end(slot->references[i]);
    return all;
}

static bool start(struct disk *disk, struct request *request)
{
    struct blkfront *front = disk->driver_data;
    struct slot *slot = front->slots;
    blkif_request_t *to;

    if (!front->ring.sring) { /* it was taken away from under who has it open */
        request_done(request, -EIO);
        return true;
    }
    while (slot < front->slots + SLOTS && slot->request)
        slot++;
    if (RING_FULL(&front->ring) || slot == front->slots + SLOTS)
        return false;
    for (u32 i = 0; i < request->page_count; i++) {
        /* To write the disk, domain 0 need only read our page. */
        slot->references[i] = grant_access(0, page_phys(request->pages[i]), request->operation == BLOCK_WRITE);
        if (slot->references[i] < 0) {
            end_grants(slot, i);
            return false;
        }
    }
    slot->request = request;
    to = RING_GET_REQUEST(&front->ring, front->ring.req_prod_pvt);
    *to = (blkif_request_t){
        .operation = operations[request->operation],
        .nr_segments = (u8)request->page_count,
        .handle = (blkif_vdev_t)front->number,
        .id = slot - front->slots,
        .sector_number = request->sector,
    };
    for (u32 i = 0; i < request->page_count; i++)
        to->seg[i] = (struct blkif_request_segment){
            .gref = slot->references[i],
            .last_sect = (u8)(MIN(request->sectors - i * PAGE_SECTORS, PAGE_SECTORS) - 1) };
    front->ring.req_prod_pvt++;
    return true;
}

static void kick(struct disk *disk)
{
    struct blkfront *front = disk->driver_data;
    int wants_event;

    if (!front->ring.sring)
        return;
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&front->ring, wants_event);
    if (wants_event)
        event_send(front->port);
}

/* -- the ends part ------------------------------------------------------------------------------------------------ */

static void drop_ring(struct blkfront *front)
{
    if (front->ring.sring)
        xenbus_drop_ring(front->ring.sring, front->reference, front->port);
    front->ring.sring = NULL;
    front->port = 0;
}

/* The backend is gone, and will not answer any more. */
static void lose(struct blkfront *front)
{
    if (front->ring.sring)
        kprintf("%s: it was taken away\n", front->disk.name);
    drop_ring(front);
    for (struct slot *slot = front->slots; slot < front->slots + SLOTS; slot++) {
        struct request *request = slot->request;

        if (request && end_grants(slot, request->page_count)) {
            slot->request = NULL;
            request_done(request, -EIO);
        }
    }
}

/* Part, if the other end wants to and nobody here is in the way.  It asks once: we look again whenever that changes. */
static void leave(void *driver_data)
{
    struct blkfront *front = driver_data;
    unsigned theirs = front->backend.state;
    struct disk *disk = &front->disk;

    if (disk->connected && theirs < XenbusStateConnected) /* it is gone, or even another one already */
        lose(front);
    if (disk->connected && (xenbus_is_over(theirs) || !front->ring.sring) && !disk->users && buffers_let_go(disk)) {
        disk->connected = false;
        if (front->ring.sring) /* else it was taken away, and what is there now is another device */
            xenbus_tell_number(front->ours, "state", XenbusStateClosed);
    }
    if (!disk->connected && (theirs == XenbusStateClosed || theirs == XenbusStateUnknown))
        drop_ring(front); /* they have let go of its page */
}

static void unused(struct disk *disk)
{
    leave(disk->driver_data);
}

/* -- responses ---------------------------------------------------------------------------------------------------- */

static void response(struct blkfront *front, const blkif_response_t *response)
{
    struct slot *slot = response->id < SLOTS ? &front->slots[response->id] : NULL;
    struct request *request = slot ? slot->request : NULL;
    int error = response->status == BLKIF_RSP_OKAY ? 0 : response->status == BLKIF_RSP_EOPNOTSUPP ? -EOPNOTSUPP : -EIO;

    if (!request) {
        kprintf("%s: a response to no request, %lu\n", front->disk.name, response->id);
        return;
    }
    if (!end_grants(slot, request->page_count)) {
        kprintf("%s: domain 0 keeps a page\n", front->disk.name);
        return; /* nor is the slot used again */
    }
    slot->request = NULL;
    request_done(request, error);
}

static void blkfront_event(unsigned port)
{
    struct blkfront *front = NULL;
    int more;

    for (unsigned i = 0; i < count; i++)
        if (fronts[i]->port == (int)port)
            front = fronts[i];
    do {
        while (RING_HAS_UNCONSUMED_RESPONSES(&front->ring)) {
            blkif_response_t copy;

            barrier(); /* first the count, then what it counts */
            RING_COPY_RESPONSE(&front->ring, front->ring.rsp_cons, &copy);
            front->ring.rsp_cons++; /* the slot is free before the next request looks for one */
            response(front, &copy);
        }
        RING_FINAL_CHECK_FOR_RESPONSES(&front->ring, more);
    } while (more);
    leave(front);
}

/* -- the ends meet ------------------------------------------------------------------------------------------------ */

static int converse(struct blkfront *front)
{
    const char *ours = front->ours, *theirs = front->backend.directory;
    struct disk *disk = &front->disk;
    blkif_sring_t *shared;
    u64 info = 0, sector_size = 0;
    int error;

    if ((error = xenbus_wait(&front->backend, XenbusStateInitWait)))
        return error;
    shared = xenbus_make_ring(&front->reference, &front->port, blkfront_event);
    if (!shared)
        return -ENOMEM;
    XEN_FRONT_RING_INIT(&front->ring, shared, PAGE_SIZE);
    /* What they have to know ... */
    if ((error = xenbus_write_number(ours, "ring-ref", front->reference)) ||
        (error = xenbus_write_number(ours, "event-channel", front->port)) ||
        (error = xenbus_write(ours, "protocol", XEN_IO_PROTO_ABI_X86_64)) ||
        (error = xenbus_write_number(ours, "state", XenbusStateInitialised)))
        return error;
    /* ... and, when they have the ring mapped, what we want to know. */
    if ((error = xenbus_wait(&front->backend, XenbusStateConnected)) ||
        (error = xenbus_read_number(theirs, "sectors", &disk->sectors)) ||
        (error = xenbus_read_number(theirs, "sector-size", &sector_size)) ||
        (error = xenbus_read_number(theirs, "info", &info)))
        return error;
    disk->readonly = info & VDISK_READONLY;
    disk->pages_most = SEGMENTS;
    if (!sector_size || PAGE_SIZE % sector_size)
        return -EINVAL;
    return xenbus_write_number(ours, "state", XenbusStateConnected);
}

static int connect(struct disk *disk)
{
    struct blkfront *front = disk->driver_data;
    int error = xenbus_meet(&front->backend, front->ours);

    if (error)
        return error;
    error = converse(front);
    if (error) { /* whoever comes next may try again */
        xenbus_write_number(front->ours, "state", XenbusStateClosed);
        drop_ring(front);
        xenbus_write_number(front->ours, "state", XenbusStateInitialising);
    }
    return error;
}

static const struct disk_driver driver = { .connect = connect, .start = start, .kick = kick, .unused = unused };

/* -- which there are ---------------------------------------------------------------------------------------------- */

void blkfront_add(unsigned number, const char *name)
{
    struct blkfront *front;

    for (unsigned i = 0; i < count; i++)
        if (fronts[i]->number == number)
            return; /* a disk that went keeps its name, and may come back */
    front = count < DISKS_MAX ? kmalloc(sizeof(*front)) : NULL;
    if (!front) {
        kprintf("No room for disk %u\n", number);
        return;
    }
    front->number = number;
    format(front->ours, sizeof(front->ours), "device/vbd/%u", number);
    front->backend.changed = leave;
    front->backend.driver_data = front;
    strlcpy(front->disk.name, name, sizeof(front->disk.name));
    front->disk.driver = &driver;
    front->disk.driver_data = front;
    fronts[count++] = front;
    disk_register(&front->disk);
}
