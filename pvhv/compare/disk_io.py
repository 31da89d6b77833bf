# SPDX-License-Identifier: GPL-2.0-or-later
"""The classic experiment: one disk, three device models, under every technique: what does an operation cost?

An emulated IDE disk, a virtio disk, and a split driver carry out the same reads and writes of the guest's program, of
the same image. Each column (a technique with a device model) is a boot on the virtual clock, which always does all
operations, in the same order: so a number does not depend on what is asked for. What is counted beside exits is what
the devices themselves say, and the grants that the backend maps.

The image is made anew for each boot: each sector begins with its number, and the guest checks what it reads.

Read beside it: guest_kernel/user/bin/measure.c; Russell, "virtio: towards a de-facto standard for virtual I/O devices"
(2008); Barham et al., "Xen and the art of virtualization" (2003), 3.4.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pvhv.compare.names import DISK_BENCHES, DISK_COLUMNS, DISK_IO, SPLIT
from pvhv.compare.records import Comparison, Counts, Step
from pvhv.compare.runner import Progress, session
from pvhv.compare.watcher import Watcher
from pvhv.core.grants.view import GrantView
from pvhv.devices.block.disk import Disk
from pvhv.hvm.names import IDE, VIRTIO
from pvhv.hvm.platform.bus import IOBus
from pvhv.images.image import SECTOR_SIZE
from pvhv.machine.wrapping import wrap
from pvhv.toolstack.full_guest import FullGuest
from pvhv.toolstack.guest import Guest

NAMES = {IDE: "hda", VIRTIO: "vda", SPLIT: "xvda"}
SIZE = 4 << 20  # of the image
Seen = tuple[dict[str, int | None], dict[str, dict[Any, int]], tuple[Step, ...]]  # scalars, families, steps


def run(
    columns: Sequence[str],
    benches: Sequence[str],
    *,
    progress: Progress | None = None,
    sequences: Sequence[str] = (),
) -> Comparison:
    """Each operation in each column. `sequences`: operations of which one is recorded step by step. Names are known
    ones (names.py)."""
    counts: list[Counts] = []
    steps: dict[tuple[str, str], tuple[Step, ...]] = {}
    for done, column in enumerate(columns):
        if progress is not None:
            progress(column, "all operations", done, len(columns))
        counted, explained = _boot(column, sequences)
        counts += (each for each in counted if each.bench in benches)
        steps |= {(column, bench): each for bench, each in zip(sequences, explained, strict=True)}
    return Comparison.of(counts, sequences=steps)


def _boot(column: str, sequences: Sequence[str]) -> tuple[list[Counts], list[tuple[Step, ...]]]:
    """All operations in one column, and then one operation of each of `sequences`, step by step."""
    technique, model = DISK_COLUMNS[column]
    with tempfile.TemporaryDirectory(prefix="pvhv-compare-") as place:
        image = Path(place, "image")
        sectors = range(SIZE // SECTOR_SIZE)
        image.write_bytes(b"".join(n.to_bytes(8, "little").ljust(SECTOR_SIZE, b"\0") for n in sectors))
        watcher, operations = session(
            technique,
            [*DISK_BENCHES, *(f"{bench} 1" for bench in sequences)],
            disks=[f"{image},raw,{NAMES[model]},rw"],
            watch=DiskWatcher,
        )
    assert isinstance(watcher, DiskWatcher)
    seen = list(zip(operations, watcher.seen, strict=True))
    counts = [
        Counts(column, bench, number, scalars, **families)
        for bench, (number, (scalars, families, _)) in zip(DISK_BENCHES, seen, strict=False)
    ]
    return counts, [steps for _, (_, _, steps) in seen[len(counts) :]]


class DiskWatcher(Watcher):
    """Counts what happens to the one disk of a guest, too."""

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest)
        self.seen: list[Seen] = []  # of one pair of marks after the other
        self._asked: Counter[str] = Counter()
        if isinstance(guest, FullGuest):
            self._watch_ports(guest)
        else:
            wrap(self._backend(), "grants", self._counting_grants)

    def _backend(self) -> Disk:
        """The split driver's other half."""
        return next(backend.data for backend in self.guest.backends if isinstance(backend.data, Disk))

    # -- what is asked for -------------------------------------------------------------------------------------------
    def _counting_grants(self, grants: Any) -> Any:
        def counted(ref: int, readonly: bool) -> GrantView:
            view: GrantView = grants(ref, readonly)
            self._asked["grants_mapped"] += 1
            return view

        return counted

    def _watch_ports(self, guest: FullGuest) -> None:
        platform = guest.hvm.platform
        ports: set[int] = set()
        for channel in platform.ide:
            if any(channel.drives):
                ports |= {port for ports in channel.ports for port in ports}
        for disk in platform.virtio:
            base = disk.function.base(0)
            ports |= set(range(base, base + disk.function.bars[0][0]))

        def counting(access: Any) -> Any:
            def counted(port: int, *rest: Any) -> Any:
                if port in ports:
                    self._asked["port_accesses"] += 1
                return access(port, *rest)

            return counted

        for name in sorted(IOBus.WRAPPABLE):
            wrap(platform.bus, name, counting)

    def _so_far(self) -> Counter[str]:
        """All counts, from the devices' own."""
        seen = self._asked.copy()
        if isinstance(self.guest, FullGuest):
            platform = self.guest.hvm.platform
            for drive in (drive for channel in platform.ide for drive in channel.drives if drive is not None):
                seen["notifications"] += drive.commands
                seen["bytes_by_ports"] += drive.moved
            for disk in platform.virtio:
                seen["notifications"] += disk.notifications
                seen["bytes_by_device"] += disk.moved
        else:
            counts = self._backend().counts
            seen["bytes_by_device"] += (counts.rd_sect + counts.wr_sect) * SECTOR_SIZE
        return seen

    # -- between the marks -------------------------------------------------------------------------------------------
    def _now(self) -> tuple[int, int, dict[str, Any]]:
        user, executed, counts = super()._now()
        return user, executed, counts | {DISK_IO: self._so_far()}

    def _difference(self, before: tuple[int, int, dict[str, Any]], after: tuple[int, int, dict[str, Any]]) -> None:
        super()._difference(before, after)
        grown = {name: count - before[2][DISK_IO][name] for name, count in after[2][DISK_IO].items()}
        if not isinstance(self.guest, FullGuest):
            grown["notifications"] = self._paravirtual.sends
        names = ["notifications", "bytes_by_device"]
        names += ["port_accesses", "bytes_by_ports"] if isinstance(self.guest, FullGuest) else ["grants_mapped"]
        self.scalars |= {f"{DISK_IO}.{name}": grown.get(name, 0) for name in names}
        self.seen.append((self.scalars, self.families, tuple(self.steps)))
