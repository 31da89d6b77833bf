# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of the disks of domains: how they are opened, and which domains may share one.

A file is opened anew for each life of a domain. It has one thread, even if several domains have it. So after a reboot a
domain reads what it wrote before, even if the writing was still under way when its new life began.

Domains may share a file if all of them only read it. If one of them may write, the second domain is refused, as by
Xen's script for block devices (check_sharing). A domain that has stopped, and is kept to be examined, does not count.

Not modelled: the script also notices other programs of the host that use the file.

Read beside it: tools/hotplug/Linux/block.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple
from weakref import WeakValueDictionary

from pvhv.devices.block.names import number_of
from pvhv.images.image import SECTOR_SIZE, Image
from pvhv.images.raw import RawImage
from pvhv.toolstack.beside import Beside
from pvhv.toolstack.disk_spec import DiskConfig
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.names import shown
from pvhv.toolstack.plainfile import open_plain, open_to_change

_threads: WeakValueDictionary[tuple[int, int], Beside] = WeakValueDictionary()
_threads_lock = threading.Lock()


class OpenDisk(NamedTuple):
    """A disk, ready to be given to a domain: its number, its image, and the thread of its file."""

    number: int
    target: str
    image: Image
    thread: Beside

    def close(self) -> None:
        """Close the file after the work that its thread has been given. May be called again."""
        with suppress(RuntimeError):  # no thread is allowed, so none has the file: it is closed with this object
            self.thread.do(self.image.close)


def open_all(wanted: Iterable[DiskConfig]) -> list[OpenDisk]:
    """Open the disks of a domain. May be called on any thread. Raises ToolstackError, and then none is open."""
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
        image = RawImage((open_plain if disk.readonly else open_to_change)(disk.target))
    except OSError as error:
        raise ToolstackError(
            f"cannot open {disk.target}, the disk {disk.vdev}: {error.strerror}",
            "access=ro makes a disk read-only" if error.errno in (errno.EACCES, errno.EROFS) else "",
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
    """Check that none of `mine` shares a file with one of `others`, unless both are read-only. Raises ToolstackError.
    `name` is the domain that has the others, or empty if it is the same one."""
    for disk in mine:
        for other in others:
            if disk.image.identity == other.image.identity and not (disk.image.readonly and other.image.readonly):
                whose = f"domain {shown(name)} already" if name else "this domain already"
                raise ToolstackError(
                    f"{disk.target} is a disk of {whose}, and one of the two would write to it",
                    "make a copy of it, or have both access=ro",
                )
