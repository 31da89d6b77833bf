# SPDX-License-Identifier: GPL-2.0-or-later
"""A file of names alone is an ELF that others read: sections without contents, every name where it belongs."""

from __future__ import annotations

import io
from pathlib import Path

from elftools.elf.elffile import ELFFile

from pvhv.abi.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE
from pvhv.observe import symbol_file
from pvhv.observe.symbol_file import Section
from pvhv.observe.symbols import Symbol
from pvhv.toolstack.elf_image import Image
from pvhv.toolstack.elf_symbols import symbols_in

TEXT, DATA = 0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_8200_0000
SECTIONS = [
    Section(".data", DATA, 0x1000, SHF_ALLOC | SHF_WRITE),
    Section(".text", TEXT, 0x2000, SHF_ALLOC | SHF_EXECINSTR),
]
SYMBOLS = [
    Symbol(TEXT, 0x10, "start"),
    Symbol(TEXT + 0x2000, 0, "end_of_text"),
    Symbol(DATA + 8, 0, "jiffies"),
    Symbol(DATA + 0x1_0000, 0, "end"),
    Symbol(0x1000, 0, "nowhere"),
]


def test_it_is_read_back() -> None:
    data = symbol_file.write(SYMBOLS, SECTIONS, entry=TEXT, frames=b"frames")
    file = ELFFile(io.BytesIO(data))
    assert file["e_type"] == "ET_EXEC" and file["e_machine"] == "EM_X86_64" and file["e_entry"] == TEXT
    text, frames = file.get_section_by_name(".text"), file.get_section_by_name(".debug_frame")
    assert (text["sh_addr"], text["sh_size"], text["sh_type"]) == (TEXT, 0x2000, "SHT_NOBITS")
    assert frames.data() == b"frames"
    placed = {
        symbol.name: (symbol["st_shndx"], symbol["st_info"]["type"], symbol["st_value"], symbol["st_size"])
        for symbol in file.get_section_by_name(".symtab").iter_symbols()
        if symbol.name
    }
    assert placed == {
        "start": (1, "STT_FUNC", TEXT, 0x10),
        "end_of_text": (1, "STT_FUNC", TEXT + 0x2000, 0),
        "jiffies": (2, "STT_OBJECT", DATA + 8, 0),
        "end": (2, "STT_OBJECT", DATA + 0x1_0000, 0),
        "nowhere": ("SHN_ABS", "STT_NOTYPE", 0x1000, 0),
    }
    assert list(symbols_in(Image(data, Path("names")))) == SYMBOLS[:4]
