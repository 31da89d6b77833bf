# SPDX-License-Identifier: GPL-2.0-or-later
"""Opcodes that do not exist raise #UD, and those that do are read as the processor reads them.

The right values are a processor's (AMD, Zen 4); the enumerated map in this directory compares them all.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvhv.machine import svm
from pvhv.machine.cpustate import EFLAGS, RAX, RBX, RCX, RDX, RSP
from tests.engine.test_containment import outcome
from tests.machine.lab import USER_CODE, USER_DATA, Lab

XMM0 = 824 // 8


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


# rdrand rdseed rdpid aesenc aeskeygenassist pclmulqdq extrq movntsd rdtscp clwb clflushopt rdfsbase stac xgetbv monitor
# vmovaps andn shlx adcx sha1nexte invpcid 3dnow femms umonitor xsave
HIDDEN = (
    "0fc7f0 0fc7f8 f30fc7f8 660f38dcc1 660f3adfc100 660f3a44c100 660f79c1 f20f2b03 0f01f9 660fae33 660fae3b f3480faec0 "
    "0f01cb 0f01d0 0f01c8 c5f828c1 c4e270f2c1 c4e2f9f7c1 660f38f6c1 0f38c8c1 660f388203 0f0fc19e 0f0e "
    "f30faef0 0fae23"
).split()
# movmskps, pextrw, pmovmskb, maskmovq of memory; shifts of memory and of no kind; movntps, movntq of registers; a movbe
# of registers; bt /0; movq without a prefix; a far call of a register
WITHOUT_FORM = (
    "0f5003 0fc50300 0fd703 0ff703 0f711301 0f71c801 0f2bc1 0fe7c1 0f38f0c1 0f38f1c1 0fbac005 0fd6c1 ffd8 ffe8 660fc303"
).split()


@pytest.mark.parametrize("cpl", [1, 3])
@pytest.mark.parametrize("code", HIDDEN + WITHOUT_FORM)
def test_what_there_is_not_is_an_undefined_opcode(lab: Lab, code: str, cpl: int) -> None:
    assert outcome(lab, code, cpl) == svm.UD


def run(lab: Lab, code: str) -> None:
    lab.state[RBX] = USER_DATA
    lab.run(lab.put(code + "0f05", USER_CODE), 3)


@pytest.mark.parametrize(
    ("code", "rax"),
    [
        ("0fbcc1", 0x1111_2222_3333_4444),  # bsf eax, ecx of 0
        ("0fbdc1", 0x1111_2222_3333_4444),
        ("f30fbcc1", 0x1111_2222_3333_4444),  # tzcnt, which is hidden: bsf
        ("0fbcc2", 4),
        ("0fbdc2", 8),
        ("489f", 0x1111_2222_3333_0744 & ~0x0500 | 0x0300),  # lahf with REX: CF is set, and bit 1 always is
        ("f6c8ff", 0x1111_2222_3333_4444),  # test al, imm, the other one
    ],
)
def test_integer_results(lab: Lab, code: str, rax: int) -> None:
    lab.state[RAX], lab.state[RCX], lab.state[RDX] = 0x1111_2222_3333_4444, 0, 0x110
    lab.state[EFLAGS] = 0x203
    run(lab, code)
    assert lab.state[RAX] == rax


def test_sahf_with_rex_takes_ah(lab: Lab) -> None:
    lab.state[RAX], lab.state[RSP] = 0xD500, USER_DATA + 0x800
    run(lab, "489e 9c 5a")  # sahf; pushf; pop rdx
    assert lab.state[RDX] & 0xD7 == 0xD7


def test_the_immediate_of_ret_is_unsigned(lab: Lab) -> None:
    lab.state[RSP] = USER_DATA
    lab.ram.words[USER_DATA // 8] = USER_CODE + 0x100
    lab.put("0f05", USER_CODE + 0x100)
    run(lab, "c2 f0ff")
    assert lab.state[RSP] == USER_DATA + 8 + 0xFFF0


@pytest.mark.parametrize(
    ("code", "low", "high"),
    [
        ("660f3801c0", 0x000F_000B_0007_0003, 0x000F_000B_0007_0003),  # phaddw xmm0, xmm0: it reads before it writes
        ("660f3802c0", 0x000E_000C_0006_0004, 0x000E_000C_0006_0004),  # phaddd
        ("f2660f10c1", 0x1111, 0x0008_0007_0006_0005),  # movsd, for F2 counts before 66: the upper half stays
        ("66f20f10c1", 0x1111, 0x0008_0007_0006_0005),
    ],
)
def test_sse_results(lab: Lab, code: str, low: int, high: int) -> None:
    lab.state[XMM0], lab.state[XMM0 + 1] = 0x0004_0003_0002_0001, 0x0008_0007_0006_0005
    lab.state[XMM0 + 8], lab.state[XMM0 + 9] = 0x1111, 0x2222
    run(lab, code)
    assert (lab.state[XMM0], lab.state[XMM0 + 1]) == (low, high)


def test_the_comparison_is_in_three_bits(lab: Lab) -> None:
    lab.state[XMM0] = lab.state[XMM0 + 8] = 0x3FF0_0000_0000_0000
    run(lab, "f20fc2c1f8")  # cmpsd xmm0, xmm1, 0xf8: equal
    assert lab.state[XMM0] == (1 << 64) - 1


def test_a_prefetch_of_a_register_does_nothing(lab: Lab) -> None:
    assert outcome(lab, "0f18c2", 3) is None
