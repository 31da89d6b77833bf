# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtqueue: three tables in the guest's memory, by which a driver hands buffers to a device and gets them back.

    descriptors   address, length, flags, next        a request is a chain of them: first what the device reads
    available     flags, index, ring of heads         the driver puts the heads of chains here
    used          flags, index, ring of (head, length)    the device puts them here when it is done

    +0 descriptors, 16 bytes each | available: 4 + 2 each + 2 | (next page) used: 4 + 8 each + 2

A chain may go on in a table of its own (an indirect descriptor). `take` copies a chain out, once, and checks it;
everything in these tables is the guest's and may be a lie. As in QEMU, an index that is too far ahead, a head or a next
that is no descriptor, a chain that is longer than the table, an empty buffer, one that the device is to read behind one
that it is to write, or a buffer that is not memory breaks the queue: nothing is taken from it until the guest resets
the device.

Not modelled: the layout of version 1.0 with three addresses; event indices (the flags in `available` and `used` say
whether somebody wants to be told).

Read beside it: Virtual I/O Device (VIRTIO) 1.1, 2.6; virtqueue_split_pop in QEMU's hw/virtio/virtio.c.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from pvhv.hvm.platform.storage import Memory
from pvhv.machine.ram import PAGE_SIZE

F_NEXT, F_WRITE, F_INDIRECT = 1, 2, 4  # flags of a descriptor
AVAIL_NO_INTERRUPT = 1
DESCRIPTOR: Final = struct.Struct("<QIHH")
USED_ELEMENT: Final = struct.Struct("<II")
INDEX: Final = struct.Struct("<H")
MOST_IN_CHAIN = 1024  # QEMU's VIRTQUEUE_MAX_SIZE
MASK16 = 0xFFFF


class Broken(Exception):
    """What the guest put into the queue cannot be. The text says what."""


class Buffer(NamedTuple):
    """Some of the guest's memory."""

    address: int
    size: int


class Chain(NamedTuple):
    """A request: its head, what the device may read, what it may write."""

    head: int
    readable: tuple[Buffer, ...]
    writable: tuple[Buffer, ...]


class Virtqueue:
    """One queue of `size` descriptors. It is in use while `page` is not 0."""

    def __init__(self, memory: Memory, size: int) -> None:
        self.memory = memory
        self.size = size
        self.reset()

    def reset(self) -> None:
        """Forget where it is and how far it came."""
        self.page = 0
        self._taken = self._used = 0

    def place(self, page: int) -> None:
        """The guest says at which page it begins; 0 for nowhere."""
        self.reset()
        self.page = page
        size = self.size
        self.descriptors = page * PAGE_SIZE
        self.available = self.descriptors + DESCRIPTOR.size * size
        self.used = -(-(self.available + 6 + 2 * size) // PAGE_SIZE) * PAGE_SIZE
        self._end = self.used + 6 + USED_ELEMENT.size * size

    def _word(self, address: int) -> int:
        return int.from_bytes(self.memory.read(address, 2), "little")

    # -- what the driver hands over ----------------------------------------------------------------------------------
    def take(self) -> Chain | None:
        """The next chain; None if there is none. Raises Broken."""
        if not self.page:
            return None
        if not self.memory.holds(self.descriptors, self._end - self.descriptors):
            raise Broken(f"a queue at {self.descriptors:#x}, where there is no memory for it")
        ahead = self._word(self.available + 2) - self._taken & MASK16
        if not ahead:
            return None
        if ahead > self.size:
            raise Broken(f"{ahead} chains available in a queue of {self.size}")
        head = self._word(self.available + 4 + 2 * (self._taken % self.size))
        if head >= self.size:
            raise Broken(f"descriptor {head} available in a queue of {self.size}")
        self._taken = self._taken + 1 & MASK16
        return self._chain(head)

    def _chain(self, head: int) -> Chain:
        readable: list[Buffer] = []
        writable: list[Buffer] = []
        table, size, index, seen = self.descriptors, self.size, head, 0
        indirect = False
        while True:
            address, length, flags, following = DESCRIPTOR.unpack(
                self.memory.read(table + DESCRIPTOR.size * index, DESCRIPTOR.size)
            )
            if flags & F_INDIRECT:
                if indirect or flags & F_NEXT or not length or length % DESCRIPTOR.size:
                    raise Broken(f"an indirect table of {length} bytes")
                size = min(length // DESCRIPTOR.size, MOST_IN_CHAIN)
                if not self.memory.holds(address, size * DESCRIPTOR.size):
                    raise Broken(f"an indirect table at {address:#x}")
                table, index, seen, indirect = address, 0, 0, True
                continue
            if not length or not self.memory.holds(address, length):
                raise Broken(f"a buffer of {length} bytes at {address:#x}")
            if flags & F_WRITE:
                writable.append(Buffer(address, length))
            elif writable:
                raise Broken("a buffer to be read behind one to be written")
            else:
                readable.append(Buffer(address, length))
            seen += 1
            if not flags & F_NEXT:
                return Chain(head, tuple(readable), tuple(writable))
            if following >= size or seen >= size:
                raise Broken(f"a chain of more than {seen} descriptors, going on at {following}")
            index = following

    # -- what it gets back -------------------------------------------------------------------------------------------
    def give_back(self, head: int, written: int) -> bool:
        """Give a chain back, of which `written` bytes were written. True if the driver wants an interrupt."""
        at = self.used + 4 + USED_ELEMENT.size * (self._used % self.size)
        self.memory.write(at, USED_ELEMENT.pack(head, written))
        self._used = self._used + 1 & MASK16
        self.memory.write(self.used + 2, INDEX.pack(self._used))
        return not self._word(self.available) & AVAIL_NO_INTERRUPT
