# SPDX-License-Identifier: GPL-2.0-or-later
"""The x87 as the processor has it: results, status word, stack, what is pending. The values are a processor's."""

from __future__ import annotations

import platform
import struct
from collections.abc import Iterator

import pytest

from pvhv.machine.cpustate import RBX, RIP
from tests.engine.test_float import vectors
from tests.machine.lab import CODE, DATA, Lab

MF = 16
IMAGE, SAVED, OPERAND = DATA + 0x200, DATA + 0x400, DATA + 0x800
FXRSTOR, FXSAVE = (code + at.to_bytes(4, "little").hex() for code, at in (("0fae0c25", IMAGE), ("0fae0425", SAVED)))


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


def number(text: str) -> bytes:
    """As FXSAVE has it."""
    exponent, significand = text.split("_")
    return struct.pack("<QH", int(significand, 16), int(exponent, 16))


_NUMBERS = """\
0 0000_0000000000000000
1 3fff_8000000000000000
-1 bfff_8000000000000000
3 4000_c000000000000000
1/3 3ffd_aaaaaaaaaaaaaaab
2/3 3ffe_aaaaaaaaaaaaaaab
1.5 3fff_c000000000000000
huge 7ffe_ffffffffffffffff
least 0001_8000000000000000
tiny 0000_0000000000000001
pseudo 0000_8000000000000000
inf 7fff_8000000000000000
qnan 7fff_c000000000000001
qnan2 ffff_e000000000000000
snan 7fff_8000000000000001
unnormal 4000_4000000000000000
2^31 401e_8000000000000000
2^63 403e_8000000000000000
10^18 403a_de0b6b3a76400000
2^70 4045_8000000000000000
"""
NUMBERS = {name: number(text) for name, text in map(str.split, _NUMBERS.splitlines())}


class After:
    """What FXSAVE has after an instruction, and whether there was #MF at the FWAIT behind it."""

    def __init__(self, lab: Lab, code: str, control: int, *stack: str) -> None:
        image = bytearray(512)
        tags = sum(1 << n for n, name in enumerate(stack) if name != "empty")
        struct.pack_into("<HHBxHQQI", image, 0, control, 0, tags, 0, 0, 0, 0x1F80)
        for n, name in enumerate(stack):
            image[32 + 16 * n : 42 + 16 * n] = NUMBERS.get(name, NUMBERS["1.5"])
        lab.ram.bytes[IMAGE : IMAGE + 512] = image
        lab.ram.bytes[OPERAND : OPERAND + 16] = b"\xee" * 16
        lab.state[RBX] = OPERAND
        seen = vectors(lab)
        at = lab.put(FXRSTOR + code + "9b0f05")
        lab.run(at)
        assert seen in ([], [MF])
        self.trapped = seen == [MF]
        if self.trapped:
            assert lab.state[RIP] == at + 8 + len(code) // 2
        lab.run(lab.put(FXSAVE + "0f05", CODE + 0x1000))
        saved = bytes(lab.ram.bytes[SAVED : SAVED + 512])
        self.control, self.status, self.tags = struct.unpack_from("<HHB", saved)
        significand, exponent = struct.unpack_from("<QH", saved, 32)
        self.st0 = exponent << 64 | significand
        self.memory = bytes(lab.ram.bytes[OPERAND : OPERAND + 10]).hex()


@pytest.mark.parametrize(
    ("code", "control", "st0", "st1", "trapped", "status", "tags", "result"),
    [
        ("d8c1", 0x37f, "1/3", "1", False, 0x0220, 0x03, 0x3fff_aaaaaaaaaaaaaaab),  # fadd
        ("d8c1", 0x77f, "1/3", "1", False, 0x0020, 0x03, 0x3fff_aaaaaaaaaaaaaaaa),  # fadd
        ("d8c1", 0xb7f, "1/3", "1", False, 0x0220, 0x03, 0x3fff_aaaaaaaaaaaaaaab),  # fadd
        ("d8c1", 0x27f, "1/3", "1", False, 0x0020, 0x03, 0x3fff_aaaaaaaaaaaaa800),  # fadd
        ("d8c1", 0x7f, "1/3", "1", False, 0x0220, 0x03, 0x3fff_aaaaab0000000000),  # fadd
        ("d8c1", 0x37f, "huge", "huge", False, 0x0228, 0x03, 0x7fff_8000000000000000),  # fadd
        ("d8c1", 0x37f, "tiny", "1", False, 0x0022, 0x03, 0x3fff_8000000000000000),  # fadd
        ("d8c1", 0x37f, "pseudo", "pseudo", False, 0x0002, 0x03, 0x0002_8000000000000000),  # fadd
        ("d8c1", 0x37f, "qnan", "qnan2", False, 0x0000, 0x03, 0xffff_e000000000000000),  # fadd
        ("d8c1", 0x37f, "snan", "qnan2", False, 0x0001, 0x03, 0xffff_e000000000000000),  # fadd
        ("d8c1", 0x37f, "snan", "snan", False, 0x0001, 0x03, 0x7fff_c000000000000001),  # fadd
        ("d8c1", 0x37f, "unnormal", "1", False, 0x0001, 0x03, 0xffff_c000000000000000),  # fadd
        ("d8c1", 0x37f, "empty", "1", False, 0x0041, 0x03, 0xffff_c000000000000000),  # fadd
        ("d8c1", 0x37f, "1", "empty", False, 0x0041, 0x01, 0xffff_c000000000000000),  # fadd
        ("d8c1", 0x37f, "qnan2", "empty", False, 0x0041, 0x01, 0xffff_c000000000000000),  # fadd
        ("d8e1", 0x37f, "inf", "inf", False, 0x0001, 0x03, 0xffff_c000000000000000),  # fsub
        ("d8c9", 0x37f, "least", "1/3", False, 0x0230, 0x03, 0x0000_2aaaaaaaaaaaaaab),  # fmul
        ("d8c9", 0x37f, "least", "1.5", False, 0x0000, 0x03, 0x0001_c000000000000000),  # fmul
        ("d8c9", 0x37f, "tiny", "tiny", False, 0x0032, 0x03, 0x0000_0000000000000000),  # fmul
        ("d8f1", 0x37f, "1", "0", False, 0x0004, 0x03, 0x7fff_8000000000000000),  # fdiv
        ("d8f1", 0x37f, "tiny", "0", False, 0x0004, 0x03, 0x7fff_8000000000000000),  # fdiv
        ("d8f1", 0x37f, "0", "0", False, 0x0001, 0x03, 0xffff_c000000000000000),  # fdiv
        ("d8f1", 0x37f, "inf", "0", False, 0x0000, 0x03, 0x7fff_8000000000000000),  # fdiv
        ("d8f1", 0x37f, "1", "3", False, 0x0220, 0x03, 0x3ffd_aaaaaaaaaaaaaaab),  # fdiv
        ("d9fa", 0x37f, "-1", "0", False, 0x0001, 0x03, 0xffff_c000000000000000),  # fsqrt
        ("d9fa", 0x37f, "3", "0", False, 0x0220, 0x03, 0x3fff_ddb3d742c265539e),  # fsqrt
        ("d9fc", 0x37f, "1.5", "0", False, 0x0220, 0x03, 0x4000_8000000000000000),  # frndint
        ("d9fc", 0xf7f, "1.5", "0", False, 0x0020, 0x03, 0x3fff_8000000000000000),  # frndint
        ("d9fc", 0x37f, "tiny", "0", False, 0x0022, 0x03, 0x0000_0000000000000000),  # frndint
        ("d8d1", 0x37f, "1", "qnan", False, 0x4501, 0x03, 0x3fff_8000000000000000),  # fcom
        ("dde1", 0x37f, "1", "qnan", False, 0x4500, 0x03, 0x3fff_8000000000000000),  # fucom
        ("dde1", 0x37f, "1", "snan", False, 0x4501, 0x03, 0x3fff_8000000000000000),  # fucom
        ("d8d1", 0x37f, "tiny", "1", False, 0x0102, 0x03, 0x0000_0000000000000001),  # fcom
        ("d8d1", 0x37f, "1", "empty", False, 0x4541, 0x01, 0x3fff_8000000000000000),  # fcom
        ("d8d1", 0x37f, "least", "pseudo", False, 0x4002, 0x03, 0x0001_8000000000000000),  # fcom
        ("d9e5", 0x37f, "empty", "0", False, 0x4100, 0x02, 0x3fff_c000000000000000),  # fxam
        ("d9e5", 0x37f, "unnormal", "0", False, 0x0000, 0x03, 0x4000_4000000000000000),  # fxam
        ("d9e5", 0x37f, "qnan2", "0", False, 0x0300, 0x03, 0xffff_e000000000000000),  # fxam
        ("d9c9", 0x37f, "1", "empty", False, 0x0041, 0x03, 0xffff_c000000000000000),  # fxch
        ("ddd2", 0x37f, "1", "0", False, 0x0000, 0x07, 0x3fff_8000000000000000),  # fst st(2)
        ("ddd2", 0x37f, "empty", "0", False, 0x0041, 0x06, 0x3fff_c000000000000000),  # fst st(2)
        ("d9c1", 0x37f, "1", "3", False, 0x3800, 0x83, 0x4000_c000000000000000),  # fld st(1)
        ("d9c1", 0x37f, "1", "empty", False, 0x3841, 0x81, 0xffff_c000000000000000),  # fld st(1)
        ("d9e0", 0x37f, "empty", "0", False, 0x0041, 0x03, 0xffff_c000000000000000),  # fchs
        ("d9e0", 0x37f, "snan", "0", False, 0x0000, 0x03, 0xffff_8000000000000001),  # fchs
        ("dac9", 0x37f, "1", "empty", False, 0x0041, 0x01, 0xffff_c000000000000000),  # fcmove
        ("d9eb", 0x77f, "1", "0", False, 0x3800, 0x83, 0x4000_c90fdaa22168c234),  # fldpi
        ("d9eb", 0x37f, "1", "0", False, 0x3800, 0x83, 0x4000_c90fdaa22168c235),  # fldpi
        ("ddc0", 0x37f, "1", "0", False, 0x0000, 0x02, 0x3fff_8000000000000000),  # ffree
        ("d9f8", 0x37f, "2^70", "3", False, 0x0400, 0x03, 0x401f_8000000000000000),  # fprem
        ("d9f5", 0x37f, "1.5", "1", False, 0x4000, 0x03, 0xbffe_8000000000000000),  # fprem1
        ("d9fd", 0x37f, "1/3", "3", False, 0x0000, 0x03, 0x4000_aaaaaaaaaaaaaaab),  # fscale
        ("d9f4", 0x37f, "0", "0", False, 0x3804, 0x83, 0x0000_0000000000000000),  # fxtract
        ("d9f0", 0x37f, "1/3", "0", False, 0x0220, 0x03, 0x3ffd_85145f31ae515c45),  # f2xm1
        ("d8c1", 0x35f, "1/3", "1", True, 0x82a0, 0x03, 0x3fff_aaaaaaaaaaaaaaab),  # fadd
        ("dec1", 0x35f, "1/3", "1", True, 0x8aa0, 0x02, 0x3fff_aaaaaaaaaaaaaaab),  # faddp
        ("d8f1", 0x37b, "1", "0", True, 0x8084, 0x03, 0x3fff_8000000000000000),  # fdiv
        ("def9", 0x37b, "0", "1", True, 0x8084, 0x03, 0x0000_0000000000000000),  # fdivp
        ("d8c1", 0x37e, "snan", "1", True, 0x8081, 0x03, 0x7fff_8000000000000001),  # fadd
        ("d8c1", 0x37e, "empty", "1", True, 0x80c1, 0x02, 0x3fff_c000000000000000),  # fadd
        ("d8c1", 0x37d, "tiny", "1", True, 0x8082, 0x03, 0x0000_0000000000000001),  # fadd
        ("d8c9", 0x377, "huge", "3", True, 0x80a8, 0x03, 0x2000_bfffffffffffffff),  # fmul
        ("d8c9", 0x36f, "least", "1/3", True, 0x8090, 0x03, 0x5fff_aaaaaaaaaaaaaaab),  # fmul
        ("dbf1", 0x37e, "1", "qnan", True, 0x8081, 0x03, 0x3fff_8000000000000000),  # fcomi
        ("d9eb", 0x37e, "1", "1", False, 0x3800, 0x83, 0x4000_c90fdaa22168c235),  # fldpi
        ("d9fa", 0x37e, "-1", "0", True, 0x8081, 0x03, 0xbfff_8000000000000000),  # fsqrt
        ("d9f0", 0x35f, "1/3", "0", True, 0x82a0, 0x03, 0x3ffd_85145f31ae515c45),  # f2xm1
    ],
)  # fmt: skip
def test_an_instruction_on_registers(
    lab: Lab, code: str, control: int, st0: str, st1: str, trapped: bool, status: int, tags: int, result: int
) -> None:
    if code in BY_THE_HOST and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("only a host with an x87 has these exactly")
    after = After(lab, code, control, st0, st1)
    assert (after.trapped, hex(after.status), hex(after.tags), hex(after.st0)) == (
        trapped, hex(status), hex(tags), hex(result),
    )  # fmt: skip


BY_THE_HOST = "d9f0 d9f4 d9f5 d9f8 d9fd".split()


@pytest.mark.parametrize(
    ("code", "control", "st0", "trapped", "status", "tags", "memory"),
    [
        ("d913", 0x37f, "1/3", False, 0x0220, 0x01, "abaaaa3eeeeeeeeeeeee"),  # fst m32
        ("d913", 0x37f, "snan", False, 0x0001, 0x01, "0000c07feeeeeeeeeeee"),  # fst m32
        ("d913", 0x37f, "huge", False, 0x0228, 0x01, "0000807feeeeeeeeeeee"),  # fst m32
        ("d913", 0x37f, "empty", False, 0x0041, 0x00, "0000c0ffeeeeeeeeeeee"),  # fst m32
        ("dd13", 0x37f, "1/3", False, 0x0020, 0x01, "555555555555d53feeee"),  # fst m64
        ("dd13", 0xf7f, "2/3", False, 0x0020, 0x01, "555555555555e53feeee"),  # fst m64
        ("d913", 0x377, "huge", True, 0x8088, 0x01, "eeeeeeeeeeeeeeeeeeee"),  # fst m32
        ("d913", 0x35f, "1/3", True, 0x82a0, 0x01, "abaaaa3eeeeeeeeeeeee"),  # fst m32
        ("df13", 0x37f, "2^31", False, 0x0001, 0x01, "0080eeeeeeeeeeeeeeee"),  # fist m16
        ("db13", 0x37f, "2^31", False, 0x0001, 0x01, "00000080eeeeeeeeeeee"),  # fist m32
        ("db13", 0x37f, "1.5", False, 0x0220, 0x01, "02000000eeeeeeeeeeee"),  # fist m32
        ("db13", 0xf7f, "1.5", False, 0x0020, 0x01, "01000000eeeeeeeeeeee"),  # fist m32
        ("df3b", 0x37f, "2^63", False, 0x0801, 0x00, "0000000000000080eeee"),  # fistp m64
        ("db0b", 0x37f, "1.5", False, 0x0820, 0x00, "01000000eeeeeeeeeeee"),  # fisttp m32
        ("db0b", 0x37f, "2^31", False, 0x0801, 0x00, "00000080eeeeeeeeeeee"),  # fisttp m32
        ("db1b", 0x37e, "2^31", True, 0x8081, 0x01, "eeeeeeeeeeeeeeeeeeee"),  # fistp m32
        ("df33", 0x37f, "10^18", False, 0x0801, 0x00, "00000000000000c0ffff"),  # fbstp
        ("df33", 0x37f, "2/3", False, 0x0a20, 0x00, "01000000000000000000"),  # fbstp
        ("db3b", 0x37f, "empty", False, 0x0841, 0x00, "00000000000000c0ffff"),  # fstp m80
    ],
)  # fmt: skip
def test_a_store(
    lab: Lab, code: str, control: int, st0: str, trapped: bool, status: int, tags: int, memory: str
) -> None:
    after = After(lab, code, control, st0)
    assert (after.trapped, hex(after.status), hex(after.tags), after.memory) == (
        trapped, hex(status), hex(tags), memory,
    )  # fmt: skip


DIVIDE = "d9e8d9eedef9"  # FLD1, FLDZ, FDIVP


@pytest.mark.parametrize("waiting", ["9b", "d9e8", "d8c0", "0f6fc1", "0f77", "660f2cc0", "d9d0"])
def test_what_is_pending_is_raised_at_the_next_that_waits(lab: Lab, waiting: str) -> None:
    lab.ram.bytes[OPERAND : OPERAND + 2] = (0x37B).to_bytes(2, "little")
    lab.state[RBX] = OPERAND
    seen = vectors(lab)
    # FLDCW; then what does not wait: FNSTSW AX, FNSTCW, and an SSE instruction.
    before = "dbe3d92b" + DIVIDE + "dfe0d93b0f58c1"
    at = lab.put(before + waiting + "0f05")
    lab.run(at)
    assert seen == [MF] and lab.state[RIP] == at + len(before) // 2
    assert lab.state[0] & 0x80FF == 0x8084


@pytest.mark.parametrize("clearing", ["dbe2", "dbe3"])  # FNCLEX, FNINIT
def test_what_is_pending_can_be_forgotten(lab: Lab, clearing: str) -> None:
    lab.ram.bytes[OPERAND : OPERAND + 2] = (0x37B).to_bytes(2, "little")
    lab.state[RBX] = OPERAND
    seen = vectors(lab)
    lab.run(lab.put("dbe3d92b" + DIVIDE + clearing + "9bd9e80f05"))
    assert seen == []


def test_unmasking_what_has_been_raised_makes_it_pending(lab: Lab) -> None:
    lab.ram.bytes[OPERAND : OPERAND + 2] = (0x37B).to_bytes(2, "little")
    lab.state[RBX] = OPERAND
    seen = vectors(lab)
    before = "dbe3" + DIVIDE + "d92b"
    at = lab.put(before + "d9e80f05")
    lab.run(at)
    assert seen == [MF] and lab.state[RIP] == at + len(before) // 2


def test_nine_loads_are_one_too_many(lab: Lab) -> None:
    after = After(lab, "d9e8" * 9, 0x37F)
    assert (after.status, after.tags, after.st0) == (0x3A41, 0xFF, 0xFFFF_C000000000000000)


@pytest.mark.parametrize("prefix", ["", "48"])
def test_an_image_is_written_and_read_in_one_format(lab: Lab, prefix: str) -> None:
    after = After(lab, "dbe3d9e8d9eb" + prefix + "dd33" + prefix + "dd23", 0x37F)  # FNSAVE, FRSTOR
    assert (after.status, after.tags, after.st0) == (0x3000, 0xC0, 0x4000_C90FDAA22168C235)
    assert struct.unpack_from("<QH", lab.ram.bytes, OPERAND + 38) == (1 << 63, 0x3FFF)


def test_mmx_makes_the_registers_its_own(lab: Lab) -> None:
    after = After(lab, "d9e8" + "0f3800c1", 0x37F)  # FLD1, PSHUFB mm0, mm1: SSSE3's too
    assert (after.status, after.tags, after.st0 >> 64) == (0, 0xFF, 0xFFFF)
    after = After(lab, "d9e8" + "0f77", 0x37F)
    assert (after.status, after.tags) == (0, 0)


def test_flags_and_masks_go_with_the_context(lab: Lab) -> None:
    """Two vCPUs on a pCPU: one divides by zero with that unmasked, both in SSE and in x87; the other masks it."""
    pcpu, seen = lab.pcpu, vectors(lab)
    lab.ram.bytes[OPERAND : OPERAND + 6] = struct.pack("<HI", 0x37B, 0x1D80)
    lab.state[RBX] = OPERAND
    fresh = pcpu.save()
    unmask = lab.put("dbe3d92b0fae5302" + "0f05")
    lab.run(unmask)
    unmasked = pcpu.save()
    fpu = pcpu.fpu_save()

    pcpu.load(fresh)
    divide = lab.put("0f57c0 b801000000 f30f2ac8 f30f5ec8".replace(" ", "") + DIVIDE + "9b0f05", CODE + 0x1000)
    lab.run(divide)
    assert seen == []
    masked = pcpu.save()

    pcpu.load(unmasked)
    lab.run(divide)
    assert seen == [19]
    pcpu.load(masked)
    lab.run(lab.put("0fae5b10dfe00f05", CODE + 0x2000))
    assert struct.unpack_from("<I", lab.ram.bytes, OPERAND + 16) == (0x1F84,) and lab.state[0] & 0xFF == 0x04

    pcpu.fpu_load(fpu)
    lab.run(divide)
    assert seen == [19, 19]
    lab.run(lab.put(DIVIDE + "9b0f05", CODE + 0x3000))
    assert seen == [19, 19, MF]
