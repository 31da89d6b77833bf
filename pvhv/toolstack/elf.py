# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel file, read: what is loaded where, and what its Xen notes ask for.

A PV kernel is an ELF whose notes (name "Xen") say at which virtual address its pseudo-physical memory begins
(VIRT_BASE), where the first vCPU starts (ENTRY) and what else it wants. Kernels from before there were such notes
(Mini-OS until Xen 4.5) say the same in a string, in a section __xen_guest. Whatever is wrong with the file is
found here, before a domain exists, and said as one sentence with what to do about it.

Sections that hold instructions are listed in `executable`: where a crash report looks for return addresses.
(Program headers are too coarse for that: a kernel's last one is often one blob that may do everything.)

Not modelled: 32-bit kernels, a BSD symbol table kept in guest memory.

Read beside it: xen/common/libelf/libelf-dominfo.c, tools/libs/guest/xg_dom_elfloader.c.
"""

from __future__ import annotations

import gzip
import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from pvhv.abi import elfnote
from pvhv.abi.features import FEATURE_NAMES
from pvhv.observe.symbols import Symbol, Symbols
from pvhv.toolstack import bzimage
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.plainfile import TooLarge, read_plain

PAGE = 4096
LARGEST_KERNEL = 1 << 30
ANEW = "copy it, or build it, anew"
SHF_ALLOC, SHF_EXECINSTR = 2, 4
PF_X = 1
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
# What the ELF reader raises when the headers of a file contradict each other.
DAMAGE = (
    ELFError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    OverflowError,
    AssertionError,
    struct.error,
)


class Segment(NamedTuple):
    """One PT_LOAD: `data` goes to pseudo-physical `paddr`, zeroes after it up to `memsz`."""

    paddr: int
    memsz: int
    data: memoryview


@dataclass
class Kernel:
    """A kernel and its wishes. Addresses are virtual unless they say otherwise; None: it does not ask."""

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
    elf: Any = field(default=None, repr=False)

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
        """Whether its functions keep a chain of frames in rbp; those of a Linux that unwinds by tables (ORC) do not."""
        try:
            return self.elf is None or self.elf.get_section_by_name(".orc_unwind") is None
        except DAMAGE:
            return True

    def symbols(self) -> Symbols:
        """Its symbol table; empty when it was stripped (pvhv.toolstack.symbol_files knows more)."""
        try:
            return Symbols(symbols_in(self.elf)) if self.elf else Symbols()
        except DAMAGE:
            return Symbols()


def read(path: Path) -> Kernel:
    """Read a kernel file. Raises ToolstackError that says what is wrong with it."""
    try:
        data = read_plain(path, LARGEST_KERNEL)
    except TooLarge:
        raise ToolstackError(f"{path} is too large to be a kernel") from None
    except OSError as error:
        raise ToolstackError(f"cannot read the kernel {path}: {error.strerror}") from None
    return parse(data, path)


def parse(data: bytes, path: Path) -> Kernel:
    """The kernel in `data`, which came from `path`."""
    if data[:2] == b"\x1f\x8b":
        data = _unzipped(data, path)
    elif bzimage.is_bzimage(data):
        data = bzimage.unpack(data, path)
    _check_header(data, path)
    _check_tables(data, path)
    view = memoryview(data)
    part = "headers"
    try:
        elf = ELFFile(io.BytesIO(data))
        part = "notes"
        notes = dict(_notes(elf, view)) or _guest_section(elf)
        part = "segments or sections"
        kernel = _kernel(elf, view, notes, path)
    except DAMAGE:
        raise ToolstackError(f"{path} is damaged: its {part} contradict each other", ANEW) from None
    if kernel.paravirtual:
        _check_addresses(kernel)
    return kernel


def _unzipped(data: bytes, path: Path) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as stream:
            unzipped = stream.read(LARGEST_KERNEL + 1)
    except (OSError, EOFError, zlib.error):
        raise ToolstackError(f"{path} is compressed, and damaged or cut short", ANEW) from None
    if len(unzipped) > LARGEST_KERNEL:
        raise ToolstackError(f"{path} is too large to be a kernel")
    return unzipped


def _check_header(data: bytes, path: Path) -> None:
    """Whether it is a 64-bit x86 ELF program at all."""
    if not data:
        raise ToolstackError(f"{path} is empty")
    if data[:4] != b"\x7fELF":
        raise ToolstackError(f"{path} is not an ELF file, so it is no kernel pvhv could start")
    if len(data) < 64:
        raise _cut_short(path, data, "its ELF header", 0, 64)
    machine, kind = struct.unpack_from("<H", data, 18)[0], struct.unpack_from("<H", data, 16)[0]
    if data[4] != 2 or data[5] != 1 or machine != 62:
        names = {3: "32-bit x86", 40: "32-bit ARM", 183: "64-bit ARM", 243: "RISC-V", 62: "x86-64"}
        what = names.get(machine, f"ELF machine {machine}")
        raise ToolstackError(
            f"{path} is for another machine ({what}): pvhv runs 64-bit x86 guests",
            "build it for x86-64; `pvhv build DIR` does",
        )
    if kind not in (2, 3):
        what = {1: "an object file that was not linked yet", 4: "a core dump"}.get(kind, f"ELF type {kind}")
        raise ToolstackError(f"{path} is {what}, not a program")


def _check_tables(data: bytes, path: Path) -> None:
    """Whether the two tables that tell where everything is are there themselves."""
    program_at, section_at = struct.unpack_from("<QQ", data, 32)
    program_size, programs, section_size, sections = struct.unpack_from("<4H", data, 54)
    for what, at, size, count, least in (
        ("program", program_at, program_size, programs, 56),
        ("section", section_at, section_size, sections, 64),
    ):
        if not count:
            continue
        if size < least:
            raise ToolstackError(
                f"{path} is damaged: it says a {what} header has {size} bytes, which has {least}", ANEW
            )
        if at + size * count > len(data):
            raise _cut_short(path, data, f"its {what} headers", at, size * count)


def _cut_short(path: Path, data: bytes | memoryview, what: str, at: int, size: int) -> ToolstackError:
    return ToolstackError(
        f"{path} is cut short: {what} would be bytes {at} to {at + size}, and it has {len(data)}", ANEW
    )


def _kernel(elf: Any, view: memoryview, notes: dict[int, bytes], path: Path) -> Kernel:
    segments = []
    for header in elf.iter_segments("PT_LOAD"):
        offset, filesz, memsz = header["p_offset"], header["p_filesz"], header["p_memsz"]
        if offset + filesz > len(view):
            what = f"what is loaded at {header['p_vaddr']:#x}"
            raise _cut_short(path, view, what, offset, filesz)
        if filesz > memsz:
            raise ToolstackError(f"{path} is damaged: a segment is longer in the file than in memory", ANEW)
        if memsz:
            segments.append(Segment(header["p_paddr"], memsz, view[offset : offset + filesz]))
    if not segments:
        raise ToolstackError(f"{path} has nothing to load: no PT_LOAD segment")
    if not notes:
        raise ToolstackError(
            f"{path} has no Xen notes, and no __xen_guest section, so it is no paravirtual kernel",
            'its notes (section .note.Xen, name "Xen") tell where it wants to be; see examples/first-guest',
        )
    strings = {kind: _string(value) for kind, value in notes.items() if kind in STRING_NOTES}
    numbers = {kind: _number(value) for kind, value in notes.items() if kind not in STRING_NOTES}
    pvh_entry = numbers.get(elfnote.XEN_ELFNOTE_PHYS32_ENTRY)
    if pvh_entry is not None and elfnote.XEN_ELFNOTE_XEN_VERSION not in strings:
        places = _executable(elf, 0)
        return Kernel(path, segments, places, 0, elf["e_entry"], paravirtual=False, pvh_entry=pvh_entry, elf=elf)
    features = strings.get(elfnote.XEN_ELFNOTE_FEATURES, "").split("|")
    _check_promises(strings, features, path)
    base = numbers.get(elfnote.XEN_ELFNOTE_VIRT_BASE)
    offset = numbers.get(elfnote.XEN_ELFNOTE_PADDR_OFFSET)
    if base is None and offset is not None:
        raise ToolstackError(f"{path}: its notes have PADDR_OFFSET but no VIRT_BASE")
    virt_offset = (base or 0) - (offset or 0)
    return Kernel(
        path=path,
        segments=segments,
        executable=_executable(elf, virt_offset),
        virt_base=base or 0,
        paddr_offset=offset or 0,
        entry=numbers.get(elfnote.XEN_ELFNOTE_ENTRY, elf["e_entry"]),
        pvh_entry=pvh_entry,
        hypercall_page=numbers.get(elfnote.XEN_ELFNOTE_HYPERCALL_PAGE),
        init_p2m=numbers.get(elfnote.XEN_ELFNOTE_INIT_P2M),
        hv_start_low=numbers.get(elfnote.XEN_ELFNOTE_HV_START_LOW),
        mod_start_pfn=bool(numbers.get(elfnote.XEN_ELFNOTE_MOD_START_PFN)),
        guest_os=strings.get(elfnote.XEN_ELFNOTE_GUEST_OS, ""),
        features=[word for word in features if word],
        elf=elf,
    )


def _check_promises(strings: dict[int, str], features: list[str], path: Path) -> None:
    """What the notes must say, and what they may not insist on."""
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
            raise ToolstackError(f"{path} requires a feature nobody knows: {word}")
        if word in IMPOSSIBLE_FEATURES:
            raise ToolstackError(f"{path} requires {word}, which a 64-bit paravirtual guest cannot have")


def _check_addresses(kernel: Kernel) -> None:
    """libelf's elf_xen_addr_calc_check: everything inside, in order."""
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
    if page is not None and (page % PAGE or not start <= page < end):
        raise ToolstackError(f"{path}: its HYPERCALL_PAGE {page:#x} is not a page of what is loaded")
    if kernel.init_p2m is not None and start <= kernel.init_p2m < end:
        raise ToolstackError(f"{path}: its INIT_P2M {kernel.init_p2m:#x} lies inside the kernel")
    if 0xFFFF_8000_0000_0000 <= kernel.virt_base < 0xFFFF_8800_0000_0000:
        raise ToolstackError(f"{path}: its VIRT_BASE {kernel.virt_base:#x} is the hypervisor's own")


def _notes(elf: Any, view: memoryview) -> Iterator[tuple[int, bytes]]:
    """(type, value) of the Xen notes: from the program headers, or else from the sections."""
    found = list(_in_places(((s["p_offset"], s["p_filesz"]) for s in elf.iter_segments("PT_NOTE")), view))
    if not found:
        places = ((s["sh_offset"], s["sh_size"]) for s in elf.iter_sections("SHT_NOTE"))
        found = list(_in_places(places, view))
    return iter(found)


def _in_places(places: Iterator[tuple[int, int]], view: memoryview) -> Iterator[tuple[int, bytes]]:
    for offset, size in places:
        at, end = offset, min(offset + size, len(view))
        while at + 12 <= end:
            name_size, size, kind = struct.unpack_from("<III", view, at)
            name_at, at = at + 12, at + 12 + -(-name_size // 4) * 4
            value_at, at = at, at + -(-size // 4) * 4
            if value_at + size > end:
                break
            if bytes(view[name_at : name_at + name_size]) == b"Xen\0" and kind <= elfnote.XEN_ELFNOTE_MAX:
                yield kind, bytes(view[value_at : value_at + size])


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


def _guest_section(elf: Any) -> dict[int, bytes]:
    """What a section __xen_guest says, as notes would: "KEY=VALUE,KEY=VALUE". (libelf's elf_xen_parse_guest_info)"""
    section = elf.get_section_by_name("__xen_guest")
    if section is None:
        return {}
    words = (word.partition("=") for word in _string(section.data()).split(","))
    said = {GUEST_SECTION_KEYS[key]: value for key, _, value in words if key in GUEST_SECTION_KEYS}
    base = _c_number(said.get(elfnote.XEN_ELFNOTE_VIRT_BASE, "0"))
    if elfnote.XEN_ELFNOTE_VIRT_BASE in said:
        # Where such a kernel does not say it, its load addresses are virtual ones.
        said.setdefault(elfnote.XEN_ELFNOTE_PADDR_OFFSET, str(base))
    notes = {}
    for kind, value in said.items():
        number = _c_number(value)
        if kind == elfnote.XEN_ELFNOTE_HYPERCALL_PAGE:  # a page, counted from VIRT_BASE
            number = base + number * PAGE
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


def _executable(elf: Any, virt_offset: int) -> list[tuple[int, int]]:
    """Where instructions are: by sections, or by program headers where the sections were stripped."""
    wanted = SHF_ALLOC | SHF_EXECINSTR
    ranges = [
        (section["sh_addr"], section["sh_addr"] + section["sh_size"])
        for section in elf.iter_sections()
        if section["sh_flags"] & wanted == wanted and section["sh_size"]
    ]
    if not ranges:
        ranges = [
            (virt_offset + header["p_paddr"], virt_offset + header["p_paddr"] + header["p_memsz"])
            for header in elf.iter_segments("PT_LOAD")
            if header["p_flags"] & PF_X
        ]
    return ranges


def symbols_in(elf: Any) -> Iterator[Symbol]:
    """Functions and other named places in code and data; one unpacking for the whole table."""
    table = elf.get_section_by_name(".symtab")
    if table is None:
        return
    names = elf.get_section(table["sh_link"]).data()
    for name_at, info, _other, section, value, size in struct.iter_unpack("<IBBHQQ", table.data()):
        if info & 15 > 2 or section == 0 or section >= 0xFF00 or not value:
            continue  # not a function, an object or a bare label of this file
        name = names[name_at : names.find(b"\0", name_at)].decode("ascii", "replace")
        if name and not name.startswith((".L", "$")):
            yield Symbol(value, size, name)
