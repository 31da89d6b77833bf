# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions that CPUID hides from guests (pvhv/core/traps/cpuid.py): each must be #UD, whatever the host's processor
does.

Where two processors differ because one lacks an extension, the guest's CPUID decides which of them the engine is: a run
is to be the same on every host, and the same twice.
"""

from __future__ import annotations

from typing import NamedTuple


class Opcode(NamedTuple):
    """One instruction of the map: its prefixes, which table (1, 0x0f, 0x38, 0x3a), its opcode, ModRM or None."""

    prefixes: bytes
    table: int
    opcode: int
    modrm: int | None

    @property
    def mandatory(self) -> int:
        """The prefix that chooses between SSE's four columns: F2 or F3 (the last of them), else 66, else 0."""
        for prefix in reversed(self.prefixes):
            if prefix in (0xF2, 0xF3):
                return prefix
        return 0x66 if 0x66 in self.prefixes else 0

    @property
    def reg(self) -> int:
        return 0 if self.modrm is None else self.modrm >> 3 & 7

    @property
    def is_register(self) -> bool:
        return self.modrm is not None and self.modrm >= 0xC0


# 0F 01 with these ModRM bytes.
_0F01 = {
    **dict.fromkeys((0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xD4), "VMX"), 0xC8: "MONITOR", 0xC9: "MONITOR", 0xCA: "SMAP",
    0xCB: "SMAP", 0xCF: "SGX", 0xC5: "PCONFIG", 0xD7: "SGX", 0xD0: "XSAVE", 0xD1: "XSAVE", 0xD5: "RTM", 0xD6: "RTM",
    **dict.fromkeys(range(0xD8, 0xE0), "SVM"), 0xE8: "SERIALIZE", 0xEA: "CET", 0xEE: "PKU", 0xEF: "PKU",
    0xF9: "RDTSCP", 0xFA: "MONITORX", 0xFB: "MONITORX", 0xFC: "CLZERO", 0xFD: "RDPRU", 0xFE: "INVLPGB",
    0xFF: "INVLPGB",
}  # fmt: skip


def hidden_by(op: Opcode, mode32: bool) -> str | None:
    """The name of the CPUID bit that the guest does not see, if `op` needs one."""
    p, o, reg, register = op.mandatory, op.opcode, op.reg, op.is_register
    if op.table == 1:
        vex = not mode32 or register
        return {0xC4: "AVX", 0xC5: "AVX", 0x62: "AVX512"}.get(o) if vex else None
    if op.table == 0x0F:
        if o == 0x01:
            return _0F01.get(op.modrm or 0)
        if o in (0x20, 0x22) and reg == 0 and 0xF0 in op.prefixes:
            return "CR8_LEGACY"  # AMD's MOV CR8 for 32-bit code
        if o in (0x0F, 0x0E):
            return "3DNOW"
        if (o == 0x2B and p in (0xF2, 0xF3)) or (o in (0x78, 0x79) and p in (0x66, 0xF2)):
            return "SSE4A"
        if o == 0xAE:
            if register:
                if p == 0xF3:
                    return "FSGSBASE" if reg < 4 else "CET" if reg == 5 else "WAITPKG" if reg == 6 else "PTWRITE"
                return "WAITPKG" if reg == 6 and p else None
            names = {(0, 4): "XSAVE", (0, 5): "XSAVE", (0, 6): "XSAVEOPT", (0x66, 6): "CLWB", (0x66, 7): "CLFLUSHOPT"}
            return (names | {(0xF3, 4): "PTWRITE", (0xF3, 6): "CET"}).get((p, reg))
        if o == 0xC7:
            if register:
                return {6: "RDRAND", 7: "RDPID" if p == 0xF3 else "RDSEED"}.get(reg)
            return "XSAVE" if reg in (3, 4, 5) else "VMX" if reg >= 6 else None
        return None
    if op.table == 0x38:
        if o in (0x80, 0x81, 0x82) and p == 0x66:
            return "INVPCID" if o == 0x82 else "VMX"
        if 0xC8 <= o <= 0xCD and p == 0:
            return "SHA"
        if 0xDB <= o <= 0xDF and p == 0x66:
            return "AES"
        if 0xD8 <= o <= 0xDF and p == 0xF3:
            return "KEYLOCKER"
        if o == 0xCF and p == 0x66:
            return "GFNI"
        if o == 0xF6:
            return {0x66: "ADX", 0xF3: "ADX", 0: "CET"}.get(p)
        return {0xF5: "CET", 0xF8: "MOVDIR64B", 0xF9: "MOVDIRI"}.get(o)
    if o == 0x44 and p == 0x66:
        return "PCLMUL"
    if o == 0xDF and p == 0x66:
        return "AES"
    if o in (0xCE, 0xCF) and p == 0x66:
        return "GFNI"
    return "SHA" if o == 0xCC and p == 0 else None


def stands_for(op: Opcode) -> int | None:
    """TZCNT and LZCNT, unknown, are BSF and BSR with a prefix that means nothing: DS's instead of F3."""
    return 0x3E if op.table == 0x0F and op.opcode in (0xBC, 0xBD) and 0xF3 in op.prefixes else None
