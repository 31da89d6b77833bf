# SPDX-License-Identifier: GPL-2.0-or-later
"""The file that a domain's core is dumped into: an ELF without program headers, in sections that `crash` and Xen know.

    .note.Xen          which domain, which Xen, which version of the format
    .xen_prstatus      each vCPU's context
    .xen_shared_info   the page that guest and hypervisor share
    .xen_pages         the domain's pages, by rising pfn
    .xen_p2m           pfn and mfn of each of these
    .shstrtab          the sections' names

The sizes are known before the first page is read, so a file can be written from its beginning to its end. A page that
could not be read in its turn becomes a page of zeros at the end, and its entry in .xen_p2m is all ones.

This module turns values into bytes; it knows neither domains nor files.

Read beside it: docs/misc/dump-core-format.txt, xc_domain_dumpcore_via_callback in tools/libs/guest/xg_core.c.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

from pvhv.abi import elfnote
from pvhv.abi.arch_x86 import vcpu_guest_context
from pvhv.abi.elf import EM_X86_64, ET_CORE, SHT_NOTE, SHT_NULL, SHT_PROGBITS, SHT_STRTAB
from pvhv.abi.layout import size_of
from pvhv.machine.ram import PAGE_SIZE

CONTEXT_SIZE = size_of(vcpu_guest_context)
INVALID = (1 << 64) - 1
NOWHERE = b"\xff" * 16
NUMBERS_A_PIECE = 1 << 15

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
NOTE = struct.Struct("<III4s")  # sizes of name and contents, type, name
DOMAIN_NOTE = struct.Struct("<QQQQ")
XEN_NOTE = struct.Struct("<QQ16s64s16s32s32s1024s64sQQ")
FORMAT_NOTE = struct.Struct("<Q")

IDENT = b"\x7fELF\2\1\1" + bytes(9)  # 64 bits, little endian, System V
XC_CORE_MAGIC = 0xF00F_EBED  # a paravirtual domain
FORMAT_VERSION = 0 << 32 | 1
STRINGS = b"\0.note.Xen\0.xen_prstatus\0.xen_shared_info\0.xen_pages\0.xen_p2m\0.shstrtab\0"


class Section(NamedTuple):
    name: str
    type: int
    size: int
    alignment: int = 1
    entry_size: int = 0


def head(xen: tuple[Any, ...], contexts: list[bytes], shared_info: bytes, pages: int) -> bytes:
    """Everything in front of the pages."""
    notes = _notes(xen, len(contexts), pages)
    sections = [
        Section("", SHT_NULL, 0),
        Section(".note.Xen", SHT_NOTE, len(notes)),
        Section(".xen_prstatus", SHT_PROGBITS, CONTEXT_SIZE * len(contexts), 8, CONTEXT_SIZE),
        Section(".xen_shared_info", SHT_PROGBITS, len(shared_info), 8, PAGE_SIZE),
        Section(".xen_pages", SHT_PROGBITS, pages * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE),
        Section(".xen_p2m", SHT_PROGBITS, pages * 16, 8, 16),
        Section(".shstrtab", SHT_STRTAB, len(STRINGS)),
    ]
    header = HEADER.pack(
        IDENT, ET_CORE, EM_X86_64, 1, 0, 0, HEADER.size, 0, HEADER.size, 0, 0, SECTION.size,
        len(sections), len(sections) - 1,
    )  # fmt: skip
    rows, at = [], HEADER.size + SECTION.size * len(sections)
    for section in sections:
        at += -at % section.alignment
        name = STRINGS.index(section.name.encode() + b"\0")
        row = (name, section.type, 0, 0, at, section.size, 0, 0, section.alignment, section.entry_size)
        rows.append(SECTION.pack(*row) if section.name else bytes(SECTION.size))
        at += section.size
    text = b"".join([header, *rows, notes, *contexts, shared_info])
    return text + bytes(-len(text) % PAGE_SIZE)


def tail(kept: array[int], pages: int) -> Iterator[bytes]:
    """Everything behind the pages, in pieces: `kept` (pfn and mfn of each page), and the sections' names."""
    for at in range(0, len(kept), NUMBERS_A_PIECE):
        yield kept[at : at + NUMBERS_A_PIECE].tobytes()
    for _missing in range(pages - len(kept) // 2):
        yield NOWHERE
    yield STRINGS


def _notes(xen: tuple[Any, ...], vcpus: int, pages: int) -> bytes:
    told = (
        (elfnote.XEN_ELFNOTE_DUMPCORE_NONE, b""),
        (elfnote.XEN_ELFNOTE_DUMPCORE_HEADER, DOMAIN_NOTE.pack(XC_CORE_MAGIC, vcpus, pages, PAGE_SIZE)),
        (elfnote.XEN_ELFNOTE_DUMPCORE_XEN_VERSION, XEN_NOTE.pack(*xen, PAGE_SIZE)),
        (elfnote.XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION, FORMAT_NOTE.pack(FORMAT_VERSION)),
    )
    return b"".join(NOTE.pack(4, len(contents), kind, b"Xen\0") + contents for kind, contents in told)
