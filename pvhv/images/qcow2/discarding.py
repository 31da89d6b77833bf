# SPDX-License-Identifier: GPL-2.0-or-later
"""What a qcow2 image has no use for any more: sectors that are discarded, and clusters that wait to be free.

A cluster that no table in memory names may still be named by one on the disk. So it is counted down, and its room given
back to the host, only after the next flush; until then it is among the dropped ones.

Not modelled: discarding a part of a cluster (nothing happens), telling the backing file.

Read beside it: discard_in_l2_slice in QEMU's block/qcow2-cluster.c, qcow2_process_discards in block/qcow2-refcount.c.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import suppress

from pvhv.images.file import File
from pvhv.images.qcow2.compressed import Packed
from pvhv.images.qcow2.header import LARGEST_OFFSET, Header
from pvhv.images.qcow2.mapping import COMPRESSED, OFFSET, ZERO, Mapping
from pvhv.images.qcow2.refcounts import CorruptImage, Refcounts
from pvhv.images.qcow2.regions import Regions
from pvhv.images.qcow2.tables import Slice
from pvhv.images.shares import give_way, in_shares

MOST_DROPPED = 4096  # runs of clusters that wait for a flush to be free


class Dropped:
    """Clusters of the file that are used once less, once no table on the disk names them."""

    def __init__(self, file: File, header: Header) -> None:
        self._file = file
        self._bits, self._size = header.cluster_bits, header.cluster_size
        self._runs: list[tuple[int, int]] = []  # the first cluster, and how many

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def is_full(self) -> bool:
        """Whether a flush is due before more is dropped."""
        return len(self._runs) >= MOST_DROPPED

    def add(self, first: int, count: int) -> None:
        """These clusters are dropped."""
        if self._runs and sum(self._runs[-1]) == first:
            first, count = self._runs[-1][0], self._runs.pop()[1] + count
        self._runs.append((first, count))

    def add_entries(self, entries: array[int]) -> None:
        """What these entries of an L2 table named is dropped."""
        if not entries:
            return
        first, count = entries[0], len(entries)
        if not first & COMPRESSED and 0 < first & OFFSET < LARGEST_OFFSET - (count << self._bits):
            if entries == array("Q", range(first, first + (count << self._bits), self._size)):
                self.add((first & OFFSET) >> self._bits, count)  # side by side, as most are
                return
        for entry in in_shares(entries):
            if entry & COMPRESSED:
                for cluster in Packed.of(entry, self._bits).clusters(self._bits):
                    self.add(cluster, 1)
            elif entry & OFFSET:
                self.add((entry & OFFSET) >> self._bits, 1)

    def free(self, refcounts: Refcounts, regions: Regions) -> None:
        """Count them all down, and give the host what is free now. Nothing on the disk names them any more. Raises
        OSError (also CorruptImage), and then those that are left stay counted."""
        runs, self._runs = self._runs, []
        for first, count in runs:
            self._free(first, count, refcounts, regions)

    def _free(self, first: int, count: int, refcounts: Refcounts, regions: Regions) -> None:
        if hit := regions.hit(first, count):
            raise CorruptImage(f"{hit} lies in a cluster that data was in")
        while count:
            run, is_free = refcounts.down_run(first, count)
            if is_free:
                with suppress(OSError):  # the clusters are free, whether or not the host gets their room
                    self._file.punch(first << self._bits, run << self._bits)
            else:
                give_way()
            first += run
            count -= run


def clear(
    mapping: Mapping,
    header: Header,
    is_over: bool,
    cluster: int,
    most: int,
    to_change: Callable[[int], tuple[Slice, int]],
) -> tuple[int, array[int]]:
    """Have clusters of the disk, whose entries stand in one slice, read as zeros; return how many they are, and the
    entries as they were, if any had to change. `is_over`: the image has a backing file. `to_change(cluster)` finds the
    entry of a cluster, to be changed. Raises OSError."""
    l2_bits = header.l2_bits
    if not is_over and not mapping.l1[cluster >> l2_bits] & OFFSET:
        return min(most, (1 << l2_bits) - (cluster & ((1 << l2_bits) - 1))), array("Q")
    found = mapping.find(cluster)
    at = cluster & ((1 << mapping.slice_bits) - 1)
    count = min(most, (1 << mapping.slice_bits) - at)
    nothing = ZERO if header.version >= 3 else 0
    if found is not None:
        there = found[0].entries[at : at + count]
        is_done = {nothing} if is_over else {0, nothing}
        if is_done.issuperset(there):
            return count, array("Q")
    part, at = to_change(cluster)
    old = part.entries[at : at + count]
    empty = nothing if is_over else 0  # an entry that named nothing names nothing
    if empty == nothing:
        new = array("Q", (nothing,)) * count
    else:
        new = array("Q", (nothing if each else empty for each in old))
    part.entries[at : at + count] = new
    mapping.cache.changed(part)
    give_way()
    return count, old
