/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * IDE disks, by port I/O: the disk of the first PC that had one, which every PC has had since.
 *
 *      read four pages from sector 800:
 *
 *      out: device, count, address (4 bytes), READ MULTIPLE   ---->  the disk looks for them
 *                                                             <----  interrupt: a block of 16 sectors is in its buffer
 *      in: status (which ends the interrupt)
 *      rep insw: 4096 words, into two of the pages            ---->  the next block
 *                                                             <----  interrupt ...
 *
 * The CPU moves each word itself, and the disk interrupts it for each block.  A channel has two disks, master and slave,
 * which share all registers; so it carries out one request at a time.  Compare virtio_blk.c, and drivers/blkfront.c.
 *
 * Not modelled: DMA, which moves the data without us; CD-ROM drives; disks that come or go.
 *
 * (ATA/ATAPI-6, 9.5 and 9.6: the state machines of PIO.)
 */
#include <api/errno.h>
#include <block.h>
#include <lib.h>
#include <process.h>
#include <pv_ops.h>

#include "instructions.h"
#include "native.h"

enum { DATA, ERROR, COUNT, LOW, MIDDLE, HIGH, DEVICE, STATUS, COMMAND = STATUS };

#define STATUS_BUSY 0x80
#define STATUS_DATA 0x08 /* a block waits to be transferred */
#define STATUS_BROKEN 0x20
#define STATUS_ERROR 0x01
#define STATUS_NOBODY 0xff /* what a bus says that nobody drives */
#define DEVICE_LBA 0xe0 /* addresses are sector numbers; two bits are always set */
#define DEVICE_SLAVE 0x10
#define CONTROL_NO_INTERRUPTS 0x02

#define READ_MULTIPLE 0xc4
#define READ_MULTIPLE_EXT 0x29
#define WRITE_MULTIPLE 0xc5
#define WRITE_MULTIPLE_EXT 0x39
#define SET_MULTIPLE 0xc6
#define FLUSH_CACHE 0xe7
#define IDENTIFY 0xec

#define SECTOR_WORDS (SECTOR_SIZE / 2)
#define PATIENCE 5000000000UL /* ns */
#define LBA28_END (1UL << 28)

struct channel {
    u16 base, control;
    u8 line;
    struct drive *busy; /* has a request under way */
};

struct drive {
    struct disk disk;
    struct channel *channel;
    u8 select; /* for the device register */
    u32 block; /* sectors that are transferred at a time */
    bool extended; /* takes addresses of 48 bits */
    struct request *request;
    u32 moved; /* sectors of it */
};

static struct channel channels[] = { { 0x1f0, 0x3f6, 14, NULL }, { 0x170, 0x376, 15, NULL } };
static struct drive drives[4];

static u8 read(struct drive *drive, u16 reg)
{
    return in8(drive->channel->base + reg);
}

static void write(struct drive *drive, u16 reg, u64 value)
{
    out8(drive->channel->base + reg, (u8)value);
}

/* -- requests ----------------------------------------------------------------------------------------------------- */

/* For 48 bits each register takes two bytes, the upper one first. */
static void address(struct drive *drive, u64 sector, u32 count, bool extended)
{
    write(drive, DEVICE, drive->select | (extended ? 0 : sector >> 24 & 15));
    if (extended) {
        write(drive, COUNT, count >> 8);
        write(drive, LOW, sector >> 24);
        write(drive, MIDDLE, sector >> 32);
        write(drive, HIGH, sector >> 40);
    }
    write(drive, COUNT, count); /* 256 is 0 */
    write(drive, LOW, sector);
    write(drive, MIDDLE, sector >> 8);
    write(drive, HIGH, sector >> 16);
}

/* Between the pages of the request and the disk's buffer: the next block, or what is left. */
static void move_block(struct drive *drive)
{
    struct request *request = drive->request;
    u32 end = MIN(drive->moved + drive->block, request->sectors);

    while (drive->moved < end) {
        u8 *page = page_virt(request->pages[drive->moved / PAGE_SECTORS]);
        u32 within = drive->moved % PAGE_SECTORS, sectors = MIN(end - drive->moved, PAGE_SECTORS - within);

        if (request->operation == BLOCK_READ)
            in16_many(drive->channel->base + DATA, page + within * SECTOR_SIZE, sectors * SECTOR_WORDS);
        else
            out16_many(drive->channel->base + DATA, page + within * SECTOR_SIZE, sectors * SECTOR_WORDS);
        drive->moved += sectors;
    }
}

/* Until it is no longer busy; its status then, or -1 if that does not happen. */
static int poll(struct drive *drive)
{
    u64 end = pv.now() + PATIENCE;
    u8 status;

    while ((status = read(drive, STATUS)) & STATUS_BUSY)
        if (pv.now() > end)
            return -1;
    return status;
}

static bool start(struct disk *disk, struct request *request)
{
    struct drive *drive = disk->driver_data;
    bool extended = drive->extended && request->sector + request->sectors > LBA28_END;
    int status;

    if (drive->channel->busy)
        return false;
    drive->channel->busy = drive;
    drive->request = request;
    drive->moved = 0;
    if (request->operation == BLOCK_FLUSH) {
        write(drive, DEVICE, drive->select);
        write(drive, COMMAND, FLUSH_CACHE);
        return true;
    }
    address(drive, request->sector, request->sectors, extended);
    if (request->operation == BLOCK_READ) {
        write(drive, COMMAND, extended ? READ_MULTIPLE_EXT : READ_MULTIPLE);
        return true;
    }
    write(drive, COMMAND, extended ? WRITE_MULTIPLE_EXT : WRITE_MULTIPLE);
    status = poll(drive);
    if (status >= 0 && status & STATUS_DATA) /* it asks for the first block without an interrupt */
        move_block(drive);
    return true;
}

static void done(struct channel *channel, int error)
{
    struct request *request = channel->busy->request;

    channel->busy = NULL;
    wake_up(channel);
    request_done(request, error);
}

static void interrupt(struct channel *channel)
{
    struct drive *drive = channel->busy;
    u8 status = in8(channel->base + STATUS); /* and it takes the interrupt back */

    if (!drive || status & STATUS_BUSY)
        return;
    if (status & (STATUS_ERROR | STATUS_BROKEN)) {
        done(channel, -EIO);
        return;
    }
    if (status & STATUS_DATA) {
        move_block(drive);
        if (drive->request->operation == BLOCK_WRITE || drive->moved < drive->request->sectors)
            return;
    }
    done(channel, 0);
}

static void first_interrupt(void) { interrupt(&channels[0]); }
static void second_interrupt(void) { interrupt(&channels[1]); }

/* -- what it is like ---------------------------------------------------------------------------------------------- */

/* A command whose answer we wait for here: what it says of itself takes no time. */
static int ask(struct drive *drive, u8 command, u8 count)
{
    int status;

    write(drive, DEVICE, drive->select);
    write(drive, COUNT, count);
    write(drive, COMMAND, command);
    status = poll(drive);
    if (status < 0)
        return -EIO;
    return !status || status & STATUS_ERROR ? -ENODEV : status;
}

static int identify(struct drive *drive, u16 *words)
{
    int status = ask(drive, IDENTIFY, 0);

    if (status < 0)
        return status;
    if (!(status & STATUS_DATA))
        return -ENODEV;
    in16_many(drive->channel->base + DATA, words, SECTOR_WORDS);
    drive->extended = words[83] & 1 << 10;
    drive->disk.sectors = words[60] | (u64)words[61] << 16;
    if (drive->extended)
        drive->disk.sectors = words[100] | (u64)words[101] << 16 | (u64)words[102] << 32 | (u64)words[103] << 48;
    drive->block = words[47] & 0xff; /* the most it can */
    if (!drive->block)
        return -ENODEV; /* too old: it has no commands for several sectors */
    status = ask(drive, SET_MULTIPLE, (u8)drive->block);
    return status < 0 ? status : 0;
}

static int connect(struct disk *disk)
{
    struct drive *drive = disk->driver_data;
    u16 *words = kmalloc(SECTOR_SIZE);
    int error;

    if (!words)
        return -ENOMEM;
    while (drive->channel->busy) /* the other disk of the channel */
        wait_on(drive->channel);
    out8(drive->channel->control, CONTROL_NO_INTERRUPTS);
    error = identify(drive, words);
    out8(drive->channel->control, 0);
    kfree(words);
    disk->pages_most = REQUEST_PAGES; /* 256 sectors, which is what a command takes */
    return error;
}

static const struct disk_driver driver = { .connect = connect, .start = start };

/* Is there anybody? Who is not there leaves the bus alone, or lets the other one answer zero for him. */
void ide_init(void)
{
    irq_attach(channels[0].line, first_interrupt);
    irq_attach(channels[1].line, second_interrupt);
    for (unsigned i = 0; i < ARRAY_SIZE(drives); i++) {
        struct drive *drive = &drives[i];
        u8 status;

        drive->channel = &channels[i / 2];
        drive->select = DEVICE_LBA | (i % 2 ? DEVICE_SLAVE : 0);
        write(drive, DEVICE, drive->select);
        status = read(drive, STATUS);
        if (!status || status == STATUS_NOBODY)
            continue;
        format(drive->disk.name, sizeof(drive->disk.name), "hd%c", 'a' + i);
        drive->disk.driver = &driver;
        drive->disk.driver_data = drive;
        disk_register(&drive->disk);
    }
}
