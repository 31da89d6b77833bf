# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of a domain's disks: opened for one life of it, and who else has them.

A file has one thread, whichever domains it is a disk of: so the next life of a domain reads what the last one wrote,
be that still under way when it begins.

Two domains may share a file that both only read. Should one of them write, the other is refused, as Xen's script for
block devices does (check_sharing); but the script looks at every program of the host, and this at our domains. One that
has stopped and is kept to be looked at writes nothing any more.

Read beside it: tools/hotplug/Linux/block.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple
from weakref import WeakValueDictionary

from pvhv.devices.block.image import SECTOR_SIZE, Image
from pvhv.devices.block.names import number_of
from pvhv.toolstack.beside import Beside
from pvhv.toolstack.disk_spec import DiskConfig
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.names import shown
from pvhv.toolstack.plainfile import open_plain, open_to_change

_threads: WeakValueDictionary[tuple[int, int], Beside] = WeakValueDictionary()
_threads_lock = threading.Lock()


class OpenDisk(NamedTuple):
    """A disk that a domain can be given: its number, its image, and the thread that has the file."""

    number: int
    target: str
    image: Image
    thread: Beside

    def close(self) -> None:
        """Use it no longer, once all is done that was asked of it. Harmless when done already."""
        with suppress(RuntimeError):  # no thread can be had: then none has it now, and it goes with this
            self.thread.do(self.image.close)


def open_all(wanted: Iterable[DiskConfig]) -> list[OpenDisk]:
    """The disks of a domain. Any thread. Raises ToolstackError, and none is open then."""
    opened: list[OpenDisk] = []
    try:
        for disk in wanted:
            opened.append(_open(disk))
            require_unshared(opened[-1:], opened[:-1])
    except ToolstackError:
        for each in opened:
            each.close()
        raise
    return opened


def _open(disk: DiskConfig) -> OpenDisk:
    number = number_of(disk.vdev)
    assert number is not None
    try:
        image = Image((open_plain if disk.readonly else open_to_change)(disk.target))
    except OSError as error:
        raise ToolstackError(
            f"cannot open {disk.target}, the disk {disk.vdev}: {error.strerror}",
            "access=ro is a disk that is not written to" if error.errno in (errno.EACCES, errno.EROFS) else "",
        ) from None
    if not image.sectors:
        image.close()
        raise ToolstackError(
            f"{disk.target}, the disk {disk.vdev}, is shorter than a sector of {SECTOR_SIZE} bytes",
            f"truncate -s 64M {disk.target} makes it longer",
        )
    with _threads_lock:
        thread = _threads.get(image.identity) or Beside(at_once=1)
        _threads[image.identity] = thread
    return OpenDisk(number, disk.target, image, thread)


def require_unshared(mine: Sequence[OpenDisk], others: Sequence[OpenDisk], name: str = "") -> None:
    """Raises ToolstackError where one of the others is of the same file, and it is written to; `name` is whose they are
    if not the same domain's."""
    for disk in mine:
        for other in others:
            if disk.image.identity == other.image.identity and not (disk.image.readonly and other.image.readonly):
                whose = f"domain {shown(name)} already" if name else "this domain already"
                raise ToolstackError(
                    f"{disk.target} is a disk of {whose}, and one of the two would write to it",
                    "make a copy of it, or have both access=ro",
                )
