# SPDX-License-Identifier: GPL-2.0-or-later
"""Constants of AMD's and Intel's manuals that several files need.

Other facts of the processor have places of their own: cpustate.py the bits of RFLAGS (IF, IOPL, ...), paging.py those
of page-table entries (PTE_*), svm.py all vectors, by their abbreviations, and what #PF's error code says (PFEC_*),
ram.py the size of a page. Xen's constants are in pvhv.abi; a constant that one file needs is in that file.

It does not know the engine, nor which of these features a guest is offered (core/traps/cpuid.py and features.py do).
Read beside it: AMD64 Architecture Programmer's Manual, volumes 2 and 3; Intel's, volume 3. Sections are AMD's, of
volume 2, where nothing else is said.
"""

from __future__ import annotations

from typing import Final

from pvhv.machine.svm import AC, DB, DF, GP, NM, NP, PF, SS, TS, UD

# --- operands (volume 1, 3.1.3) ----------------------------------------------------------------
MASK32: Final = 0xFFFF_FFFF
MASK64: Final = 0xFFFF_FFFF_FFFF_FFFF

# --- virtual addresses (5.3.1) -----------------------------------------------------------------
LOWER_END: Final = 1 << 47  # where the lower half of the canonical ones ends

# --- CR0 (3.1.1), CR4 (3.1.3), EFER (3.1.7) ----------------------------------------------------
CR0_PE, CR0_MP, CR0_EM, CR0_TS, CR0_ET, CR0_NE = (1 << n for n in range(6))
CR0_WP, CR0_AM, CR0_NW, CR0_CD, CR0_PG = (1 << n for n in (16, 18, 29, 30, 31))
CR4_TSD, CR4_DE, CR4_PSE, CR4_PAE, CR4_MCE, CR4_PGE = (1 << n for n in range(2, 8))
CR4_OSFXSR, CR4_OSXMMEXCPT, CR4_SMEP, CR4_SMAP = (1 << n for n in (9, 10, 20, 21))
EFER_SCE, EFER_LME, EFER_LMA, EFER_NXE, EFER_SVME = (1 << n for n in (0, 8, 10, 11, 12))

# --- RFLAGS (3.1.6) ----------------------------------------------------------------------------
EFLAGS_DEFINED: Final = 0x3F_7FD7  # the bits there are, bit 1 among them, which always reads 1; the others are reserved

# --- exceptions (8.2), spelled out where an abbreviation would be taken for a flag or a segment ---
DEBUG, INVALID_OPCODE, NO_DEVICE = DB, UD, NM
NOT_PRESENT, STACK_FAULT, GENERAL_PROTECTION, PAGE_FAULT = NP, SS, GP, PF
HAS_ERROR_CODE: Final = frozenset({DF, TS, NP, SS, GP, PF, AC})

# --- debug registers as a reset leaves them (13.1.1; Intel's volume 3, 18.2) -------------------
DR6_DEFAULT: Final = 0xFFFF_0FF0
DR7_DEFAULT: Final = 0x400
DR7_ACTIVE: Final = 0xFF  # the bits that switch breakpoints on

# --- I/O space (volume 1, 3.8) -----------------------------------------------------------------
IO_PORTS: Final = 1 << 16

# --- segment descriptors, the high word (4.7, 4.8) ---------------------------------------------
CONFORMING: Final = 1 << 10  # of code
FLAT_CODE64, FLAT_CODE32, FLAT_DATA = 0x00AF_9B00, 0x00CF_9B00, 0x00CF_9300  # present, accessed, of privilege level 0
FLAT_USER_CODE64, FLAT_USER_CODE32, FLAT_USER_DATA = 0x00AF_FB00, 0x00CF_FB00, 0x00CF_F300  # ... and of level 3
