# SPDX-License-Identifier: GPL-2.0-or-later
"""Constants of ELF, for 64-bit x86-64 files: those that pvhv's kernels, core files and symbol files need.

ELF is not defined by Xen, but Xen's interface uses it for kernels, notes and cores.

Read beside it: the System V ABI, chapters 4 and 5, and its AMD64 supplement; elf(5); xen/include/xen/elfstructs.h.
"""

from __future__ import annotations

# Sizes: of the header, of an entry of the section table, of a symbol.
ELF_HEADER_BYTES, SECTION_BYTES, SYMBOL_BYTES = 64, 64, 24

# e_type and e_machine
ET_EXEC, ET_DYN, ET_CORE = 2, 3, 4
EM_X86_64 = 62

# p_type and p_flags
PT_LOAD, PT_NOTE = 1, 4
PF_X = 1

# sh_type and sh_flags
SHT_NULL, SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_NOTE, SHT_NOBITS = 0, 1, 2, 3, 7, 8
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4

# Section numbers that are none: of symbols.
SHN_UNDEF, SHN_LORESERVE, SHN_ABS = 0, 0xFF00, 0xFFF1
