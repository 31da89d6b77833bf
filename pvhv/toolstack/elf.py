# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel file, read: what is loaded where, and what its Xen notes ask for.

A PV kernel is an ELF whose notes (name "Xen") say at which virtual address its pseudo-physical memory begins
(VIRT_BASE), where the first vCPU starts (ENTRY) and what else it wants. Kernels from before there were such notes
(Mini-OS until Xen 4.5) say the same in a string, in a section __xen_guest. Whatever is wrong with the file is
found here, before a domain exists, and the error says what to do about it.

A kernel that several domains run is in memory once.

Sections that hold instructions are listed in `executable`: where a crash report looks for return addresses.
(Program headers are too coarse for that: a kernel's last segment is often readable, writable and executable.)

Not modelled: 32-bit kernels, a BSD symbol table kept in guest memory.

Read beside it: xen/common/libelf/libelf-dominfo.c, tools/libs/guest/xg_dom_elfloader.c.
"""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

from pvhv.abi import elfnote
from pvhv.abi.elf import PF_X, PT_LOAD, PT_NOTE, SHF_ALLOC, SHF_EXECINSTR, SHT_NOTE
from pvhv.abi.features import FEATURE_NAMES
from pvhv.machine.ram import PAGE_SIZE
from pvhv.observe.symbols import Symbols
from pvhv.toolstack import bzimage, unpacking
from pvhv.toolstack.bulk import Buffer, TooMuch, Writer
from pvhv.toolstack.elf_image import ANEW, LONGEST_STRING, Damaged, Image, check_header, cut_short
from pvhv.toolstack.elf_symbols import own_symbols
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.plainfile import TooLarge, read_plain

LARGEST_KERNEL = 1 << 30
MOST_NOTES = 65536  # ELF_MAX_TOTAL_NOTE_COUNT
FRESH_S = 2.0  # a file that was written before has another time when it is written again
STRING_NOTES = {
    elfnote.XEN_ELFNOTE_XEN_VERSION,
    elfnote.XEN_ELFNOTE_GUEST_OS,
    elfnote.XEN_ELFNOTE_GUEST_VERSION,
    elfnote.XEN_ELFNOTE_LOADER,
    elfnote.XEN_ELFNOTE_PAE_MODE,
    elfnote.XEN_ELFNOTE_FEATURES,
    elfnote.XEN_ELFNOTE_BSD_SYMTAB,
}
# What a kernel may insist on and a PV guest here cannot have.
IMPOSSIBLE_FEATURES = {"auto_translated_physmap", "supervisor_mode_kernel", "hvm_callback_vector"}
_images: WeakValueDictionary[tuple[int, ...], Image] = WeakValueDictionary()  # of the kernels that somebody runs


class Segment(NamedTuple):
    """One PT_LOAD: `data` goes to pseudo-physical `paddr`, zeroes after it up to `memsz`."""

    paddr: int
    memsz: int
    data: memoryview


@dataclass
class Kernel:
    """A kernel, and what its notes ask for. Addresses are virtual unless the field says otherwise; None: no such
    note."""

    path: Path
    segments: list[Segment]
    executable: list[tuple[int, int]]  # virtual ranges [start, end)
    virt_base: int
    entry: int
    paddr_offset: int = 0
    paravirtual: bool = True  # its notes promise that it knows Xen's interface
    pvh_entry: int | None = None  # physical, in 32-bit mode: for machines of its own
    hypercall_page: int | None = None
    init_p2m: int | None = None
    hv_start_low: int | None = None
    mod_start_pfn: bool = False
    guest_os: str = ""
    features: list[str] = field(default_factory=list)
    image: Image | None = field(default=None, repr=False)

    @property
    def start(self) -> int:
        """The first address that is loaded."""
        return self.virt_base - self.paddr_offset + min(segment.paddr for segment in self.segments)

    @property
    def end(self) -> int:
        """One past the last address, bss included."""
        return self.virt_base - self.paddr_offset + max(s.paddr + s.memsz for s in self.segments)

    @property
    def chained(self) -> bool:
        """Whether the kernel's functions keep a chain of frames in rbp. A Linux that unwinds by tables (ORC) does
        not."""
        return self.image is None or self.image.section(".orc_unwind") is None

    def used(self) -> list[Buffer]:
        """The buffers the kernel was read from, to be freed. For a kernel that is not needed any more."""
        held = [] if self.image is None else [self.image.data]
        self.segments, self.image = [], None
        return held

    def symbols(self) -> Symbols:
        """The file's own symbol table; empty if it was stripped (see pvhv.toolstack.symbol_files)."""
        return Symbols() if self.image is None else own_symbols(self.image)


def read(path: Path) -> Kernel:
    """Read a kernel file. Raises ToolstackError that says what is wrong with it."""
    try:
        key = _identity(path)
        image = _images.get(key)
        if image is None:
            data = read_plain(path, LARGEST_KERNEL, look=lambda beginning: _check_beginning(beginning, path))
            image = _image(data, path)
            if key == _identity(path):
                _images[key] = image
    except TooLarge:
        raise ToolstackError(f"{path} is too large to be a kernel") from None
    except OSError as error:
        raise ToolstackError(f"cannot read the kernel {path}: {error.strerror}") from None
    return _understood(image, path)


def _identity(path: Path) -> tuple[int, ...]:
    """What tells a file from others and from older versions. It is new each time while the file is so new that a change
    could go unnoticed."""
    status = os.stat(path)
    fresh = time.time() - max(status.st_mtime, status.st_ctime) < FRESH_S
    at = time.monotonic_ns() if fresh else 0
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, at


def _check_beginning(beginning: bytes, path: Path) -> None:
    """Raise ToolstackError for a file that is not a kernel, before more of it is read."""
    if not beginning.startswith(unpacking.GZIP) and not bzimage.is_bzimage(beginning):
        check_header(beginning, path)


def parse(data: Buffer, path: Path) -> Kernel:
    """The kernel in `data`, which came from `path`."""
    return _understood(_image(data, path), path)


def _image(data: Buffer, path: Path) -> Image:
    if data[:2] == unpacking.GZIP:
        data = _unzipped(data, path)
    elif bzimage.is_bzimage(data):
        data = bzimage.unpack(data, path)
    return Image(data, path)


def _understood(image: Image, path: Path) -> Kernel:
    part = "notes"
    try:
        notes = dict(_notes(image, path)) or _guest_section(image)
        part = "segments or sections"
        kernel = _kernel(image, notes, path)
    except Damaged:
        raise ToolstackError(f"{path} is damaged: its {part} contradict each other", ANEW) from None
    if kernel.paravirtual:
        _check_addresses(kernel)
    return kernel


def _unzipped(data: Buffer, path: Path) -> Buffer:
    """Unpack gzip: as many bytes as the file notes at its end, and no more. (xc_dom_check_gzip)"""
    size = int.from_bytes(data[-4:], "little")
    if size > LARGEST_KERNEL:
        raise ToolstackError(f"{path} is compressed, and cut short, or too large to be a kernel", ANEW)
    writer = Writer(size)
    try:
        for piece in unpacking.unzip(memoryview(data)):
            if not writer.written:
                check_header(piece, path)
            writer.write(piece)
        if writer.written < size:
            raise unpacking.Unreadable
    except (unpacking.Unreadable, TooMuch):
        raise ToolstackError(f"{path} is compressed, and damaged or cut short", ANEW) from None
    return writer.buffer


def _kernel(image: Image, notes: dict[int, bytes], path: Path) -> Kernel:
    segments = []
    for header in image.programs:
        if header.kind != PT_LOAD:
            continue
        offset, filesz, memsz = header.offset, header.filesz, header.memsz
        if offset + filesz > len(image.data):
            raise cut_short(path, image.data, f"what is loaded at {header.vaddr:#x}", offset, filesz)
        if filesz > memsz:
            raise ToolstackError(f"{path} is damaged: a segment is longer in the file than in memory", ANEW)
        if memsz:
            segments.append(Segment(header.paddr, memsz, image.view[offset : offset + filesz]))
    if not segments:
        raise ToolstackError(f"{path} has nothing to load: no PT_LOAD segment")
    if not notes:
        raise ToolstackError(
            f"{path} has no Xen notes, and no __xen_guest section, so it is not a paravirtual kernel",
            'its notes (section .note.Xen, name "Xen") say where it is to be mapped; see examples/first-guest',
        )
    strings = {kind: _string(value) for kind, value in notes.items() if kind in STRING_NOTES}
    numbers = {kind: _number(value) for kind, value in notes.items() if kind not in STRING_NOTES}
    pvh_entry = numbers.get(elfnote.XEN_ELFNOTE_PHYS32_ENTRY)
    if pvh_entry is not None and elfnote.XEN_ELFNOTE_XEN_VERSION not in strings:
        places = _executable(image, 0)
        return Kernel(path, segments, places, 0, image.entry, paravirtual=False, pvh_entry=pvh_entry, image=image)
    features = strings.get(elfnote.XEN_ELFNOTE_FEATURES, "").split("|")
    _check_promises(strings, features, path)
    base = numbers.get(elfnote.XEN_ELFNOTE_VIRT_BASE)
    paddr_offset = numbers.get(elfnote.XEN_ELFNOTE_PADDR_OFFSET)
    if base is None and paddr_offset is not None:
        raise ToolstackError(f"{path}: its notes have PADDR_OFFSET but no VIRT_BASE")
    virt_offset = (base or 0) - (paddr_offset or 0)
    return Kernel(
        path=path,
        segments=segments,
        executable=_executable(image, virt_offset),
        virt_base=base or 0,
        paddr_offset=paddr_offset or 0,
        entry=numbers.get(elfnote.XEN_ELFNOTE_ENTRY, image.entry),
        pvh_entry=pvh_entry,
        hypercall_page=numbers.get(elfnote.XEN_ELFNOTE_HYPERCALL_PAGE),
        init_p2m=numbers.get(elfnote.XEN_ELFNOTE_INIT_P2M),
        hv_start_low=numbers.get(elfnote.XEN_ELFNOTE_HV_START_LOW),
        mod_start_pfn=bool(numbers.get(elfnote.XEN_ELFNOTE_MOD_START_PFN)),
        guest_os=strings.get(elfnote.XEN_ELFNOTE_GUEST_OS, ""),
        features=[word for word in features if word],
        image=image,
    )


def _check_promises(strings: dict[int, str], features: list[str], path: Path) -> None:
    """Check what the notes must say, and that they require nothing a guest cannot have."""
    loader = strings.get(elfnote.XEN_ELFNOTE_LOADER, "")
    guest_os = strings.get(elfnote.XEN_ELFNOTE_GUEST_OS, "")
    version = strings.get(elfnote.XEN_ELFNOTE_XEN_VERSION, "")
    if not loader.startswith("generic") and not guest_os.startswith("linux"):
        raise ToolstackError(
            f'{path}: its LOADER note says "{loader}"', 'a domain builder takes "generic" only'
        )
    if not version.startswith("xen-3.0"):
        raise ToolstackError(f'{path}: its XEN_VERSION note says "{version}"', 'the interface is "xen-3.0"')
    required = {word[1:] for word in features if word.startswith("!")}
    if "dom0" in required:
        raise ToolstackError(f"{path} runs as dom0 only: its notes require the dom0 feature")
    for word in sorted(required):
        if word not in FEATURE_NAMES:
            raise ToolstackError(f"{path} requires an unknown feature: {word}")
        if word in IMPOSSIBLE_FEATURES:
            raise ToolstackError(f"{path} requires {word}, which a 64-bit paravirtual guest cannot have")


def _check_addresses(kernel: Kernel) -> None:
    """Check that all addresses lie inside the kernel, and in order. (libelf's elf_xen_addr_calc_check)"""
    start, end, path = kernel.start, kernel.end, kernel.path
    if not (kernel.virt_base <= start <= end < 1 << 64):
        raise ToolstackError(
            f"{path}: it would be loaded at {start:#x}..{end:#x}, below its VIRT_BASE {kernel.virt_base:#x}",
            "check its load addresses (p_paddr) against the notes VIRT_BASE and PADDR_OFFSET",
        )
    if not start <= kernel.entry < end:
        raise ToolstackError(
            f"{path}: its entry point {kernel.entry:#x} lies outside of what is loaded, {start:#x}..{end:#x}"
        )
    page = kernel.hypercall_page
    if page is not None and (page % PAGE_SIZE or not start <= page < end):
        raise ToolstackError(f"{path}: its HYPERCALL_PAGE {page:#x} is not a page of what is loaded")
    if kernel.init_p2m is not None and start <= kernel.init_p2m < end:
        raise ToolstackError(f"{path}: its INIT_P2M {kernel.init_p2m:#x} lies inside the kernel")
    if 0xFFFF_8000_0000_0000 <= kernel.virt_base < 0xFFFF_8800_0000_0000:
        raise ToolstackError(f"{path}: its VIRT_BASE {kernel.virt_base:#x} is the hypervisor's own")


def _notes(image: Image, path: Path) -> Iterator[tuple[int, bytes]]:
    """(type, value) of the Xen notes: from the program headers, or else from the sections."""
    programs = ((each.offset, each.filesz) for each in image.programs if each.kind == PT_NOTE)
    found = list(_in_places(programs, image.view, path))
    if not found:
        sections = ((each.offset, each.size) for each in image.sections if each.kind == SHT_NOTE)
        found = list(_in_places(sections, image.view, path))
    return iter(found)


def _in_places(places: Iterable[tuple[int, int]], view: memoryview, path: Path) -> Iterator[tuple[int, bytes]]:
    left = MOST_NOTES
    for offset, size in places:
        at, end = offset, min(offset + size, len(view))
        while at + 12 <= end:
            if not left:
                raise ToolstackError(f"{path} has more than {MOST_NOTES} notes, and a domain builder looks at no more")
            left -= 1
            name_size, size, kind = struct.unpack_from("<III", view, at)
            name_at, at = at + 12, at + 12 + -(-name_size // 4) * 4
            value_at, at = at, at + -(-size // 4) * 4
            if value_at + size > end:
                break
            if name_size == 4 and bytes(view[name_at : name_at + 4]) == b"Xen\0" and kind <= elfnote.XEN_ELFNOTE_MAX:
                yield kind, bytes(view[value_at : value_at + min(size, LONGEST_STRING)])


GUEST_SECTION_KEYS = {
    "GUEST_OS": elfnote.XEN_ELFNOTE_GUEST_OS,
    "GUEST_VER": elfnote.XEN_ELFNOTE_GUEST_VERSION,
    "XEN_VER": elfnote.XEN_ELFNOTE_XEN_VERSION,
    "LOADER": elfnote.XEN_ELFNOTE_LOADER,
    "FEATURES": elfnote.XEN_ELFNOTE_FEATURES,
    "VIRT_BASE": elfnote.XEN_ELFNOTE_VIRT_BASE,
    "VIRT_ENTRY": elfnote.XEN_ELFNOTE_ENTRY,
    "ELF_PADDR_OFFSET": elfnote.XEN_ELFNOTE_PADDR_OFFSET,
    "HYPERCALL_PAGE": elfnote.XEN_ELFNOTE_HYPERCALL_PAGE,
}


def _guest_section(image: Image) -> dict[int, bytes]:
    """What a section __xen_guest says, "KEY=VALUE,KEY=VALUE", as notes. (libelf's elf_xen_parse_guest_info)"""
    section = image.section("__xen_guest")
    if section is None:
        return {}
    words = (word.partition("=") for word in _string(bytes(image.contents(section)[:LONGEST_STRING])).split(","))
    said = {GUEST_SECTION_KEYS[key]: value for key, _, value in words if key in GUEST_SECTION_KEYS}
    base = _c_number(said.get(elfnote.XEN_ELFNOTE_VIRT_BASE, "0"))
    if elfnote.XEN_ELFNOTE_VIRT_BASE in said:
        # Where such a kernel does not say it, its load addresses are virtual ones.
        said.setdefault(elfnote.XEN_ELFNOTE_PADDR_OFFSET, str(base))
    notes = {}
    for kind, value in said.items():
        number = _c_number(value)
        if kind == elfnote.XEN_ELFNOTE_HYPERCALL_PAGE:  # a page, counted from VIRT_BASE
            number = base + number * PAGE_SIZE
        notes[kind] = value.encode() if kind in STRING_NOTES else (number & (1 << 64) - 1).to_bytes(8, "little")
    return notes


def _c_number(text: str) -> int:
    """As strtoull(text, NULL, 0) reads it: hexadecimal, octal or decimal, as far as it goes."""
    found = re.match(r"\s*(?:0[xX]([0-9a-fA-F]+)|0([0-7]*)|([1-9][0-9]*))", text)
    if found is None:
        return 0
    hexadecimal, octal, decimal = found.groups()
    return int(hexadecimal, 16) if hexadecimal else int(decimal) if decimal else int(octal or "0", 8)


def _string(value: bytes) -> str:
    return value.partition(b"\0")[0].decode("ascii", "replace")


def _number(value: bytes) -> int:
    return int.from_bytes(value[:8], "little")


def _executable(image: Image, virt_offset: int) -> list[tuple[int, int]]:
    """Where instructions are, in order: by sections, or by program headers where the sections were stripped."""
    wanted = SHF_ALLOC | SHF_EXECINSTR
    ranges = [
        (section.address, section.address + section.size)
        for section in image.sections
        if section.flags & wanted == wanted and section.size
    ]
    if not ranges:
        ranges = [
            (virt_offset + header.paddr, virt_offset + header.paddr + header.memsz)
            for header in image.programs
            if header.kind == PT_LOAD and header.flags & PF_X
        ]
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined
