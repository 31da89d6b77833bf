# SPDX-License-Identifier: GPL-2.0-or-later
"""An image made of another one: of either format, with its backing files taken in, and without room for zeros.

The new image is written under another name, and gets its own when it is complete and on the disk. So a file of that
name is either whole or not there. What is a hole in the source, or all zeros, takes no room.

Read beside it: convert_do_copy in QEMU's qemu-img.c; qcow2_alloc_bytes in block/qcow2-refcount.c for packed clusters.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from pvhv.images.image import SECTOR_SIZE, BadImage, Image
from pvhv.images.making import new_file, recipe, require_format
from pvhv.images.qcow2.compressed import Packed, pack
from pvhv.images.qcow2.disk import Qcow2Image
from pvhv.images.qcow2.make import make
from pvhv.images.raw import RawImage

READ_AT_ONCE = 1 << 20  # bytes that are read in one go
SMALLEST = 65536  # bytes of zeros that become a hole, in a raw image


def convert(
    source: Image, path: str, format_: str, options: Mapping[str, str], compress: bool, at: Callable[[float], None]
) -> None:
    """Write what a source has into a new image. `at` is called with the share that is done. Raises BadImage, and
    OSError for the source."""
    require_format(format_)
    if (compress or options) and format_ != "qcow2":
        raise BadImage(f"a {format_} image has no options, and is not compressed", "-O qcow2 makes one that can be")
    if os.path.lexists(path):
        raise BadImage(f"{path} is there already", "remove it first, or choose another name")
    beside = f"{path}.{os.getpid()}.part"
    file = new_file(beside)
    try:
        size = source.sectors * SECTOR_SIZE
        try:
            target: RawImage | Qcow2Image
            if format_ == "raw":
                file.truncate(size)
                target = RawImage(file)
            else:
                target = make(file, recipe(size, options))
        except OSError as error:
            raise _cannot_write(path, error) from None
        _copy(source, target, path, compress, at)
        try:
            target.flush()
            target.close()
            _give_name(beside, path)
        except FileExistsError:
            raise BadImage(f"{path} is there already", "remove it first, or choose another name") from None
        except OSError as error:
            raise _cannot_write(path, error) from None
    finally:
        file.close()
        with suppress(OSError):
            os.unlink(beside)


def _give_name(beside: str, path: str) -> None:
    """Give a file its own name, which no other file may have."""
    try:
        os.link(beside, path)
    except FileExistsError:
        raise
    except (OSError, AttributeError):  # a file system without links
        os.rename(beside, path)


def _cannot_write(path: str, error: OSError) -> BadImage:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return BadImage(f"cannot write {path}: {'the disk is full' if full else error.strerror}")


def _copy(source: Image, target: RawImage | Qcow2Image, path: str, compress: bool, at: Callable[[float], None]) -> None:
    unit = target.header.cluster_size if isinstance(target, Qcow2Image) else SMALLEST
    packer = Packer(target) if compress and isinstance(target, Qcow2Image) else None
    step = max(READ_AT_ONCE, unit) // SECTOR_SIZE
    for first, count in runs(source, step):
        data = source.read(first, count)
        try:
            if packer is not None:
                packer.write(first * SECTOR_SIZE, data, unit)
            else:
                for begin, end in _not_zero(data, unit):
                    target.write(first + begin // SECTOR_SIZE, data[begin:end])
        except OSError as error:
            raise _cannot_write(path, error) from None
        at((first + count) / source.sectors)


def runs(source: Image, step: int) -> Iterator[tuple[int, int]]:
    """The parts of an image that may have data, in order, each at most `step` sectors and within one step."""
    sector = 0
    while sector < source.sectors:
        has_data, count = source.run(sector, source.sectors - sector)
        if not has_data:
            sector += count
            continue
        sector -= sector % step
        yield sector, min(step, source.sectors - sector)
        sector += step


def _not_zero(data: bytes, unit: int) -> Iterator[tuple[int, int]]:
    """The parts of some bytes that are not zeros, in whole units."""
    zeros, begin = bytes(unit), -1
    for offset in range(0, len(data), unit):
        piece = data[offset : offset + unit]
        if piece == zeros[: len(piece)]:
            if begin >= 0:
                yield begin, offset
            begin = -1
        elif begin < 0:
            begin = offset
    if begin >= 0:
        yield begin, len(data)


class Packer:
    """Writes packed clusters into a new image, one behind the other."""

    def __init__(self, image: Qcow2Image) -> None:
        self._image = image
        self._at = 0  # where in the file the next one may begin; 0: in a new cluster

    def write(self, offset: int, data: bytes, cluster_size: int) -> None:
        """Write clusters of the disk that have nothing yet. Raises OSError."""
        for begin in range(0, len(data), cluster_size):
            cluster = data[begin : begin + cluster_size].ljust(cluster_size, b"\0")
            if not any(_not_zero(cluster, cluster_size)):
                continue
            packed = pack(cluster)
            if packed is None:
                self._image.write((offset + begin) // SECTOR_SIZE, data[begin : begin + cluster_size])
                continue
            place = self._place(len(packed))
            self._image.file.write(place, packed)
            self._image.write_packed((offset + begin) // cluster_size, Packed(place, len(packed)))

    def _place(self, length: int) -> int:
        """Where `length` bytes can go; the clusters there are counted."""
        refcounts, bits = self._image.refcounts, self._image.header.cluster_bits
        last, inside = self._at >> bits, self._at & ((1 << bits) - 1)
        more = max(0, (-(-(inside + length) >> bits)) - 1)
        if inside and refcounts.get(last) < refcounts.most:
            place = self._at
            if more:
                first, got = refcounts.allocate(more)
                if first != last + 1 or got < more:
                    refcounts.release(first, got)
                    place = 0
            if place:
                refcounts.up(last)
                self._at = place + length
                return place
        first = refcounts.allocate_run(-(-length >> bits))
        self._at = (first << bits) + length
        return first << bits
