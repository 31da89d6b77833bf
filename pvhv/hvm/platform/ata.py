# SPDX-License-Identifier: GPL-2.0-or-later
"""An ATA disk: its registers, its commands, and the data that goes through its data register.

A command with data transfers it in blocks: one sector, or as many as SET MULTIPLE says. The disk sets DRQ when a block
can be transferred, and asks for an interrupt: for a read at each block, for a write at each but the first, and at the
end. Between blocks it is busy (BSY) only while the image is read or written, which is done for up to `CHUNK` sectors at
once. What was written is in the image when the command is over; FLUSH CACHE makes it durable.

A wrong command (unknown, beyond the end of the disk) is aborted: ERR in the status, ABRT in the error register. So is
one that the host failed to carry out.

What is counted and traced as a request (asked.py) is a command that reads, writes or flushes, from its code until the
disk has no more to do for it: for a read until the guest has taken the last word, for the others until the last
interrupt.

Not modelled: DMA (IDENTIFY says so; Linux then uses PIO), ATAPI, SMART, security, power states (the commands succeed).

Read beside it: ide.py, which has the ports; ATA/ATAPI-6, 8 and 9.5 to 9.7; QEMU's hw/ide/core.c.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Final

from pvhv.abi.io.blkif import (
    BLKIF_OP_FLUSH_DISKCACHE,
    BLKIF_OP_READ,
    BLKIF_OP_WRITE,
    BLKIF_RSP_ERROR,
    BLKIF_RSP_OKAY,
)
from pvhv.hvm.names import IDE
from pvhv.hvm.platform import ata_identify
from pvhv.hvm.platform.asked import Asked, Requests
from pvhv.hvm.platform.storage import Backing, Lane
from pvhv.images.image import SECTOR_SIZE

BSY, DRDY, DF, DSC, DRQ, ERR = 0x80, 0x40, 0x20, 0x10, 0x08, 0x01
READY: Final = DRDY | DSC
ABRT = 0x04
DIAGNOSTIC_PASSED = 0x01
SLAVE, LBA, OBSOLETE = 0x10, 0x40, 0xA0  # bits of the device register
CHUNK = 256  # sectors
BLOCK_COMMANDS: Final = frozenset({0x29, 0x39, 0xC4, 0xC5})  # ... MULTIPLE
EXTENDED: Final = frozenset({0x24, 0x27, 0x29, 0x34, 0x39, 0x42, 0xEA})  # with addresses of 48 bits
ACTIVE = 0xFF  # the answer to CHECK POWER MODE


class Drive:
    """One disk. `interrupt` is called when it wants one."""

    def __init__(self, backing: Backing, number: int, interrupt: Callable[[], None]) -> None:
        """`number` counts the machine's IDE disks from 0: hda, hdb ..."""
        self.image = backing.image
        self.number = number
        self.interrupt = interrupt
        self.lane = Lane(backing.beside)
        self.requests = Requests(IDE)
        self.heads, self.track = ata_identify.HEADS, ata_identify.SECTORS_PER_TRACK
        self.multiple = ata_identify.MOST_MULTIPLE
        self.write_cache = True
        self.commands = self.moved = 0  # commands begun, and bytes moved through the data register, so far
        self.features = 0
        # Sector count and address, each as written last and, for addresses of 48 bits, as written before that.
        self.count, self.low, self.mid, self.high = ([0, 0] for _ in range(4))
        self.device = OBSOLETE
        self.reset()

    # -- resets ------------------------------------------------------------------------------------------------------
    def hold_reset(self) -> None:
        """A software reset begins: whatever was under way is forgotten."""
        self._stop()
        self.status = BSY

    def reset(self) -> None:
        """A reset ends: the registers say that this is an ATA disk."""
        self._stop()
        self.status, self.error = READY, DIAGNOSTIC_PASSED
        self.count[0] = self.low[0] = 1
        self.mid[0] = self.high[0] = 0
        self.device = OBSOLETE

    def _stop(self) -> None:
        self.lane.forget()
        self._data = memoryview(bytearray())  # of the chunk being transferred
        self._at = self._block_end = 0
        self._writing = False
        self._sector = self._left = 0  # of the command: what comes after this chunk
        self._block = SECTOR_SIZE
        self._asked: Asked | None = None  # the request that the command is

    # -- requests, for who looks on ----------------------------------------------------------------------------------
    def _asks(self, operation: int, sector: int = 0, sectors: int = 0, possible: bool = True) -> None:
        self._asked = Asked(operation, sector, sectors, -(-sectors * SECTOR_SIZE // self._block), self.commands)
        self.requests.begin(self._asked, possible)

    def _answered(self, status: int) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            self.requests.end(asked, status)

    # -- commands ----------------------------------------------------------------------------------------------------
    def command(self, code: int) -> None:
        """Carry out a command, or begin to."""
        self.status, self.error = READY, 0
        self.commands += 1
        COMMANDS.get(code, Drive._abort)(self, code)

    def _abort(self, code: int = 0) -> None:
        self._answered(BLKIF_RSP_ERROR)
        self._stop()
        self.status, self.error = READY | ERR, ABRT
        self.interrupt()

    def _succeed(self, code: int = 0) -> None:
        self._answered(BLKIF_RSP_OKAY)
        self.status = READY
        self.interrupt()

    def _range(self, code: int) -> tuple[int, int]:
        """(sector, count) of a command; they need not be on the disk."""
        count, low, mid, high = self.count, self.low, self.mid, self.high
        if code in EXTENDED:
            sectors = (count[1] << 8 | count[0]) or 1 << 16
            sector = high[1] << 40 | mid[1] << 32 | low[1] << 24 | high[0] << 16 | mid[0] << 8 | low[0]
        else:
            sectors = count[0] or 256
            top = self.device & 15
            if self.device & LBA:
                sector = top << 24 | high[0] << 16 | mid[0] << 8 | low[0]
            else:
                sector = ((high[0] << 8 | mid[0]) * self.heads + top) * self.track + low[0] - 1
        return sector, sectors

    def _holds(self, sector: int, sectors: int) -> bool:
        return 0 <= sector and sector + sectors <= self.image.sectors

    def _transfer(self, code: int, writing: bool) -> None:
        """Begin a command with data."""
        sector, sectors = self._range(code)
        possible = self._holds(sector, sectors) and (code not in BLOCK_COMMANDS or self.multiple > 0)
        self._block = (self.multiple if code in BLOCK_COMMANDS and self.multiple else 1) * SECTOR_SIZE
        self._asks(BLKIF_OP_WRITE if writing else BLKIF_OP_READ, sector, sectors, possible)
        if not possible:
            self._abort()
            return
        self._sector, self._left = sector, sectors
        self._writing = writing
        if writing:
            self._gather()
        else:
            self._fetch()

    def _read(self, code: int) -> None:
        self._transfer(code, False)

    def _write(self, code: int) -> None:
        self._transfer(code, True)

    def _fetch(self) -> None:
        """Read the next chunk from the image."""
        sector, count = self._next_chunk()
        self.status = BSY
        self.lane.do(partial(self.image.read, sector, count), self._fetched)

    def _fetched(self, data: bytes | None) -> None:
        if data is None:
            self._abort()
        else:
            self._offer(data)

    def _offer(self, data: bytes) -> None:
        self._data, self._at = memoryview(bytearray(data)), 0
        self._show_block()
        self.interrupt()

    def _next_chunk(self) -> tuple[int, int]:
        sector, count = self._sector, min(self._left, CHUNK)
        self._sector, self._left = sector + count, self._left - count
        return sector, count

    def _show_block(self) -> None:
        self._block_end = min(self._at + self._block, len(self._data))
        self.status = READY | DRQ

    def _gather(self) -> None:
        """Ask for the bytes of the next chunk to be written."""
        self._data, self._at = memoryview(bytearray(min(self._left, CHUNK) * SECTOR_SIZE)), 0
        self._show_block()

    def _put(self) -> None:
        """Write a chunk that is complete to the image."""
        sector, _ = self._next_chunk()
        data = bytes(self._data)
        self.status = BSY

        def work() -> bytes:
            self.image.write(sector, data)
            return b""

        self.lane.do(work, self._was_put)

    def _was_put(self, done: bytes | None) -> None:
        if done is None:
            self._abort()
            return
        if self._left:
            self._gather()
        else:
            self.status = READY
            self._answered(BLKIF_RSP_OKAY)
        self.interrupt()

    # -- the data register -------------------------------------------------------------------------------------------
    def take(self, size: int) -> bytes:
        """Bytes that the guest reads; zeros where there is nothing to read."""
        taken = bytearray()
        while len(taken) < size and self.status & DRQ and not self._writing:
            step = min(size - len(taken), self._block_end - self._at)
            taken += self._data[self._at : self._at + step]
            self._at, self.moved = self._at + step, self.moved + step
            if self._at == self._block_end:
                self._block_read()
        return bytes(taken.ljust(size, b"\0"))

    def _block_read(self) -> None:
        if self._at < len(self._data):
            self._show_block()
            self.interrupt()
        elif self._left:
            self._fetch()
        else:
            self.status = READY
            self._answered(BLKIF_RSP_OKAY)

    def give(self, data: bytes) -> None:
        """Bytes that the guest writes; lost where nothing is to be written."""
        done = 0
        while done < len(data) and self.status & DRQ and self._writing:
            step = min(len(data) - done, self._block_end - self._at)
            self._data[self._at : self._at + step] = data[done : done + step]
            self._at, done, self.moved = self._at + step, done + step, self.moved + step
            if self._at < self._block_end:
                continue
            if self._at < len(self._data):
                self._show_block()
                self.interrupt()
            else:
                self._put()

    # -- the other commands ------------------------------------------------------------------------------------------
    def _identify(self, code: int) -> None:
        self._writing, self._left, self._block = False, 0, SECTOR_SIZE
        geometry = self.heads, self.track
        self._offer(
            ata_identify.identify(self.image.sectors, self.number, geometry, self.multiple, self.write_cache)
        )

    def _flush(self, code: int) -> None:
        self._asks(BLKIF_OP_FLUSH_DISKCACHE)
        self.status = BSY

        def work() -> bytes:
            self.image.flush()
            return b""

        self.lane.do(work, lambda done: self._abort() if done is None else self._succeed())

    def _verify(self, code: int) -> None:
        (self._succeed if self._holds(*self._range(code)) else self._abort)()

    def _set_geometry(self, code: int) -> None:
        if not self.count[0]:
            self._abort()
            return
        self.heads, self.track = (self.device & 15) + 1, self.count[0]
        self._succeed()

    def _set_multiple(self, code: int) -> None:
        count = self.count[0]
        if count > ata_identify.MOST_MULTIPLE or count & count - 1:
            self._abort()
            return
        self.multiple = count
        self._succeed()

    SETTINGS: ClassVar = {0x02: True, 0x82: False}  # write cache on, off
    IGNORED_SETTINGS: ClassVar = frozenset({0x55, 0x66, 0xAA, 0xCC})  # look-ahead, defaults after a reset
    SET_TRANSFER_MODE: ClassVar = 0x03
    PIO_MODES: ClassVar = frozenset({0x00, 0x01, *range(0x08, 0x0D)})  # the default, without IORDY, 0 to 4

    def _set_features(self, code: int) -> None:
        feature = self.features
        if feature in self.SETTINGS:
            self.write_cache = self.SETTINGS[feature]
        elif feature == self.SET_TRANSFER_MODE:
            if self.count[0] not in self.PIO_MODES:
                self._abort()
                return
        elif feature not in self.IGNORED_SETTINGS:
            self._abort()
            return
        self._succeed()

    def _native_max(self, code: int) -> None:
        last = self.image.sectors - 1
        if code not in EXTENDED:
            last = min(last, ata_identify.MOST_LBA28)
            self.device = self.device & ~15 | last >> 24 & 15
        else:
            self.low[1], self.mid[1], self.high[1] = last >> 24 & 0xFF, last >> 32 & 0xFF, last >> 40 & 0xFF
        self.low[0], self.mid[0], self.high[0] = last & 0xFF, last >> 8 & 0xFF, last >> 16 & 0xFF
        self._succeed()

    def _check_power(self, code: int) -> None:
        self.count[0] = ACTIVE
        self._succeed()


COMMANDS: Final[dict[int, Callable[[Drive, int], None]]] = {
    0x20: Drive._read, 0x21: Drive._read, 0x24: Drive._read,  # READ SECTORS (twice: with retries, without), EXT
    0x30: Drive._write, 0x31: Drive._write, 0x34: Drive._write,  # WRITE SECTORS
    0xC4: Drive._read, 0x29: Drive._read,  # READ MULTIPLE, EXT
    0xC5: Drive._write, 0x39: Drive._write,  # WRITE MULTIPLE
    0x40: Drive._verify, 0x41: Drive._verify, 0x42: Drive._verify,  # READ VERIFY SECTORS
    0xC6: Drive._set_multiple,
    0xE7: Drive._flush, 0xEA: Drive._flush,  # FLUSH CACHE, EXT
    0xEC: Drive._identify,
    0xEF: Drive._set_features,
    0x91: Drive._set_geometry,  # INITIALIZE DEVICE PARAMETERS
    0x10: Drive._succeed, 0x70: Drive._succeed,  # RECALIBRATE, SEEK
    0xF8: Drive._native_max, 0x27: Drive._native_max,  # READ NATIVE MAX ADDRESS, EXT
    0xE5: Drive._check_power,
    **dict.fromkeys((0xE0, 0xE1, 0xE2, 0xE3, 0xE6), Drive._succeed),  # STANDBY, IDLE, SLEEP
}  # fmt: skip
