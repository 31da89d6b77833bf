# SPDX-License-Identifier: GPL-2.0-or-later
"""Floating point as the processor has it: results, flags, and what is not masked. The values are a processor's."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest

from pvhv.machine import svm
from pvhv.machine.cpustate import EFLAGS, RAX, RBX, RDX, RIP, RSI
from tests.machine.lab import CODE, DATA, HOLE, Done, Lab

XF = 19
IE, DE, ZE, OE, UE, PE = (1 << n for n in range(6))
MASKED = 0x1F80
DAZ, FTZ = 0x40, 0x8000
XMM = 824  # byte offset of the registers in the state, 64 bytes each
MXCSR = DATA + 0x100  # where a test has it loaded from, and stored


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


def vectors(lab: Lab) -> list[int]:
    """The exceptions that end a run from now on."""
    seen: list[int] = []

    def handler(vector: int) -> None:
        seen.append(vector)
        raise Done

    def of(vector: int) -> Callable[[], None]:
        return lambda: handler(vector)

    for vector in range(32):
        lab.pcpu.on_exception[vector] = of(vector)
    return seen


def put_mxcsr(lab: Lab, value: int) -> None:
    struct.pack_into("<I", lab.ram.bytes, MXCSR, value)


def get_mxcsr(lab: Lab) -> int:
    """As STMXCSR has it, executed after the run."""
    at = lab.put("0fae1c25" + MXCSR.to_bytes(4, "little").hex() + "0f05", CODE + 0x1000)
    lab.run(at)
    value: int = struct.unpack_from("<I", lab.ram.bytes, MXCSR)[0]
    return value


def sse(lab: Lab, code: str, mxcsr: int, a: bytes, b: bytes) -> tuple[int | None, int, bytes]:
    """One instruction on xmm0 = a and xmm1 = b: the exception, MXCSR and xmm0 afterwards."""
    seen = vectors(lab)
    put_mxcsr(lab, mxcsr)
    registers = lab.state.cast("B")
    registers[XMM : XMM + 16], registers[XMM + 64 : XMM + 80] = a.ljust(16, b"\0"), b.ljust(16, b"\0")
    lab.state[RBX] = DATA
    at = lab.put("0fae1425" + MXCSR.to_bytes(4, "little").hex() + code + "0f05")
    lab.run(at)
    if seen:
        assert lab.state[RIP] == at + 8
    return seen[0] if seen else None, get_mxcsr(lab), bytes(registers[XMM : XMM + 16])


def f64(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


TINY = 5e-324
DIVSD, MULSD, ADDSD, CVTSD2SS = "f20f5ec1", "f20f59c1", "f20f58c1", "f20f5ac1"


@pytest.mark.parametrize(
    ("code", "a", "b", "flags"),
    [
        (DIVSD, 1.0, 3.0, PE), (DIVSD, 1.0, 2.0, 0), (DIVSD, 1.0, 0.0, ZE), (DIVSD, 0.0, 0.0, IE),
        (DIVSD, TINY, 0.0, ZE), (DIVSD, 0.0, TINY, DE), (MULSD, 1e308, 1e308, OE | PE),
        (MULSD, 1e-300, 1e-300, UE | PE), (MULSD, TINY, 2.0, DE), (ADDSD, TINY, float("nan"), 0),
        (ADDSD, TINY, float("inf"), DE), (CVTSD2SS, 0.0, 0.1, PE), ("f20f2cc1", 0.0, 1e20, IE),
        ("f20f2cc1", 0.0, 1.5, PE), ("f20f2cc1", 0.0, TINY, PE), ("f20f51c1", 0.0, -1.0, IE),
        ("660f2fc1", float("nan"), 1.0, IE), ("660f2ec1", float("nan"), 1.0, 0), ("660f2fc1", TINY, 1.0, DE),
        ("f20fc2c101", TINY, 1.0, DE), ("f20f5dc1", TINY, 1.0, DE), ("660f3a0bc108", 0.0, 1.5, 0),
        ("660f3a0bc100", 0.0, 1.5, PE), ("f30f53c1", 0.0, 0.0, 0),
    ],
)  # fmt: skip
def test_the_flags_of_an_operation_are_in_mxcsr(lab: Lab, code: str, a: float, b: float, flags: int) -> None:
    assert sse(lab, code, MASKED, f64(a), f64(b))[:2] == (None, MASKED | flags)


@pytest.mark.parametrize(
    ("code", "a", "b", "unmasked", "flags"),
    [
        (DIVSD, 1.0, 3.0, PE, PE), (DIVSD, 1.0, 0.0, ZE, ZE), (DIVSD, 0.0, 0.0, IE, IE), (MULSD, TINY, 2.0, DE, DE),
        (MULSD, 1e308, 1e308, OE, OE | PE), (MULSD, 1.7e308, 2.0, OE, OE),
        (MULSD, 2.2250738585072014e-308, 0.5, UE, UE), ("f20f2cc1", 0.0, 1e20, IE, IE),
        ("660f2fc1", float("nan"), 1.0, IE, IE),
    ],
)  # fmt: skip
def test_what_is_not_masked_traps_and_changes_nothing(
    lab: Lab, code: str, a: float, b: float, unmasked: int, flags: int
) -> None:
    mxcsr = MASKED & ~(unmasked << 7)
    lab.state[RAX], lab.state[EFLAGS] = 0x1234, 0x257
    assert sse(lab, code, mxcsr, f64(a), f64(b)) == (XF, mxcsr | flags, f64(a, 0))


def test_what_is_not_masked_does_not_trap_by_a_flag_that_was_there(lab: Lab) -> None:
    assert sse(lab, DIVSD, ZE, f64(1.0), f64(2.0)) == (None, ZE, f64(0.5, 0))


def test_without_osxmmexcpt_it_is_an_undefined_opcode(lab: Lab) -> None:
    lab.state[57] &= ~0x400
    assert sse(lab, DIVSD, 0, f64(1.0), f64(3.0)) == (svm.UD, PE, f64(1.0, 0))


@pytest.mark.parametrize(
    ("mxcsr", "b", "result", "flags"),
    [(MASKED, 0.25, 5.562684646268003e-309, 0), (MASKED | FTZ, 0.25, 0.0, UE | PE), (MASKED | DAZ, TINY, 0.0, 0)],
)
def test_denormals_and_zeroes(lab: Lab, mxcsr: int, b: float, result: float, flags: int) -> None:
    assert sse(lab, MULSD, mxcsr, f64(2.2250738585072014e-308), f64(b)) == (None, mxcsr | flags, f64(result, 0))


def test_of_two_nans_the_first_is_taken(lab: Lab) -> None:
    quiet, signalling = bytes.fromhex("010000000000f87f"), bytes.fromhex("fffffffffffff7ff")
    assert sse(lab, ADDSD, MASKED, quiet, signalling) == (None, MASKED | IE, quiet + bytes(8))
    assert sse(lab, ADDSD, MASKED, signalling, quiet)[2] == bytes.fromhex("ffffffffffffffff") + bytes(8)


@pytest.mark.parametrize("code", ["0fae1425", "0fae0c25"])  # LDMXCSR, FXRSTOR
def test_reserved_bits_of_mxcsr_are_refused(lab: Lab, code: str) -> None:
    seen = vectors(lab)
    where = DATA + 0x200
    lab.ram.bytes[where : where + 512] = bytes(512)
    for offset in (0, 24):
        struct.pack_into("<I", lab.ram.bytes, where + offset, 0x10000)
    lab.run(lab.put(code + where.to_bytes(4, "little").hex() + "0f05"))
    assert seen == [svm.GP]
    assert get_mxcsr(lab) == MASKED


ALIGNED = "0f28 0f29 660f6f 660f7f 660fe7 0f2b 0f58 660fef 660f5b f30f16 660f3800 660f3a0f f20f7c".split()
UNALIGNED = "0f10 0f11 660f10 f30f6f f30f7f f20ff0 660f3a63 f30f58 f20f59 0f5a f30fe6 0f2d f20f12 660f3820".split()


@pytest.mark.parametrize("code", ALIGNED)
@pytest.mark.parametrize("address", [DATA + 1, DATA + 8, HOLE + 8])
def test_an_operand_of_sixteen_bytes_is_aligned(lab: Lab, code: str, address: int) -> None:
    seen = vectors(lab)
    lab.state[RBX] = address
    lab.run(lab.put(code + "03" + ("00" if "3a" in code else "") + "0f05"))
    assert seen == [svm.GP]


@pytest.mark.parametrize("code", UNALIGNED)
def test_other_operands_need_not_be(lab: Lab, code: str) -> None:
    seen = vectors(lab)
    lab.state[RBX] = DATA + 1
    lab.run(lab.put(code + "03" + ("00" if "3a" in code else "") + "0f05"))
    assert seen == []


@pytest.mark.parametrize("code", ["0f5a", "f30fe6", "0f2d", "660f3a0b"])  # CVTPS2PD, CVTDQ2PD, CVTPS2PI, ROUNDSD
def test_an_operand_of_eight_bytes_may_end_a_page(lab: Lab, code: str) -> None:
    seen = vectors(lab)
    lab.state[RBX] = HOLE - 8
    lab.run(lab.put(code + "03" + ("00" if "3a" in code else "") + "0f05"))
    assert seen == []


def test_a_load_that_faults_in_its_second_half_changes_nothing(lab: Lab) -> None:
    seen = vectors(lab)
    registers = lab.state.cast("B")
    registers[XMM : XMM + 16] = bytes(range(16))
    lab.state[RBX] = HOLE - 8
    lab.run(lab.put("0f10030f05"))
    assert seen == [svm.PF] and bytes(registers[XMM : XMM + 16]) == bytes(range(16))


@pytest.mark.parametrize(
    ("length", "index"),
    [(16, 14), (-16, 14), (0x8000_0000, 14), (15, 16), (0, 16)],
)
def test_a_string_comparison_takes_any_length(lab: Lab, length: int, index: int) -> None:
    seen = vectors(lab)
    registers = lab.state.cast("B")
    registers[XMM : XMM + 16] = b"xyz".ljust(16)
    registers[XMM + 64 : XMM + 80] = b"0123456789abcdxy"
    lab.state[RAX], lab.state[RDX] = 3, length & 0xFFFF_FFFF
    lab.run(lab.put("660f3a61c10c 4889ce 0f05".replace(" ", "")))  # PCMPESTRI xmm0, xmm1, equal ordered; MOV RSI, RCX
    assert seen == [] and lab.state[RSI] == index
