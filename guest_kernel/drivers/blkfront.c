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
 *
 * Not modelled: partitions; disks that come or go while we run.  The backend has more to offer, of which a front end
 * takes what it wants: segments listed in pages of their own (indirect), grants that are kept (persistent), rings of
 * many pages, many rings, discarding.
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
    unsigned number; /* of the virtual device; xenstore knows the disk by it */
    int port, reference; /* of the ring */
    blkif_front_ring_t ring;
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

    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&front->ring, wants_event);
    if (wants_event)
        event_send(front->port);
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
}

/* -- the ends meet ------------------------------------------------------------------------------------------------ */

/* A ring of our own: a page, a grant of it for domain 0, and a port that domain 0 may bind to. */
static int make_ring(struct blkfront *front)
{
    struct page *page = page_alloc_zeroed();
    blkif_sring_t *shared;

    if (!page)
        return -ENOMEM;
    shared = page_virt(page);
    XEN_FRONT_RING_INIT(&front->ring, shared, PAGE_SIZE);
    front->reference = grant_access(0, page_phys(page), false);
    front->port = event_alloc_unbound(0, blkfront_event);
    return front->reference < 0 || front->port < 0 ? -ENOMEM : 0;
}

static void drop_ring(struct blkfront *front)
{
    struct page *page = front->ring.sring ? page_of(phys(front->ring.sring)) : NULL;

    if (page && front->port > 0)
        event_close(front->port);
    if (page && (front->reference < 0 || !grant_end(front->reference)))
        page_put(page); /* else it is lost: domain 0 still has it mapped */
    front->ring.sring = NULL;
}

static int converse(struct blkfront *front, const char *ours, const char *theirs)
{
    struct disk *disk = &front->disk;
    u64 info = 0, sector_size = 0;
    int error;

    if ((error = xenbus_wait(theirs, XenbusStateInitWait)) || (error = make_ring(front)))
        return error;
    /* What they have to know ... */
    if ((error = xenbus_write_number(ours, "ring-ref", front->reference)) ||
        (error = xenbus_write_number(ours, "event-channel", front->port)) ||
        (error = xenbus_write(ours, "protocol", XEN_IO_PROTO_ABI_X86_64)) ||
        (error = xenbus_write_number(ours, "state", XenbusStateInitialised)))
        return error;
    /* ... and, when they have the ring mapped, what we want to know. */
    if ((error = xenbus_wait(theirs, XenbusStateConnected)) ||
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
    char ours[32], theirs[64];
    int error;

    format(ours, sizeof(ours), "device/vbd/%u", front->number);
    error = xenbus_read(ours, "backend", theirs, sizeof(theirs));
    if (error < 0)
        return -ENXIO;
    error = converse(front, ours, theirs);
    if (error) { /* whoever comes next may try again */
        xenbus_write_number(ours, "state", XenbusStateClosed);
        drop_ring(front);
        xenbus_write_number(ours, "state", XenbusStateInitialising);
    }
    return error;
}

static const struct disk_driver driver = { .connect = connect, .start = start, .kick = kick };

/* -- which there are ---------------------------------------------------------------------------------------------- */

/* 51712 is xvda, 51713 its first partition, 51728 xvdb; from xvdq on, numbers have bit 28 and another format. */
static void name_disk(struct blkfront *front)
{
    unsigned n = front->number, extended = n >> 28 == 1;
    unsigned letter = extended ? (n & 0xfffffff) >> 8 : n >> 8 == 202 ? (n & 0xff) >> 4 : 26;
    unsigned partition = n & (extended ? 0xff : 0xf);

    if (letter >= 26) /* a number of another system, or of very many disks */
        format(front->disk.name, sizeof(front->disk.name), "vbd%u", n);
    else if (partition)
        format(front->disk.name, sizeof(front->disk.name), "xvd%c%u", 'a' + letter, partition);
    else
        format(front->disk.name, sizeof(front->disk.name), "xvd%c", 'a' + letter);
}

/* At boot, xenstore's answer: the numbers of our disks, each a string with its zero byte. */
void blkfront_found(const char *names, size_t length)
{
    for (const char *name = names; name < names + length; name += strlen(name) + 1) {
        struct blkfront *front = count < DISKS_MAX ? kmalloc(sizeof(*front)) : NULL;

        if (!front) {
            kprintf("No room for disk %s\n", name);
            continue;
        }
        for (const char *digit = name; *digit >= '0' && *digit <= '9'; digit++)
            front->number = front->number * 10 + (*digit - '0');
        name_disk(front);
        front->disk.driver = &driver;
        front->disk.driver_data = front;
        fronts[count++] = front;
        disk_register(&front->disk);
    }
}
