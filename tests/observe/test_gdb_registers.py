# SPDX-License-Identifier: GPL-2.0-or-later
"""GDB's registers are those of the CPU state: found again through the engine's API, read and written by name."""

from __future__ import annotations

import struct
from xml.etree import ElementTree

import pytest
from unicorn import x86_const

from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.observe.gdb import registers
from pvhv.observe.gdb.registers import FEATURES, NUMBERS, REGISTERS, Refused
from tests.machine.lab import DATA, Lab


def image_with(*written: tuple[int, tuple[int, ...]]) -> memoryview:
    """The CPU state after these registers were written through the API."""
    engine = uc.Engine()
    for number, words in written:
        engine.set_register(number, *words)
    return memoryview(bytearray(cs.Context(engine).image()))


def value(name: str, image: memoryview) -> int:
    return int.from_bytes(REGISTERS[NUMBERS[name]].get(image), "little")


def put(name: str, image: memoryview, number: int) -> None:
    register = REGISTERS[NUMBERS[name]]
    register.put(image, number.to_bytes(register.bits // 8, "little"))


def test_they_lie_where_the_engine_has_them() -> None:
    general = {name.upper(): 0x1111_0000_0000_0000 + n for n, name in enumerate(registers.GENERAL)}
    image = image_with(
        *((getattr(x86_const, f"UC_X86_REG_{name}"), (number,)) for name, number in general.items()),
        (uc.REG_RIP, (0x7FFF_1234,)), (uc.REG_FS_BASE, (0x1000,)), (uc.REG_GS_BASE, (0x2000,)),
        (x86_const.UC_X86_REG_FPSW, (0x1A34,)), (x86_const.UC_X86_REG_FPCW, (0x27F,)),
        (uc.REG_MXCSR, (0x1FA0,)), (uc.REG_XMM0 + 3, (5, 6)),
        (x86_const.UC_X86_REG_FOP, (0x123,)), (x86_const.UC_X86_REG_FIP, (0x4567,)),
        (x86_const.UC_X86_REG_FDP, (0x89AB,)), (x86_const.UC_X86_REG_FCS, (0x33,)),
        (x86_const.UC_X86_REG_FDS, (0x2B,)), (x86_const.UC_X86_REG_FP0 + 4, (0x1122_3344_5566_7788, 0x4000)),
    )  # fmt: skip
    for name, number in general.items():
        assert value(name.lower(), image) == number
    assert [value(name, image) for name in ("rip", "fs_base", "gs_base")] == [0x7FFF_1234, 0x1000, 0x2000]
    assert [value(name, image) for name in ("fstat", "fctrl", "mxcsr")] == [0x1A34, 0x27F, 0x1FA0]
    assert value("xmm3", image) == 6 << 64 | 5
    assert [value(name, image) for name in ("fop", "fioff", "fooff", "fiseg", "foseg")] == [
        0x123, 0x4567, 0x89AB, 0x33, 0x2B,
    ]  # fmt: skip
    # The API's FP4 is physical register 4; the top is register 3.
    assert value("st1", image) == 0x4000 << 64 | 0x1122_3344_5566_7788
    assert value("ftag", image) & 3 << 8 in (0, 3 << 8)


def test_the_description_names_them_in_order() -> None:
    tree = ElementTree.fromstring(registers.description())
    assert tree.findtext("architecture") == "i386:x86-64"
    described = [(each.get("name"), int(each.get("bitsize", ""))) for each in tree.iter("reg")]
    assert described == [(register.name, register.bits) for register in REGISTERS]
    assert [feature.get("name") for feature in tree.iter("feature")] == list(FEATURES)
    known = {each.get("id") for kind in ("flags", "vector", "union") for each in tree.iter(kind)}
    used = {register.type for register in REGISTERS}
    assert used - known == {"int", "int32", "int64", "code_ptr", "data_ptr", "i387_ext"}
    names = [register.name for register in REGISTERS]
    assert names[:17] == "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip".split()
    assert names[17:24] == "eflags cs ss ds es fs gs".split() and names[24:32] == [f"st{n}" for n in range(8)]


def test_what_is_written_is_read() -> None:
    image = image_with()
    for register in REGISTERS:
        if register.name in registers.GENERAL or register.name.startswith(("st", "xmm")):
            number = int.from_bytes(bytes(range(1, register.bits // 8 + 1)), "little")
            put(register.name, image, number)
            assert value(register.name, image) == number
    assert len(b"".join(register.get(image) for register in REGISTERS)) == 276 + 16 * 16 + 4 + 16


def test_what_is_no_guests_to_write_is_kept() -> None:
    image = image_with((uc.REG_RFLAGS, (0x202,)))
    before = value("eflags", image)
    put("eflags", image, 0xFFFF_FFFF)
    assert value("eflags", image) & ~registers.SETTABLE_FLAGS == before & ~registers.SETTABLE_FLAGS
    assert value("eflags", image) & cs.ZF and not value("eflags", image) & (cs.IOPL | cs.VM)
    for name in ("rip", "fs_base", "gs_base"):
        put(name, image, 0xFFFF_8000_0000_0000)
        with pytest.raises(Refused):
            put(name, image, 0x8000_0000_0000)
        assert value(name, image) == 0xFFFF_8000_0000_0000
    for name in ("cs", "fs", "mxcsr", "fctrl", "ftag"):
        put(name, image, value(name, image))
        with pytest.raises(Refused):
            put(name, image, value(name, image) + 8)


def test_words_in_a_saved_context_too() -> None:
    """A vCPU that does not run has as much of the state as is saved: all registers are in it."""
    context = bytearray(cs.SAVED_BYTES)
    struct.pack_into("<Q", context, cs.RIP * 8, 0x1234)
    assert value("rip", memoryview(context)) == 0x1234
    assert value("xmm15", memoryview(context)) == 0


def test_what_was_raised_last_is_in_the_status_registers() -> None:
    lab = Lab()
    lab.ram.bytes[DATA : DATA + 16] = struct.pack("<dd", 1.0, 3.0)
    # FNINIT, FLD1, FDIV (rounded up: C1); MOVSD, DIVSD
    lab.state[cs.RBX] = DATA
    lab.run(lab.put("dbe3d9e8dc7308f20f1003f20f5e43080f05"))
    image = lab.state.cast("B")
    assert value("mxcsr", image) == 0x1FA0
    assert value("fstat", image) == 0x3A20
    lab.close()
