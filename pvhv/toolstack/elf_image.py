# SPDX-License-Identifier: GPL-2.0-or-later
"""The two tables of an ELF file, and the bytes they speak of.

The file may be hostile: its tables have up to 65535 entries each, with any numbers. So each table is read in one pass
over its own bytes, and nothing is copied. What an entry points to is looked up only when it is asked for; a name is
read up to `LONGEST_STRING` bytes. The time is proportional to the length of the tables, and no memory is allocated
because an entry says so.

Not modelled: more sections than the header has room to count (65279), byte orders and classes no x86-64 kernel has.

Read beside it: elf(5); xen/common/libelf/libelf-tools.c, whose bounds are used where it has some.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from pvhv.abi.elf import (
    ELF_HEADER_BYTES,
    EM_X86_64,
    ET_DYN,
    ET_EXEC,
    SHT_NOBITS,
)
from pvhv.toolstack.bulk import Buffer
from pvhv.toolstack.errors import ToolstackError

ANEW = "copy it, or build it, anew"
LONGEST_STRING = 4096  # ELF_MAX_STRING_LENGTH

_PROGRAM = struct.Struct("<IIQQQQQ8x")
_SECTION = struct.Struct("<IIQQQQI20x")


class Damaged(Exception):
    """The file contradicts itself."""


class Program(NamedTuple):
    """A program header."""

    kind: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int


class Section(NamedTuple):
    """A section header; `name_at` counts from the beginning of the file."""

    name_at: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


class Image:
    """A file's bytes, its program headers and its sections."""

    def __init__(self, data: Buffer, path: Path) -> None:
        """Raises ToolstackError where it is no x86-64 ELF program, or its tables are not all there."""
        check_header(data, path)
        self.data = data
        self.view = memoryview(data).toreadonly()
        self.entry: int = struct.unpack_from("<Q", data, 24)[0]
        program_at, section_at = struct.unpack_from("<QQ", data, 32)
        program_size, programs, section_size, sections, names = struct.unpack_from("<5H", data, 54)
        self.programs = [
            Program(*fields) for fields in self._table(path, "program", _PROGRAM, program_at, program_size, programs)
        ]
        table = [*self._table(path, "section", _SECTION, section_at, section_size, sections)]
        base = table[names][4] if names < len(table) else len(data)  # nobody says where: they have none
        self.sections = [Section(base + fields[0], *fields[1:]) for fields in table]

    def _table(
        self, path: Path, what: str, row: struct.Struct, at: int, size: int, count: int
    ) -> list[tuple[int, ...]]:
        if not count:
            return []
        if size < row.size:
            raise ToolstackError(
                f"{path} is damaged: it says a {what} header has {size} bytes, which has {row.size}", ANEW
            )
        if at + size * count > len(self.data):
            raise cut_short(path, self.data, f"its {what} headers", at, size * count)
        if size == row.size:
            return [*row.iter_unpack(self.view[at : at + size * count])]
        return [row.unpack_from(self.view, at + size * n) for n in range(count)]

    def section(self, name: str) -> Section | None:
        """The first section of that name, if there is one."""
        wanted = name.encode() + b"\0"
        for section in self.sections:
            if self.data[section.name_at : section.name_at + len(wanted)] == wanted:
                return section
        return None

    def linked(self, section: Section) -> Section:
        """The section that another one links to (a symbol table to its strings). Raises Damaged."""
        if section.link >= len(self.sections):
            raise Damaged
        return self.sections[section.link]

    def name(self, section: Section) -> str:
        """A section's name."""
        return self.string(section.name_at)

    def contents(self, section: Section) -> memoryview:
        """A section's bytes. Raises Damaged where they are not all there."""
        if section.kind == SHT_NOBITS:
            return self.view[:0]
        if section.offset + section.size > len(self.data):
            raise Damaged
        return self.view[section.offset : section.offset + section.size]

    def string(self, at: int, longest: int = LONGEST_STRING) -> str:
        """The NUL-terminated string at offset `at` of the file; cut at `longest` bytes, or at the file's end."""
        end = self.data.find(b"\0", at, at + longest)
        return self.data[at : end if end >= 0 else at + longest].decode("ascii", "replace")


def check_header(data: Buffer, path: Path) -> None:
    """Check that the file is a 64-bit x86 ELF program. Raises ToolstackError."""
    if not data:
        raise ToolstackError(f"{path} is empty")
    if data[:4] != b"\x7fELF":
        raise ToolstackError(f"{path} is not an ELF file, so it is not a kernel that pvhv can start")
    if len(data) < ELF_HEADER_BYTES:
        raise cut_short(path, data, "its ELF header", 0, ELF_HEADER_BYTES)
    kind, machine = struct.unpack_from("<HH", data, 16)
    if data[4] != 2 or data[5] != 1 or machine != EM_X86_64:
        names = {3: "32-bit x86", 40: "32-bit ARM", 183: "64-bit ARM", 243: "RISC-V", EM_X86_64: "x86-64"}
        what = names.get(machine, f"ELF machine {machine}")
        raise ToolstackError(
            f"{path} is for another machine ({what}): pvhv runs 64-bit x86 guests",
            "build it for x86-64; `pvhv build DIR` does",
        )
    if kind not in (ET_EXEC, ET_DYN):
        what = {1: "an object file that was not linked yet", 4: "a core dump"}.get(kind, f"ELF type {kind}")
        raise ToolstackError(f"{path} is {what}, not a program")


def cut_short(path: Path, data: Buffer | memoryview, what: str, at: int, size: int) -> ToolstackError:
    """The error for a file that ends too soon."""
    return ToolstackError(
        f"{path} is cut short: {what} would be bytes {at} to {at + size}, and the file has {len(data)}", ANEW
    )
