# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose names a kernel's addresses have, and which file a debugger finds them in.

A kernel that was not stripped has its own symbol table. A distribution's was, and has its names in a form of its own
(pvhv.observe.kallsyms): these are read once for a kernel and kept, beside what it was unpacked to, as a file with
nothing but symbols, which is read the next time and which gdb loads as well.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from pvhv.build.cache import Cache, cache_directory
from pvhv.observe import symbol_file
from pvhv.observe.kallsyms import kallsyms
from pvhv.observe.symbols import Symbol, Symbols
from pvhv.toolstack import elf

KEEP_AS = "symbols"
FORM = b"1"  # changes when what is written changes


def names(kernel: elf.Kernel) -> Symbols:
    """The names in a kernel; none where it has none."""
    if kernel.elf is None:
        return Symbols()
    own = kernel.symbols()
    if len(own):
        return own
    path, symbols = _kept(kernel)
    if path is not None and not symbols:
        try:
            with path.open("rb") as file:
                symbols = list(elf.symbols_in(ELFFile(file)))
        except (*elf.DAMAGE, OSError):
            pass  # somebody wrote into our cache
    return Symbols(symbols)


def for_debugger(kernel: elf.Kernel) -> Path | None:
    """A file that gdb takes names from; None where there are none, or no place to keep them."""
    with contextlib.suppress(OSError):
        if len(kernel.symbols()) and kernel.path.open("rb").read(4) == b"\x7fELF":
            return kernel.path
    return _kept(kernel)[0]


def _kept(kernel: elf.Kernel) -> tuple[Path | None, list[Symbol]]:
    """The file in the cache, and the names if they had to be read for it."""
    symbols: list[Symbol] = []
    try:
        image: bytes = kernel.elf.stream.getvalue()
        directory = cache_directory()
        cache = None if directory is None else Cache(directory.absolute())
        key = hashlib.sha256(FORM + image).hexdigest()
        if cache is not None and (found := cache.find(KEEP_AS, key)) is not None:
            return found, []
        symbols = list(elf.symbols_in(kernel.elf)) or kallsyms(image)
        if cache is not None and symbols:
            content = symbol_file.write(symbols, _sections(kernel.elf), kernel.entry)
            return cache.keep(KEEP_AS, key, content), symbols
    except (*elf.DAMAGE, OSError):
        pass  # no names, or (a full disk) no place for them
    return None, symbols


def _sections(file: Any) -> list[symbol_file.Section]:
    return [
        symbol_file.Section(section.name, section["sh_addr"], section["sh_size"], section["sh_flags"] & 7)
        for section in file.iter_sections()
        if section["sh_flags"] & symbol_file.SHF_ALLOC and section["sh_addr"] and section["sh_size"]
    ]
