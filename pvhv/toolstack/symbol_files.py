# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose names a kernel's addresses have, and which file a debugger finds them in.

A kernel that was not stripped has its own symbol table. A distribution's was, and has its names in a form of its own
(pvhv.observe.kallsyms). For a debugger these are written to a file with nothing but symbols, and with what unwinds the
kernel's stacks, which is kept beside what the kernel was unpacked to.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from pvhv.build.cache import Cache, cache_directory
from pvhv.observe import orc, symbol_file
from pvhv.observe.kallsyms import kallsyms
from pvhv.observe.symbols import Symbol, Symbols
from pvhv.toolstack import elf

KEEP_AS = "symbols"
KERNELS = 4  # whose names are at hand once they were read, which takes a second
FORM = b"3"  # changes when what is written changes

_read: dict[str, Symbols] = {}


def names(kernel: elf.Kernel) -> Symbols:
    """The names in a kernel; none where it has none."""
    if kernel.elf is None:
        return Symbols()
    own = kernel.symbols()
    if len(own):
        return own
    try:
        image: bytes = kernel.elf.stream.getvalue()
        key = _key(image)
        if key not in _read:
            if len(_read) >= KERNELS:
                _read.clear()
            _read[key] = Symbols(_names(image, key))
        return _read[key]
    except (*elf.DAMAGE, OSError):
        return Symbols()  # somebody wrote into our cache


def for_debugger(kernel: elf.Kernel) -> Path | None:
    """A file that gdb takes names from; None where there are none, or no place to keep them."""
    with contextlib.suppress(OSError), kernel.path.open("rb") as file:
        if file.read(4) == b"\x7fELF" and len(kernel.symbols()):
            return kernel.path
    try:
        image: bytes = kernel.elf.stream.getvalue()
        cache, key = _cache(), _key(image)
        if cache is None:
            return None
        if (found := cache.find(KEEP_AS, key)) is not None:
            return found
        symbols = list(elf.symbols_in(kernel.elf)) or kallsyms(image)
        if not symbols:
            return None
        content = symbol_file.write(symbols, _sections(kernel.elf), kernel.entry, _frames(kernel.elf, image))
        return cache.keep(KEEP_AS, key, content)
    except (*elf.DAMAGE, OSError):
        return None  # no names, or (a full disk) no place for them


def _names(image: bytes, key: str) -> list[Symbol]:
    cache = _cache()
    kept = None if cache is None else cache.find(KEEP_AS, key)
    if kept is None:
        return kallsyms(image)
    with kept.open("rb") as file:
        return list(elf.symbols_in(ELFFile(file)))


def _cache() -> Cache | None:
    directory = cache_directory()
    return None if directory is None else Cache(directory.absolute())


def _key(image: bytes) -> str:
    return hashlib.sha256(FORM + image).hexdigest()


def _sections(file: Any) -> list[symbol_file.Section]:
    return [
        symbol_file.Section(section.name, section["sh_addr"], section["sh_size"], section["sh_flags"] & 7)
        for section in file.iter_sections()
        if section["sh_flags"] & symbol_file.SHF_ALLOC and section["sh_addr"] and section["sh_size"]
    ]


def _frames(file: Any, image: bytes) -> bytes:
    """How a Linux that has tables for it unwinds its stacks."""
    places, rows = (file.get_section_by_name(name) for name in (".orc_unwind_ip", ".orc_unwind"))
    linux = orc.version(image)
    if places is None or rows is None or linux is None:
        return b""
    return orc.debug_frame(places.data(), places["sh_addr"], rows.data(), linux)
