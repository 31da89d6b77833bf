# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels made of bytes: a small ELF writer, so that these tests need no compiler."""

import struct
from dataclasses import dataclass, field

from pvhv.abi import elfnote

BASE = 0xFFFF_FFFF_8000_0000
DEFAULT_NOTES: dict[int, int | str] = {
    elfnote.XEN_ELFNOTE_GUEST_OS: "test",
    elfnote.XEN_ELFNOTE_XEN_VERSION: "xen-3.0",
    elfnote.XEN_ELFNOTE_LOADER: "generic",
    elfnote.XEN_ELFNOTE_VIRT_BASE: BASE,
    elfnote.XEN_ELFNOTE_ENTRY: BASE + 0x10_0000,
    elfnote.XEN_ELFNOTE_PADDR_OFFSET: 0,
    elfnote.XEN_ELFNOTE_FEATURES: "!writable_page_tables|pae_pgdir_above_4gb",
}


@dataclass
class Recipe:
    """A kernel: a page of code at 1 MiB, a page of data after it, then `bss` more bytes."""

    notes: dict[int, int | str] = field(default_factory=dict)
    guest_section: str = ""  # what a section __xen_guest says, if there is one
    bss: int = 0x1000
    code: bytes = b"\x90" * 16
    data: bytes = b"data"
    sections: bool = True
    machine: int = 62
    type: int = 2
    bits: int = 2

    def build(self) -> bytes:
        notes = {kind: value for kind, value in {**DEFAULT_NOTES, **self.notes}.items() if value != "absent"}
        noted = b"".join(_note(kind, value) for kind, value in notes.items())
        code, data = self.code.ljust(0x1000, b"\xcc"), self.data.ljust(0x1000, b"\0")
        paddr = 0x10_0000
        names = b"\0.text\0.data\0.symtab\0.strtab\0.shstrtab\0__xen_guest\0"
        strings = b"\0start\0end_of_it\0table\0"
        symbols = b"\0" * 24 + b"".join(
            struct.pack("<IBBHQQ", strings.index(name), kind, 0, 1, BASE + paddr + offset, size)
            for name, kind, offset, size in (
                (b"start", 0x12, 0, 8),
                (b"end_of_it", 0x10, 8, 0),
                (b"table", 0x11, 0x1000, 64),
            )
        )
        note_at = 64 + 56 * 3
        guest_at = note_at + len(noted)
        code_at = 0x1000
        tail_at = code_at + len(code) + len(data)
        symbol_at, string_at = tail_at, tail_at + len(symbols)
        names_at = string_at + len(strings)
        section_at = names_at + len(names)
        sections = [
            b"\0" * 64,
            _section(names.index(b".text"), 1, 6, BASE + paddr, code_at, len(self.code)),
            _section(names.index(b".data"), 1, 3, BASE + paddr + 0x1000, code_at + 0x1000, 0x1000),
            _section(names.index(b".symtab"), 2, 0, 0, symbol_at, len(symbols), link=4, entry=24),
            _section(names.index(b".strtab"), 3, 0, 0, string_at, len(strings)),
            _section(names.index(b".shstrtab"), 3, 0, 0, names_at, len(names)),
        ]
        if self.guest_section:
            sections.append(_section(names.index(b"__xen_guest"), 1, 0, 0, guest_at, len(self.guest_section)))
        count = len(sections) if self.sections else 0
        header = struct.pack(
            "<4sBBBB8xHHIQQQIHHHHHH",
            b"\x7fELF",
            self.bits,
            1,
            1,
            0,
            self.type,
            self.machine,
            1,
            BASE + paddr,
            64,
            section_at if count else 0,
            0,
            64,
            56,
            3,
            64,
            count,
            5 if count else 0,
        )
        programs = [
            struct.pack("<IIQQQQQQ", 1, 5, code_at, BASE + paddr, paddr, 0x1000, 0x1000, 0x1000),
            struct.pack(
                "<IIQQQQQQ",
                1,
                6,
                code_at + 0x1000,
                BASE + paddr + 0x1000,
                paddr + 0x1000,
                0x1000,
                0x1000 + self.bss,
                0x1000,
            ),
            struct.pack("<IIQQQQQQ", 4, 4, note_at, 0, 0, len(noted), len(noted), 4),
        ]
        front = (header + b"".join(programs) + noted + self.guest_section.encode()).ljust(code_at, b"\0")
        whole = front + code + data + symbols + strings + names
        return whole + b"".join(sections) if count else whole


def _note(kind: int, value: int | str) -> bytes:
    data = value.encode() + b"\0" if isinstance(value, str) else struct.pack("<Q", value)
    return struct.pack("<III4s", 4, len(data), kind, b"Xen\0") + data.ljust(-(-len(data) // 4) * 4, b"\0")


def _section(
    name: int, kind: int, flags: int, address: int, offset: int, size: int, link: int = 0, entry: int = 0
) -> bytes:
    return struct.pack("<IIQQQQIIQQ", name, kind, flags, address, offset, size, link, 0, 8, entry)


# -- things for a kernel to do, as machine code --------------------------------------------------------------
SPIN = b"\xeb\xfe"  # jmp .
IDLE = (  # sched_op(SCHEDOP_poll, of no port and without a timeout), again and again: it waits, and costs nothing
    b"\xb8\x1d\0\0\0\xbf\x03\0\0\0\x48\x8d\x35\x04\0\0\0\x0f\x05\xeb\xeb" + bytes(24)
)
UD2 = b"\x0f\x0b"
YIELD_FOREVER = (
    b"\x31\xff\x31\xf6\xb8\x1d\0\0\0\x0f\x05\xeb\xf3"  # sched_op(SCHEDOP_yield, NULL), again and again
)


def shutdown(reason: int) -> bytes:
    """sched_op(SCHEDOP_shutdown, &reason)."""
    #       mov $29, %eax           mov $2, %edi            lea 2(%rip), %rsi              syscall
    return (
        b"\xb8\x1d\0\0\0"
        + b"\xbf\x02\0\0\0"
        + b"\x48\x8d\x35\x02\0\0\0"
        + b"\x0f\x05"
        + struct.pack("<I", reason)
    )
