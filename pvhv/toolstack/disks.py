# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of the disks of domains: how they are opened, and which domains may share one.

A file is opened anew for each life of a domain. It has one thread, even if several domains have it. So after a reboot a
domain reads what it wrote before, even if the writing was still under way when its new life began. A qcow2 image is
opened on that thread too; while a life that is over still has it open, the next one shares it (pvhv.images.shared),
for its tables may not all be in the file yet.

Domains may share a file if all of them only read it. If one of them may write, the second domain is refused, as by
Xen's script for block devices (require_unshared); backing files are read by whoever has an image above them. A domain
that has stopped, and is kept to be examined, does not count. Other programs of the host are kept away by locks, as QEMU
has them (pvhv.images.locks).

A disk that is `ephemeral` has an overlay (pvhv.images.scratch), which all lives of the domain share, and which goes
with the last of them. Its image is only read.

Read beside it: tools/hotplug/Linux/block.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from typing import NamedTuple
from weakref import WeakValueDictionary

from pvhv.devices.block.disk import LOOK_NS
from pvhv.devices.block.names import number_of
from pvhv.images import opening, shared
from pvhv.images.empty import NoMedium
from pvhv.images.image import SECTOR_SIZE, BadImage, Identity, Image
from pvhv.images.scratch import Scratch
from pvhv.toolstack.beside import Beside
from pvhv.toolstack.disk_spec import EMPTY, DiskConfig
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.names import shown

LINGER_S = 2 * LOOK_NS / 1e9  # a file's thread waits so long for more to do: the next look finds it
_threads: WeakValueDictionary[Identity, Beside] = WeakValueDictionary()
_threads_lock = threading.Lock()


class OpenDisk(NamedTuple):
    """A disk, ready to be given to a domain: its number (of one that is found by xenbus), its image, and the thread of
    its file."""

    number: int
    target: str
    image: Image
    thread: Beside
    wanted: DiskConfig
    scratch: Scratch | None = None  # where it writes, if its image is only read

    def close(self) -> None:
        """Close the file after the work that its thread has been given. May be called again."""
        with suppress(RuntimeError):  # no thread is allowed, so none has the file: it is closed with this object
            self.thread.do(self.image.close)

    def settle(self) -> None:
        """The domain has stopped: have its image's tables be in the file, as all that was written to a raw image is. It
        may be kept for long, and then we may be killed."""
        if self.wanted.format == "qcow2" and not self.image.readonly and self.scratch is None:
            with suppress(RuntimeError):
                self.thread.do(self.image.flush)


def open_all(wanted: Iterable[DiskConfig], before: Sequence[OpenDisk] = ()) -> list[OpenDisk]:
    """Open the disks of a domain; `before` are those of its last life, whose overlays it keeps. May be called on any
    thread. Raises ToolstackError, and then none is open."""
    opened: list[OpenDisk] = []
    try:
        for disk in wanted:
            opened.append(_open(disk, before))
            require_unshared(opened[-1:], opened[:-1])
    except ToolstackError:
        for each in opened:
            each.close()
        raise
    return opened


def finish(files: Iterable[OpenDisk], seconds: float) -> None:
    """The process ends: close these disks, and wait, so long at most, for what the threads of all files have to do."""
    for file in files:
        file.close()
    deadline = time.monotonic() + seconds
    with _threads_lock:
        threads = list(_threads.values())
    for thread in threads:
        with suppress(RuntimeError, TimeoutError, CancelledError):
            thread.do(lambda: None).result(max(0.0, deadline - time.monotonic()))


def _open(disk: DiskConfig, before: Sequence[OpenDisk]) -> OpenDisk:
    number = number_of(disk.vdev) or 0
    scratch = next((each.scratch for each in before if each.wanted == disk), None)
    try:
        if disk.ephemeral and not disk.readonly:
            scratch = scratch or _scratch(disk)
        image, thread = _opened(disk) if scratch is None else _opened_above(disk, scratch)
    except BadImage as bad:
        raise ToolstackError(f"the disk {disk.vdev}: {bad.message}", bad.hint) from None
    opened = OpenDisk(number, disk.target, image, thread, disk, scratch)
    if not image.sectors and disk.format != EMPTY:
        opened.close()
        longer = f"truncate -s 64M {disk.target}" if disk.format == "raw" else f"pvhv image resize {disk.target} 64M"
        raise ToolstackError(
            f"{disk.target}, the disk {disk.vdev}, is shorter than a sector of {SECTOR_SIZE} bytes",
            f"{longer} makes it longer",
        )
    return opened


def _opened(disk: DiskConfig) -> tuple[Image, Beside]:
    if disk.format == EMPTY:
        return NoMedium(), Beside(at_once=1)
    if disk.format == "raw":
        image = opening.open_image(disk.target, disk.format, not disk.readonly)
        return image, _thread_of(image.identity)
    _settle(list(opening.chain(disk.target, disk.format))[1:])
    file = opening.open_checked(disk.target, not disk.readonly)
    thread = _thread_of(file.identity)
    return thread.do(partial(shared.open_as, file, disk.target, disk.format)).result(), thread


def _scratch(disk: DiskConfig) -> Scratch:
    _settle(list(opening.chain(disk.target, disk.format)))
    return Scratch(disk.target, disk.format)


def _opened_above(disk: DiskConfig, scratch: Scratch) -> tuple[Image, Beside]:
    """Open the overlay of a disk, and its image, which is only read."""
    file = scratch.open()
    thread = _thread_of(file.identity)
    return thread.do(partial(shared.open_as, file, f"the overlay of {disk.target}", "qcow2")).result(), thread


def _settle(layers: Iterable[opening.Layer]) -> None:
    """Have files of a chain be complete, before others read them: a domain that has stopped may have written to one."""
    for layer in layers:
        _thread_of(layer.identity).do(partial(shared.flush, layer.identity)).result()


def _thread_of(identity: Identity) -> Beside:
    with _threads_lock:
        thread = _threads.get(identity) or Beside(at_once=1, linger_s=LINGER_S)
        _threads[identity] = thread
    return thread


def require_unshared(mine: Sequence[OpenDisk], others: Sequence[OpenDisk], name: str = "") -> None:
    """Check that none of `mine` shares a file with one of `others`, unless both are read-only. Raises ToolstackError.
    `name` is the domain that has the others, or empty if it is the same one."""
    whose = f"domain {shown(name)} already" if name else "this domain already"
    for disk in mine:
        for other in others:
            a, b = disk.image, other.image
            if a.identity == b.identity and not (a.readonly and b.readonly):
                raise ToolstackError(
                    f"{disk.target} is a disk of {whose}, and one of the two would write to it",
                    "make a copy of it, or have both access=ro",
                )
            if a.identity in b.below and not a.readonly and disk.target == other.target:  # the other one is ephemeral
                raise ToolstackError(
                    f"{disk.target} is a disk of {whose}, which is ephemeral and reads it, and it would be written to",
                    "access=ro makes it read-only; pvhv create --ephemeral makes another domain that does not write it",
                )
            if a.identity in b.below and not a.readonly:
                raise ToolstackError(
                    f"{disk.target} is a backing file of {other.target}, a disk of {whose}, and it would be written to",
                    "access=ro makes it read-only; pvhv image create -b makes another image above it",
                )
            if b.identity in a.below and not b.readonly:
                named = "" if disk.target == other.target else f", a backing file of {disk.target},"
                raise ToolstackError(
                    f"{other.target}{named} is a disk of {whose}, which writes to it",
                    "end that domain first",
                )
