# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the tables of an image are, so that a corrupt entry cannot make us write a guest's data over them.

The header, the L1 table, the refcount table and the snapshot table are ranges. Refcount blocks, L2 tables, and the L1
tables of snapshots are single clusters, of which there may be many: a sorted array.

Not modelled: L2 tables that only snapshots have (QEMU looks at those only if it is asked to).

Read beside it: qcow2_check_metadata_overlap in QEMU's block/qcow2-refcount.c.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable
from heapq import merge
from itertools import groupby, islice

from pvhv.images.shares import give_way, in_shares

MOST_SORTED, MOST_MERGED = 1024, 64  # at a stretch


class Regions:
    """Clusters that are taken by tables; all numbers are of clusters."""

    def __init__(self) -> None:
        self._ranges: dict[str, range] = {}
        self._single: array[int] = array("Q")

    def put(self, name: str, clusters: range) -> None:
        """A table is here now, wherever it was before."""
        self._ranges[name] = clusters

    def add(self, cluster: int) -> None:
        """One more cluster has a table."""
        insort(self._single, cluster)

    def remove(self, cluster: int) -> None:
        """A cluster has no table any more that is used."""
        at = bisect_left(self._single, cluster)
        if at < len(self._single) and self._single[at] == cluster:
            del self._single[at]

    def add_all(self, clusters: Iterable[int]) -> None:
        """The same for many, in any order."""
        left, pieces, single = iter(clusters), [iter(self._single)], array("Q")
        while piece := sorted(islice(left, MOST_SORTED)):
            pieces.append(iter(piece))
            give_way()
        for cluster, _same in in_shares(groupby(merge(*pieces)), MOST_MERGED):
            single.append(cluster)
        self._single = single

    def hit(self, first: int, count: int) -> str:
        """The name of what lies in these clusters; empty if no table does."""
        end = first + count
        at = bisect_left(self._single, first)
        if at < len(self._single) and self._single[at] < end:
            return "another table"
        for name, clusters in self._ranges.items():
            if first < clusters.stop and clusters.start < end:
                return name
        return ""
