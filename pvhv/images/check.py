# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a qcow2 image is right: each refcount is counted anew, from all tables, and compared with the stored one.

Findings are counted as QEMU counts them. A *leak* is a refcount that is too high: room is lost, nothing else. A
*corruption* is anything that can lose data: a refcount that is too low, an entry that names what cannot be, a flag
"copied" where there are two owners, or none where there is one.

`repair` sets refcounts right (LEAKS: only those that are too high), then the flags. If the refcount blocks themselves
are damaged, all of them are made anew behind the end of the file. Entries that name what cannot be stay as they are:
which data was meant, nobody can know.

The memory that this takes grows with what the tables name, not with how long the file says it is.

Not modelled: images with persistent bitmaps (they are refused).

Read beside it: qcow2_check_refcounts in QEMU's block/qcow2-refcount.c.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pvhv.images.file import File
from pvhv.images.image import BadImage
from pvhv.images.qcow2 import snapshots
from pvhv.images.qcow2.compressed import Packed
from pvhv.images.qcow2.header import (
    CORRUPT,
    DIRTY,
    ENTRY_SIZE,
    INCOMPATIBLE_AT,
    MAX_REFTABLE_SIZE,
    REFTABLE_AT,
    Header,
    Place,
)
from pvhv.images.qcow2.mapping import COMPRESSED, COPIED, OFFSET, ZERO
from pvhv.images.qcow2.refcounts import OFFSET_MASK, TYPECODES, decode, encode
from pvhv.images.qcow2.tables import as_bytes, numbers

LEAKS, ALL = "leaks", "all"  # what is repaired
L1_RESERVED, L2_RESERVED = 0x7F000000000001FF, 0x3F000000000001FE
MOST_MESSAGES = 100  # that are kept of one check
CHUNK_BITS = 12  # clusters that are counted together, as a power of two


class Tally:
    """How many times each cluster is used. What is used nowhere takes no memory."""

    def __init__(self) -> None:
        self.chunks: dict[int, array[int]] = {}

    def up(self, cluster: int, most: int) -> bool:
        """Count a cluster once more; False if it has been counted `most` times."""
        chunk = self.chunks.get(cluster >> CHUNK_BITS)
        if chunk is None:
            chunk = self.chunks[cluster >> CHUNK_BITS] = array("Q", bytes(8 << CHUNK_BITS))
        at = cluster & ((1 << CHUNK_BITS) - 1)
        if chunk[at] >= most:
            return False
        chunk[at] += 1
        return True

    def get(self, cluster: int) -> int:
        chunk = self.chunks.get(cluster >> CHUNK_BITS)
        return 0 if chunk is None else chunk[cluster & ((1 << CHUNK_BITS) - 1)]

    def used(self) -> Iterator[int]:
        """All clusters that are used, in order."""
        for number in sorted(self.chunks):
            base = number << CHUNK_BITS
            yield from (base + at for at, count in enumerate(self.chunks[number]) if count)


@dataclass
class Findings:
    """What a check found."""

    corruptions: int = 0
    leaks: int = 0
    errors: int = 0  # what could not be checked
    corruptions_fixed: int = 0
    leaks_fixed: int = 0
    allocated: int = 0  # clusters of the disk
    compressed: int = 0
    total: int = 0
    end: int = 0  # where in the file the last cluster ends that is used
    messages: list[str] = field(default_factory=list)
    rebuild: bool = False  # the refcount blocks themselves are damaged

    def tell(self, message: str) -> None:
        if len(self.messages) < MOST_MESSAGES:
            self.messages.append(message)
        elif len(self.messages) == MOST_MESSAGES:
            self.messages.append("... (more is counted, and not listed)")

    def corrupt(self, message: str) -> None:
        self.corruptions += 1
        self.tell(f"ERROR {message}")

    @property
    def is_clean(self) -> bool:
        return not (self.corruptions or self.leaks or self.errors)

    @property
    def status(self) -> int:
        """The exit status, as qemu-img has it."""
        return 1 if self.errors else 2 if self.corruptions else 3 if self.leaks else 0


class Check:
    """One look at an image."""

    def __init__(self, file: File, header: Header) -> None:
        """Raises BadImage, OSError."""
        if header.has_bitmaps:
            raise BadImage("it has persistent bitmaps, which are not checked here", "qemu-img check does")
        self.file, self.header = file, header
        self._bits, self._size = header.cluster_bits, header.cluster_size
        self._most = (1 << (1 << header.refcount_order)) - 1
        self._block_bits = header.cluster_bits + 3 - header.refcount_order
        self._end = file.measure()
        self.found = Findings(total=-(-header.size >> header.cluster_bits))
        self.table = numbers(file.read(*header.refcount_table))
        self.tally = Tally()
        self._block: tuple[int, array[int]] = (-1, array("Q"))

    def look(self) -> Findings:
        """Check everything. Raises BadImage, OSError."""
        self.count_data()
        self._count_refcounts()
        self._compare(None)
        self._check_copied(False)
        last = max(self.tally.used(), default=-1)
        self.found.end = (last + 1) << self._bits
        return self.found

    # -- counting --------------------------------------------------------------------------------------------
    def _use(self, offset: int, length: int) -> None:
        """Something is in these bytes of the file."""
        if length <= 0:
            return
        if offset + length - self._end >= self._size:
            self.found.corrupt(f"offset {offset:#x}, of {length} bytes, lies beyond the end of the file")
            return
        for cluster in range(offset >> self._bits, ((offset + length - 1) >> self._bits) + 1):
            if not self.tally.up(cluster, self._most):
                self.found.corrupt(f"cluster {cluster} is used more often than its refcount can say")

    def count_data(self) -> None:
        """Count everything but the refcounts' own clusters. Raises BadImage, OSError."""
        header = self.header
        kept, place = snapshots.read(self.file, header)
        self._use(0, self._size)
        self._count_l1(header.l1, True)
        for snapshot in kept:
            self._count_l1(snapshot.l1, False)
        self._use(*place)

    def _count_l1(self, place: Place, active: bool) -> None:
        self._use(*place)
        try:
            l1 = numbers(self.file.read(*place))
        except OSError:
            self.found.errors += 1
            self.found.tell("ERROR an L1 table cannot be read")
            return
        for entry in l1:
            if not entry:
                continue
            if entry & L1_RESERVED:
                self.found.corrupt(f"an L1 entry has reserved bits set ({entry:#x})")
            table = entry & OFFSET
            self._use(table, self._size)
            if table & (self._size - 1):
                self.found.corrupt(f"an L2 table does not begin at a cluster ({table:#x})")
                continue
            self._count_l2(table, active)

    def _l2(self, table: int) -> array[int]:
        return numbers(self.file.read_some(table, self._size).ljust(self._size, b"\0"))

    def _count_l2(self, table: int, active: bool) -> None:
        try:
            entries = self._l2(table)
        except OSError:
            self.found.errors += 1
            self.found.tell(f"ERROR the L2 table at {table:#x} cannot be read")
            return
        for entry in filter(None, entries):
            if entry & COMPRESSED:
                if entry & COPIED:
                    self.found.corrupt(f"the flag 'copied' is set for a compressed cluster ({entry:#x})")
                self._use(*Packed.of(entry & ~COPIED, self._bits))
                self.found.compressed += active
                self.found.allocated += active
                continue
            if entry & L2_RESERVED:
                self.found.corrupt(f"an L2 entry has reserved bits set ({entry:#x})")
            host = entry & OFFSET
            if not host:
                continue
            if host & (self._size - 1):
                self.found.corrupt(f"a cluster does not begin at a cluster ({entry:#x})")
                if entry & ZERO:
                    continue
            self.found.allocated += active
            self._use(host, self._size)

    def _count_refcounts(self) -> None:
        """Count the refcount table and its blocks."""
        self._use(*self.header.refcount_table)
        for index, entry in enumerate(self.table):
            block = entry & OFFSET_MASK
            if not entry:
                continue
            if entry & ~OFFSET_MASK or block & (self._size - 1):
                self.found.corrupt(f"refcount block {index} does not begin at a cluster ({entry:#x})")
                self.found.rebuild = True
                continue
            if block >= self._end:
                self.found.corrupt(f"refcount block {index} lies beyond the end of the file")
                self.found.rebuild = True
                continue
            self._use(block, self._size)
            if (uses := self.tally.get(block >> self._bits)) != 1:
                self.found.corrupt(f"refcount block {index} is used {uses} times")
                self.found.rebuild = True

    # -- comparing -------------------------------------------------------------------------------------------
    def _stored(self, index: int) -> array[int] | None:
        """The refcounts in a block; None if there is none that can be read."""
        entry = self.table[index] if index < len(self.table) else 0
        block = entry & OFFSET_MASK
        if not block or block & (self._size - 1) or block >= self._end:
            return None
        if self._block[0] != index:
            raw = self.file.read_some(block, self._size).ljust(self._size, b"\0")
            self._block = index, decode(raw, self.header.refcount_order)
        return self._block[1]

    def stored(self, cluster: int) -> int:
        """The refcount that the image has for a cluster."""
        block = self._stored(cluster >> self._block_bits)
        return 0 if block is None else block[cluster & ((1 << self._block_bits) - 1)]

    def _compare(self, repair: str | None) -> None:
        """Compare each refcount; with `repair`, set those right that it says."""
        last = -(-self._end >> self._bits)
        per_block = 1 << self._block_bits
        blocks = {index for index, entry in enumerate(self.table) if entry and index << self._block_bits < last}
        blocks |= {cluster >> self._block_bits for cluster in self.tally.used()}
        for index in sorted(blocks):
            first = index << self._block_bits
            stored = self._stored(index)
            changed = False
            for cluster in self._differing(first, stored, min(per_block, last - first)):
                have = 0 if stored is None else stored[cluster - first]
                want = self.tally.get(cluster)
                changed |= self._judge(cluster, have, want, stored, repair)
            if changed and stored is not None:
                self.file.write(self.table[index] & OFFSET_MASK, encode(stored, self.header.refcount_order))

    def _differing(self, first: int, stored: array[int] | None, count: int) -> Iterator[int]:
        """The clusters of a block whose refcount is not what was counted."""
        for base in range(first, first + count, 1 << CHUNK_BITS):
            length = min(1 << CHUNK_BITS, first + count - base)
            chunk = self.tally.chunks.get(base >> CHUNK_BITS)
            at = base & ((1 << CHUNK_BITS) - 1)
            want = bytes(length * 8) if chunk is None else chunk[at : at + length].tobytes()
            have = array("Q", bytes(length * 8) if stored is None else stored[base - first : base - first + length])
            if have.tobytes() != want:
                yield from (base + n for n, each in enumerate(array("Q", want)) if each != have[n])

    def _judge(self, cluster: int, have: int, want: int, stored: array[int] | None, repair: str | None) -> bool:
        found = self.found
        mends = repair == ALL or (repair == LEAKS and have > want)
        if not have:
            found.rebuild |= stored is None
        if repair is None or not mends or stored is None:
            if have < want:
                found.corrupt(f"cluster {cluster} has refcount {have}, and is used {want} times")
            else:
                found.leaks += 1
                found.tell(f"LEAK  cluster {cluster} has refcount {have}, and is used {want} times")
            return False
        stored[cluster - (cluster >> self._block_bits << self._block_bits)] = want
        if have < want:
            found.corruptions_fixed += 1
        else:
            found.leaks_fixed += 1
        return True

    def _check_copied(self, repair: bool) -> None:
        """Check the flag "copied" of the present state's tables; with `repair`, set it right."""
        l1 = numbers(self.file.read(*self.header.l1))
        for index, entry in enumerate(l1):
            table = entry & OFFSET
            if not table or table & (self._size - 1):
                continue
            if self._is_wrong(entry, table, f"L1 entry {index}", repair):
                self.file.write(self.header.l1.offset + index * ENTRY_SIZE, struct.pack(">Q", entry ^ COPIED))
            entries = self._l2(table)
            changed = False
            for at, each in enumerate(entries):
                if each & OFFSET and not each & COMPRESSED and self._is_wrong(each, each & OFFSET, "data", repair):
                    entries[at] = each ^ COPIED
                    changed = True
            if changed and repair:
                self.file.write(table, as_bytes(entries))

    def _is_wrong(self, entry: int, offset: int, what: str, repair: bool) -> bool:
        count = self.stored(offset >> self._bits)
        if (count == 1) == bool(entry & COPIED):
            return False
        if repair:
            self.found.corruptions_fixed += 1
            return True
        self.found.corrupt(f"the flag 'copied' is wrong ({what} {entry:#x}, refcount {count})")
        return False

    # -- repairing -------------------------------------------------------------------------------------------
    def repair(self, what: str) -> Findings:
        """Set right what `look` found. Returns how much was. Raises BadImage, OSError."""
        self.found.corruptions_fixed = self.found.leaks_fixed = 0
        if what == ALL and self.found.rebuild:
            self.found.corruptions_fixed += self.found.corruptions
            self.found.leaks_fixed += self.found.leaks
            self._rebuild()
        else:
            self._compare(what)
        self.file.sync()
        if what == ALL:
            self._check_copied(True)
            self.file.sync()
        return self.found

    def _rebuild(self) -> None:
        """Write all refcounts anew, behind everything that is used, and have the header name them."""
        fresh = Check(self.file, self.header)
        fresh.count_data()
        used = list(fresh.tally.used())
        start = max(used[-1] + 1, -(-self._end >> self._bits))
        blocks, clusters = sorted({cluster >> self._block_bits for cluster in used}), 0
        while True:  # the new blocks and the new table are counted in new blocks too
            length = -(-(blocks[-1] + 1) * ENTRY_SIZE >> self._bits)
            needed = set(range(start >> self._block_bits, ((start + len(blocks) + length - 1) >> self._block_bits) + 1))
            if needed <= set(blocks) and length == clusters:
                break
            blocks, clusters = sorted({*blocks, *needed}), length
        if clusters << self._bits > MAX_REFTABLE_SIZE:
            raise BadImage("its refcounts cannot be made anew: they would be too many")
        for cluster in range(start, start + len(blocks) + clusters):
            fresh.tally.up(cluster, self._most)
        table = array("Q", bytes(clusters << self._bits))
        code = TYPECODES.get(self.header.refcount_order, "B")
        for number, index in enumerate(blocks):
            first = index << self._block_bits
            counts = array(code, (fresh.tally.get(first + n) for n in range(1 << self._block_bits)))
            self.file.write((start + number) << self._bits, encode(counts, self.header.refcount_order))
            table[index] = (start + number) << self._bits
        place = Place((start + len(blocks)) << self._bits, clusters << self._bits)
        self.file.write(place.offset, as_bytes(table))
        self.file.sync()
        self.file.write(REFTABLE_AT, struct.pack(">QI", place.offset, clusters))
        self.file.sync()
        self.header.refcount_table, self.table, self.tally = place, table, fresh.tally
        self._block, self._end = (-1, array("Q")), self.file.end


def check(file: File, header: Header, repair: str | None = None, tell: Callable[[str], None] | None = None) -> Findings:
    """Check an image, and repair it if asked to. What is returned is its state afterwards, with what was fixed. Raises
    BadImage, OSError."""
    first = Check(file, header)
    found = first.look()
    if repair is None:
        return found
    for message in found.messages if tell else ():
        assert tell is not None
        tell(message)
    if found.errors:
        return found
    fixed = first.repair(repair) if not found.is_clean else found
    again = Check(file, header).look()
    again.corruptions_fixed, again.leaks_fixed = fixed.corruptions_fixed, fixed.leaks_fixed
    if not again.corruptions and header.incompatible & (DIRTY | CORRUPT) and repair == ALL:
        header.incompatible &= ~(DIRTY | CORRUPT)
        file.write(INCOMPATIBLE_AT, struct.pack(">Q", header.incompatible))
        file.sync()
    return again


def repair_all(file: File, header: Header) -> None:
    """Repair an image that was not closed, as QEMU does when it opens one. Raises BadImage, OSError."""
    found = check(file, header, ALL)
    if found.status in (1, 2):
        raise BadImage("it was not closed, and is corrupt", "pvhv image check says more")
