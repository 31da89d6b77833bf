# SPDX-License-Identifier: GPL-2.0-or-later
"""The symbols of a kernel, and the file in which a debugger finds them.

A kernel that was not stripped has its own symbol table. A distribution's kernel is stripped, and has its names in a
form of its own (pvhv.observe.kallsyms). For a debugger these are written to a file that has only symbols, and the
tables that unwind the kernel's stacks. The file is kept beside the unpacked kernel.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

from pvhv.abi.elf import SHF_ALLOC
from pvhv.build.cache import Cache, cache_directory
from pvhv.images.plain import open_file
from pvhv.observe import orc, symbol_file
from pvhv.observe.kallsyms import kallsyms
from pvhv.observe.symbols import Symbol, Symbols, TooMany, drained
from pvhv.toolstack import elf
from pvhv.toolstack.bulk import Buffer
from pvhv.toolstack.elf_image import Damaged, Image
from pvhv.toolstack.elf_symbols import symbols_in
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.plainfile import read_plain

KEEP_AS = "symbols"
LARGEST_KEPT = 256 << 20
FORM = b"3"  # changes when what is written changes
UNUSABLE = (Damaged, ToolstackError, OSError)  # somebody wrote into our cache, or it cannot be written

_read: WeakKeyDictionary[Image, Symbols] = WeakKeyDictionary()  # of the kernels that somebody runs
_reading = threading.Lock()  # one kernel's at a time: it takes a second, and memory


def names(kernel: elf.Kernel) -> Symbols:
    """The symbols of a kernel, which may be none. This takes long: not on the hypervisor's thread."""
    image = kernel.image
    if image is None:
        return Symbols()
    with _reading:
        found = _read.get(image)
        if found is None:
            found = _read[image] = _find(kernel, image)
        return found


def known(kernel: elf.Kernel) -> Symbols | None:
    """The symbols of a kernel, if they were read before; else None. This is quick."""
    return None if kernel.image is None else _read.get(kernel.image)


def _find(kernel: elf.Kernel, image: Image) -> Symbols:
    own = kernel.symbols()
    if len(own) or own.missing:
        return own
    try:
        return Symbols(_kept_or_found(image.data))
    except TooMany as many:
        return Symbols.none(many.why)
    except UNUSABLE:
        return Symbols()


def for_debugger(kernel: elf.Kernel) -> Path | None:
    """A file that gdb takes a kernel's symbols from; None where there are no symbols, or no place to keep them."""
    image = kernel.image
    if image is None or not len(names(kernel)):
        return None
    with contextlib.suppress(OSError), open_file(kernel.path) as file:
        if file.read(4) == b"\x7fELF" and len(kernel.symbols()):
            return kernel.path
    try:
        cache, key = _cache(), _key(image.data)
        if cache is None:
            return None
        if (found := cache.find(KEEP_AS, key)) is not None:
            return found
        symbols = list(names(kernel))
        content = symbol_file.write(symbols, _sections(image), kernel.entry, _frames(image))
        return cache.keep(KEEP_AS, key, content)
    except UNUSABLE:
        return None


def _kept_or_found(data: Buffer) -> Iterator[Symbol]:
    cache = _cache()
    kept = None if cache is None else cache.find(KEEP_AS, _key(data))
    if kept is None:
        return drained(kallsyms(data))
    return symbols_in(Image(read_plain(kept, LARGEST_KEPT), kept))


def _cache() -> Cache | None:
    directory = cache_directory()
    return None if directory is None else Cache(directory.absolute())


def _key(data: Buffer) -> str:
    hashed = hashlib.sha256(FORM)
    hashed.update(data)
    return hashed.hexdigest()


def _sections(image: Image) -> list[symbol_file.Section]:
    return [
        symbol_file.Section(image.name(section), section.address, section.size, section.flags & 7)
        for section in image.sections
        if section.flags & SHF_ALLOC and section.address and section.size
    ]


def _frames(image: Image) -> bytes:
    """How a Linux that has tables for it unwinds its stacks."""
    places, rows = image.section(".orc_unwind_ip"), image.section(".orc_unwind")
    linux = orc.version(image.data)
    if places is None or rows is None or linux is None:
        return b""
    return orc.debug_frame(image.contents(places), places.address, image.contents(rows), linux)
