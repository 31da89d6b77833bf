# SPDX-License-Identifier: GPL-2.0-or-later
"""The layout of the engine's CPU state: names for its words, checked at start-up.

The engine's state of one CPU is a C structure (QEMU's CPUX86State).  The numbers below are its layout in unicorn 2.1.x
on 64-bit hosts.  They are not trusted: `check_layout` writes patterns through the public API and checks where they
arrive in a saved context, `find_live` finds the structure itself in memory and checks both directions, and proof.py
raises known faults before any guest runs.  A mismatch raises `EngineUnsupported` with the name of the register that was
not at its place.

Invariant: after `check_layout` returned, `state[NAME]` is the register NAME, for every NAME here.

It does not know what values mean to a guest.  Read beside it: unicorn's
qemu/target/i386/cpu.h (struct CPUX86State) and include/uc_priv.h (struct uc_struct).
"""

from __future__ import annotations

import ctypes
import struct
from ctypes import c_void_p
from typing import Final

from pvhv.machine import engine as uc
from pvhv.machine.engine import Engine
from pvhv.machine.hostmem import read_safely

# --- indices of 64-bit words: state[RAX] -------------------------------------------------------
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)
RIP: Final = 16
EFLAGS: Final = 17  # RFLAGS, whole, while no guest code runs; else the next four hold parts of it (pacer_exits.h)
CC_DST: Final = 18
CC_SRC: Final = 19
CC_SRC2: Final = 20
CC_OP_DF: Final = 21  # cc_op in the low half; in the high half 1, or -1 when DF is set
HFLAGS: Final = 22  # hidden flags in the low half, more of them (hflags2) in the high half

# A segment is three words: selector, base, limit | flags << 32 (flags as in a descriptor's high word).
ES, CS, SS, DS, FS, GS, LDT, TR, GDT, IDT = range(23, 53, 3)
SELECTOR, BASE, LIMIT_FLAGS = 0, 1, 2
FS_BASE: Final = FS + BASE
GS_BASE: Final = GS + BASE

CR0, CR2, CR3, CR4 = 53, 55, 56, 57
EFER: Final = 74

# Where PCPU.save ends: integer state, segments, CRs, FPU and SSE (16 XMM registers) lie before it.
FPU_BEGIN: Final = 600
SAVED_BYTES: Final = 824 + 16 * 64

# --- indices of 32-bit words: aux[ERROR_CODE] --------------------------------------------------
AUX_EFLAGS: Final = EFLAGS * 2
AUX_CC_OP: Final = CC_OP_DF * 2
AUX_DF: Final = CC_OP_DF * 2 + 1
AUX_HFLAGS: Final = HFLAGS * 2
AUX_HFLAGS2: Final = HFLAGS * 2 + 1
ERROR_CODE: Final = 5384 // 4
EXCEPTION_IS_INT: Final = ERROR_CODE + 1
EXCEPTION_NEXT_RIP: Final = 5392 // 8  # a 64-bit word: behind the `int n`
OLD_EXCEPTION: Final = 5496 // 4
INTERCEPT_CR: Final = 5528 // 4  # reads in the low half, writes in the high
INTERCEPT_DR: Final = 5532 // 4
INTERCEPT_EXCEPTIONS: Final = 5536 // 4

# --- 64-bit words again ------------------------------------------------------------------------
DR0: Final = 5400 // 8
DR6, DR7 = DR0 + 6, DR0 + 7
VM_VMCB: Final = 5504 // 8
INTERCEPT: Final = 5520 // 8
NESTED_CR3: Final = 5544 // 8
NESTED_PG_MODE: Final = 5552 // 4  # a 32-bit word

# The part of the state that a context holds, and so the part that is looked at.
STATE_BYTES: Final = 5568

# --- hflags, eflags ----------------------------------------------------------------------------
HF_CPL: Final = 3
HF_CS32, HF_SS32, HF_PE = 1 << 4, 1 << 5, 1 << 7
HF_MP, HF_EM, HF_TS = 1 << 9, 1 << 10, 1 << 11
HF_LMA, HF_CS64 = 1 << 14, 1 << 15
HF_SVME, HF_GUEST, HF_OSFXSR, HF_SMAP, HF_IOBPT = 1 << 20, 1 << 21, 1 << 22, 1 << 23, 1 << 24
HF_INHIBIT_IRQ: Final = 1 << 3
HF_PV_KERNEL: Final = 1 << 29  # of the corrected engine: rings.py
HF2_NPT: Final = 1 << 38  # nested paging: bit 6 of hflags2

CC_OP_EFLAGS: Final = 1  # "the arithmetic flags are those in cc_src"
CF, PF, AF, ZF, SF, TF, IF, DF, OF = (1 << n for n in (0, 2, 4, 6, 7, 8, 9, 10, 11))
ARITHMETIC_FLAGS: Final = CF | PF | AF | ZF | SF | OF
IOPL: Final = 3 << 12
NT, RF, VM, AC = 1 << 14, 1 << 16, 1 << 17, 1 << 18


class EngineUnsupported(RuntimeError):
    """This build of the engine is not laid out as pvhv knows it; nothing can run on it."""

    def __init__(self, what: str) -> None:
        version = ".".join(map(str, uc.version()))
        super().__init__(
            f"this unicorn ({version}, {uc.path}) cannot carry pvhv: {what}. "
            "Install the version pvhv was proven with: pip install 'unicorn==2.1.4'"
        )


class Context:
    """A saved copy of the CPU state (uc_context), at address `data`."""

    def __init__(self, engine: Engine) -> None:
        pointer = c_void_p()
        uc.check("uc_context_alloc", uc.uc_context_alloc(engine.handle, ctypes.byref(pointer)))
        assert pointer.value is not None
        self.pointer: int = pointer.value
        self._engine = engine
        self._header = uc.uc_context_size(engine.handle) - STATE_BYTES
        if not 0 <= self._header <= 256:
            raise EngineUnsupported(f"a context has {self._header + STATE_BYTES} bytes")
        self.data: int = self.pointer + self._header

    def save(self) -> None:
        """Copy the engine's state into the context."""
        uc.check("uc_context_save", uc.uc_context_save(self._engine.handle, self.pointer))

    def restore(self) -> None:
        """Copy the context into the engine."""
        uc.check("uc_context_restore", uc.uc_context_restore(self._engine.handle, self.pointer))

    def image(self) -> bytes:
        """The engine's state now, as bytes."""
        self.save()
        return ctypes.string_at(self.data, STATE_BYTES)

    def __del__(self) -> None:
        if getattr(self, "pointer", 0):
            uc.uc_context_free(self.pointer)
            self.pointer = 0


def _word(image: bytes, index: int) -> int:
    return int.from_bytes(image[index * 8 : index * 8 + 8], "little")


def check_layout(engine: Engine) -> None:
    """Write every register the API can write, and look for it in a saved context. Raises EngineUnsupported."""
    before = Context(engine)
    original = before.image()
    scratch = Context(engine)

    def expect(name: str, index: int, value: int, mask: int = (1 << 64) - 1) -> None:
        got = _word(image, index) & mask
        if got != value & mask:
            raise EngineUnsupported(f"{name} is not at word {index} of its CPU state")

    def pattern(n: int) -> int:
        return 0x5A_0000_0000 + (n << 32) + 0x1357_9BDF - n

    for n, number in enumerate(uc.REGS_GENERAL):
        engine.set_register(number, pattern(n))
    singles = {"CR2": (uc.REG_CR2, CR2)}
    singles |= {"FS.base": (uc.REG_FS_BASE, FS_BASE), "GS.base": (uc.REG_GS_BASE, GS_BASE)}
    singles |= {f"DR{n}": (uc.REG_DR0 + n, DR0 + n) for n in range(4)}
    for n, (number, _) in enumerate(singles.values()):
        engine.set_register(number, pattern(40 + n))
    engine.set_register(uc.REG_RFLAGS, ARITHMETIC_FLAGS & ~ZF | DF | AC)
    engine.set_register(uc.REG_CR3, 0x1234_5000)
    engine.set_register(uc.REG_XMM0, pattern(60), pattern(61))
    engine.set_register(uc.REG_XMM0 + 15, pattern(62), pattern(63))
    # Table registers are written as {selector, base, limit, flags}; an MSR as {number, value}.
    tables = {"LDTR": (uc.REG_LDTR, LDT), "TR": (uc.REG_TR, TR)}
    tables |= {"GDTR": (uc.REG_GDTR, GDT), "IDTR": (uc.REG_IDTR, IDT)}
    for n, (number, _) in enumerate(tables.values()):
        engine.set_register(number, 0, pattern(70 + n), 0x777 + n)
    engine.set_register(uc.REG_MSR, 0xC000_0080, 0xD01)
    image = scratch.image()

    for n in range(16):
        expect(f"general register {n}", n, pattern(n))
    for n, (name, (_, index)) in enumerate(singles.items()):
        expect(name, index, pattern(40 + n))
    expect("EFLAGS", EFLAGS, AC, AC)
    expect("cc_src", CC_SRC, ARITHMETIC_FLAGS & ~ZF)
    expect("cc_op and df", CC_OP_DF, CC_OP_EFLAGS | 0xFFFF_FFFF << 32)
    expect("CR3", CR3, 0x1234_5000)
    expect("XMM0", 824 // 8, pattern(60))
    expect("XMM15", SAVED_BYTES // 8 - 8, pattern(62))
    for n, (name, (_, index)) in enumerate(tables.items()):
        expect(name, index + BASE, pattern(70 + n))
        expect(f"{name} limit", index + LIMIT_FLAGS, 0x777 + n, 0xFFFF_FFFF)
    expect("EFER", EFER, 0xD01)
    expect("hflags", HFLAGS, HF_LMA | HF_CS64 | HF_PE, HF_LMA | HF_CS64 | HF_PE)

    ctypes.memmove(before.data, original, STATE_BYTES)
    before.restore()
    uc.uc_ctl(engine.handle, uc.CTL_FLUSH_TLB)


# MSRs that are plain registers of the state: STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE.
PLAIN_MSRS: Final = (0xC000_0081, 0xC000_0082, 0xC000_0083, 0xC000_0084, 0xC000_0102)


def find_msrs(engine: Engine) -> dict[int, int]:
    """MSR -> the word of the state that holds it, found by writing each through the API."""
    before = Context(engine)
    original = before.image()
    scratch = Context(engine)
    found = {}
    for n, number in enumerate(PLAIN_MSRS):
        mark = 0x6B5A_0000_1357_0000 + n if number != 0xC000_0084 else 0x5A13_5700  # SFMASK has 32 bits
        engine.set_register(uc.REG_MSR, number, mark)
        at = scratch.image().find(struct.pack("<Q", mark))
        if at < 0 or at % 8:
            raise EngineUnsupported(f"MSR {number:#x} is not in its CPU state")
        found[number] = at // 8
    ctypes.memmove(before.data, original, STATE_BYTES)
    before.restore()
    return found


# (offset in the engine's own structure of the pointer to its CPU, offset of the state behind it),
# remembered from the first engine of the process: they are properties of the library.
_live_path: tuple[int, int] | None = None

_SEARCH_ENGINE = 8192
_SEARCH_CPU = 64 << 10


def find_live(engine: Engine) -> int | None:
    """The address of the CPU state itself, or None where it cannot be found (or read safely)."""
    global _live_path
    marks = [0xD15C_0000_7EA5_0000 + 0x9E37 * n for n in range(16)]
    saved = [engine.register(number) for number in uc.REGS_GENERAL]
    for number, mark in zip(uc.REGS_GENERAL, marks, strict=True):
        engine.set_register(number, mark)
    try:
        needle = struct.pack("<16Q", *marks)
        paths = [_live_path] if _live_path else []
        for path in paths:
            pointer = read_safely(engine.handle + path[0], 8)
            address = int.from_bytes(pointer, "little") + path[1] if pointer else 0
            if read_safely(address, len(needle)) == needle and _is_live(engine, address):
                return address
        image = read_safely(engine.handle, _SEARCH_ENGINE) or b""
        hits: list[tuple[int, int, int]] = []
        for offset in range(0, len(image), 8):
            pointer_value = _word(image, offset // 8)
            if not 0x10000 < pointer_value < 1 << 56 or pointer_value & 7:
                continue
            distance = _search(pointer_value, needle)
            if distance is not None and _is_live(engine, pointer_value + distance):
                hits.append((distance, offset, pointer_value + distance))
        if not hits:
            return None
        # Any pointer to earlier heap leads there by accident; the CPU's own is the nearest.
        distance, offset, address = min(hits)
        _live_path = offset, distance
        return address
    finally:
        for number, value in zip(uc.REGS_GENERAL, saved, strict=True):
            engine.set_register(number, value)


def _search(start: int, needle: bytes) -> int | None:
    """The offset of the pattern behind `start`, reading pages as long as they are mapped; None if not found."""
    seen = b""
    size = 4096 - start % 4096
    while len(seen) < _SEARCH_CPU:
        page = read_safely(start + len(seen), size)
        if page is None:
            break
        seen += page
        size = 16384
    at = seen.find(needle)
    return None if at < 0 else at


def _is_live(engine: Engine, address: int) -> bool:
    """Whether an address is the live state: writes by the API are read there, and the other way round."""
    r15 = uc.REGS_GENERAL[15]
    before = engine.register(r15)
    engine.set_register(r15, 0x0123_4567_89AB_CDEF)
    seen = read_safely(address + 8 * R15, 8)
    if seen is None or int.from_bytes(seen, "little") != 0x0123_4567_89AB_CDEF:
        engine.set_register(r15, before)
        return False
    word = ctypes.c_uint64.from_address(address + 8 * R15)
    word.value = before
    return engine.register(r15) == before


def find_no_exit_request(engine: Engine) -> int | None:
    """The address of uc_struct.no_exit_request, by the shape of its neighbourhood, or None.

    When it is set at translation, code checks for a stop at the start of each block only, and
    not after every memory access (in the middle of an instruction, which is then run twice).
    """
    image = read_safely(engine.handle, _SEARCH_ENGINE)
    if image is None:
        return None
    found = []
    for offset in range(0, len(image) - 64, 8):
        page, real_page, _line, content, size, _pad, _next_pc = struct.unpack_from("<QQiiiiQ", image, offset)
        bools = image[offset + 40 : offset + 44]
        if page == real_page and page in (4096, 16384, 65536) and content == 1 and size == STATE_BYTES:
            # hook_insert, first_tb, no_exit_request, init_done
            if bools[0] == 0 and bools[1] in (0, 1) and bools[2] == 0 and bools[3] == 1:
                found.append(engine.handle + offset + 42)
    return found[0] if len(found) == 1 else None
