/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A disk made for virtual machines: virtio, on the PCI bus, by its legacy registers.  There is no buffer in the device:
 * it is told where our pages are, and moves the data itself.  Three tables in our memory are all the two have in common:
 *
 *      descriptors              available, ours         used, theirs
 *      +-----------------+      +-----------------+     +-----------------------+
 *      | address, length | <--- | ... | 36 |      |     | ... | 36, 4097 bytes  |
 *      | flags, next     |      +-----------------+     +-----------------------+
 *      +-----------------+          index: how many         index: how many
 *
 *      a read of a page is a chain of three:  [36] its header, to be read   READ, sector 800
 *                                             [37] the page, to be written
 *                                             [38] its status, to be written: one byte
 *
 * Having put one or several into `available` we say so once, by writing a register; when some are used, the device
 * interrupts.  Compare drivers/blkfront.c: the same idea, but there the pages have to be *granted*, as the other side is
 * only a domain like ours; here it is the machine itself, which may access all of our memory.
 *
 * Not modelled: the registers of version 1.0, tables of descriptors apart (indirect), indices that say when one wants to
 * be told, several queues.
 *
 * (VIRTIO 1.1, 2.6 and 5.2, and what each says of the "legacy interface". The other half: pvhv/hvm/platform/virtio_blk.py.)
 */
#include <api/errno.h>
#include <block.h>
#include <lib.h>

#include "instructions.h"
#include "native.h"

#define VIRTIO_BLK 0x10011af4 /* device and vendor */
#define DISKS_MAX 4

/* Registers, from the address that PCI says. */
enum { FEATURES = 0, OUR_FEATURES = 4, QUEUE_ADDRESS = 8, QUEUE_SIZE = 12, QUEUE_SELECT = 14, QUEUE_NOTIFY = 16,
       STATUS = 18, INTERRUPT = 19, CAPACITY = 20 };

#define STATUS_SEEN 1
#define STATUS_DRIVER 2
#define STATUS_READY 4
#define FEATURE_READONLY (1 << 5)
#define FEATURE_FLUSH (1 << 9)

#define DESCRIPTORS 256 /* what QEMU's queues have, and ours: a legacy driver cannot choose */
#define QUEUE_PAGES 3
#define PAGES_MOST 16
#define CHAIN (PAGES_MOST + 2) /* descriptors of a request: its slot says which */
#define SLOTS (DESCRIPTORS / CHAIN)

struct descriptor {
    u64 address;
    u32 length;
    u16 flags, next;
};

#define NEXT 1  /* the chain goes on */
#define WRITE 2 /* the device is to write there, else to read */

/* As laid out in the pages; the gap is there because `used` begins a page. */
struct queue {
    struct descriptor descriptors[DESCRIPTORS];
    struct {
        u16 flags, index, heads[DESCRIPTORS], spare;
    } available;
    struct {
        volatile u16 flags, index;
        volatile struct {
            u32 head, written;
        } elements[DESCRIPTORS];
        u16 spare;
    } used PAGE_ALIGNED;
};

struct slot {
    struct request *request; /* NULL: free */
    struct {
        u32 type, priority;
        u64 sector;
    } header;
    volatile u8 status;
};

enum { TYPE_READ, TYPE_WRITE, TYPE_FLUSH = 4 };

struct virtio_disk {
    struct disk disk;
    u16 base;
    u16 seen; /* of `used` */
    bool can_flush;
    struct slot slots[SLOTS];
};

static struct queue queues[DISKS_MAX] PAGE_ALIGNED; /* they need pages in a row, which page_alloc() does not give */
static struct virtio_disk virtio_disks[DISKS_MAX];
static unsigned count;

static struct queue *queue_of(struct virtio_disk *vd)
{
    return &queues[vd - virtio_disks];
}

/* -- requests ----------------------------------------------------------------------------------------------------- */

static const u8 types[] = { [BLOCK_READ] = TYPE_READ, [BLOCK_WRITE] = TYPE_WRITE, [BLOCK_FLUSH] = TYPE_FLUSH };

static bool start(struct disk *disk, struct request *request)
{
    struct virtio_disk *vd = disk->driver_data;
    struct queue *queue = queue_of(vd);
    u16 n = 0, head;
    struct slot *slot;
    struct descriptor *to;

    while (n < SLOTS && vd->slots[n].request)
        n++;
    if (n == SLOTS)
        return false;
    if (request->operation == BLOCK_FLUSH && !vd->can_flush) {
        request_done(request, -EOPNOTSUPP);
        return true;
    }
    slot = &vd->slots[n];
    slot->request = request;
    slot->header.type = types[request->operation];
    slot->header.sector = request->sector;
    slot->status = 0xff;

    head = n * CHAIN;
    to = &queue->descriptors[head];
    *to = (struct descriptor){ image_phys(&slot->header), sizeof(slot->header), NEXT, ++head };
    for (u32 i = 0; i < request->page_count; i++) {
        u32 sectors = MIN(request->sectors - i * PAGE_SECTORS, PAGE_SECTORS);

        *++to = (struct descriptor){ page_phys(request->pages[i]), sectors * SECTOR_SIZE,
                                     request->operation == BLOCK_READ ? NEXT | WRITE : NEXT, ++head };
    }
    *++to = (struct descriptor){ image_phys((const void *)&slot->status), 1, WRITE, 0 };

    queue->available.heads[queue->available.index % DESCRIPTORS] = n * CHAIN;
    barrier(); /* first the entry, then the index that shows it */
    queue->available.index++;
    return true;
}

static void kick(struct disk *disk)
{
    struct virtio_disk *vd = disk->driver_data;

    out16(vd->base + QUEUE_NOTIFY, 0);
}

static void take_used(struct virtio_disk *vd)
{
    struct queue *queue = queue_of(vd);

    while (vd->seen != queue->used.index) {
        u32 head = queue->used.elements[vd->seen % DESCRIPTORS].head;
        struct slot *slot = head % CHAIN || head / CHAIN >= SLOTS ? NULL : &vd->slots[head / CHAIN];
        struct request *request = slot ? slot->request : NULL;

        vd->seen++;
        if (!request) {
            kprintf("%s: an answer to no request, %u\n", vd->disk.name, head);
            continue;
        }
        slot->request = NULL;
        request_done(request, slot->status ? -EIO : 0);
    }
}

/* Several disks may share a line. A line is up for as long as a disk has something to say, and reading ends that. */
static void interrupt(void)
{
    for (unsigned i = 0; i < count; i++)
        if (virtio_disks[i].disk.connected && in8(virtio_disks[i].base + INTERRUPT))
            take_used(&virtio_disks[i]);
}

/* -- what it is like ---------------------------------------------------------------------------------------------- */

static int connect(struct disk *disk)
{
    struct virtio_disk *vd = disk->driver_data;
    u32 features;

    out8(vd->base + STATUS, 0); /* whatever firmware has done with it */
    out8(vd->base + STATUS, STATUS_SEEN);
    out8(vd->base + STATUS, STATUS_SEEN | STATUS_DRIVER);
    features = in32(vd->base + FEATURES);
    out32(vd->base + OUR_FEATURES, features & (FEATURE_FLUSH | FEATURE_READONLY));
    out16(vd->base + QUEUE_SELECT, 0);
    if (in16(vd->base + QUEUE_SIZE) != DESCRIPTORS)
        return -ENODEV;
    out32(vd->base + QUEUE_ADDRESS, (u32)(image_phys(queue_of(vd)) >> PAGE_SHIFT));
    out8(vd->base + STATUS, STATUS_SEEN | STATUS_DRIVER | STATUS_READY);

    vd->can_flush = features & FEATURE_FLUSH;
    disk->readonly = features & FEATURE_READONLY;
    disk->sectors = in32(vd->base + CAPACITY) | (u64)in32(vd->base + CAPACITY + 4) << 32;
    disk->pages_most = PAGES_MOST;
    return 0;
}

static const struct disk_driver driver = { .connect = connect, .start = start, .kick = kick };

void virtio_init(void)
{
    _Static_assert(sizeof(struct queue) == QUEUE_PAGES * PAGE_SIZE, "the layout of a queue");
    for (int slot = pci_find(VIRTIO_BLK, 0); slot >= 0 && count < DISKS_MAX; slot = pci_find(VIRTIO_BLK, slot + 1)) {
        struct virtio_disk *vd = &virtio_disks[count];

        if (!(pci_read(slot, PCI_BAR_0) & PCI_BAR_IO))
            continue;
        vd->base = pci_read(slot, PCI_BAR_0) & ~3;
        pci_write(slot, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
        format(vd->disk.name, sizeof(vd->disk.name), "vd%c", 'a' + count++);
        vd->disk.driver = &driver;
        vd->disk.driver_data = vd;
        irq_attach(pci_read(slot, PCI_INTERRUPT) & 0xff, interrupt);
        disk_register(&vd->disk);
    }
}
