# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetching and decoding the instruction at RIP, and which instructions a monitor has to do."""

from __future__ import annotations

import pytest

from pvhv.hvm.cpu.memory import InvalidOpcode, PageFault
from pvhv.hvm.emulator import decode
from pvhv.hvm.emulator.sensitive import reason
from pvhv.hvm.techniques.bare import Bare
from pvhv.machine.cpustate import RIP
from tests.hvm.hw_lab import CODE, DATA, NX, TABLE, D, HwLab


@pytest.fixture(scope="module")
def lab() -> HwLab:
    return HwLab(Bare)


def at(lab: HwLab, code: str, address: int = CODE + 0x800) -> decode.Instruction:
    lab.technique.cpu.memory.write(address, bytes.fromhex(code))
    lab.state[RIP] = address
    return decode.fetch(lab.technique.cpu)


def test_length_and_name(lab: HwLab) -> None:
    """Whatever follows; and the same bytes mean something else in 32-bit code."""
    assert (at(lab, "0f20c0f4").name, at(lab, "0f20c0f4").length) == ("mov", 3)
    assert at(lab, "48b8112233445566778890").length == 10
    assert at(lab, "f3480fc70b").length == 5
    assert decode.decode(bytes.fromhex("4889d8"), 64).length == 3
    assert decode.decode(bytes.fromhex("4889d8"), 32).length == 1  # dec eax


def test_an_instruction_over_two_pages(lab: HwLab) -> None:
    for before in range(1, 10):
        assert at(lab, "48b81122334455667788", CODE + 0x5000 - before).length == 10


def test_what_is_not_there_to_fetch(lab: HwLab) -> None:
    """The second page counts only if the instruction needs it; it is a fetch that faults, at that page."""
    page = DATA + 0x11000
    lab.technique.cpu.memory.write(page - 8, bytes.fromhex("90909090 90 0f20c0"))
    for entry, error in ((0, 0x10), (page | TABLE | D | NX, 0x11)):
        lab.set_entry(page, entry)
        lab.state[RIP] = page - 3
        assert decode.fetch(lab.technique.cpu).length == 3
        lab.state[RIP] = page - 2  # 20 c0 is an AND
        assert decode.fetch(lab.technique.cpu).name == "and"
        lab.physical.write(page - 1, b"\x48")
        lab.state[RIP] = page - 1
        with pytest.raises(PageFault) as fault:
            decode.fetch(lab.technique.cpu)
        assert (fault.value.va, fault.value.code) == (page, error)
        lab.physical.write(page - 1, b"\xc0")


@pytest.mark.parametrize("code", ["06", "0e", "9a112233440800", "ce", "0f0a", "d6", "66" * 15 + "90"])
def test_what_is_no_instruction(lab: HwLab, code: str) -> None:
    with pytest.raises(InvalidOpcode):
        at(lab, code)


REASONS = {
    "0f22d8": "mov-to-cr3", "440f20c0": "mov-from-cr8", "0f23f8": "mov-to-dr", "0f21f8": "mov-from-dr",
    "8ed8": "mov-seg", "8cc8": "mov-seg", "8cd0": "mov-seg", "8cd8": "", "0fa1": "mov-seg", "0fa0": "",
    "9c": "pushf", "669d": "popf", "48cf": "iret", "cf": "iret", "0f07": "sysret", "480f07": "sysret", "0f05": "",
    "cb": "ret-far", "48ca0800": "ret-far", "ff18": "call-far", "ff28": "jmp-far", "ff10": "", "ff20": "", "c3": "",
    "ec": "in", "e680": "out", "f36c": "ins", "6f": "outs", "cd80": "int", "cc": "int3", "0f0100": "sgdt",
    "0f00c8": "str", "0f02c0": "lar", "0f00e0": "verr", "0f01f0": "lmsw", "0f01e0": "smsw", "0f0138": "invlpg",
    "0f01f8": "swapgs", "0fb200": "mov-seg", "f4": "hlt", "90": "", "8903": "", "f3a5": "", "6a10": "", "50": "",
    "f20f1003": "", "a5": "", "0fa2": "cpuid", "0f31": "rdtsc", "0f01f9": "rdtscp",
}  # fmt: skip


@pytest.mark.parametrize("code", REASONS)
def test_reasons(code: str) -> None:
    assert reason(decode.decode(bytes.fromhex(code), 64)) == REASONS[code]


def test_reasons_of_32_bit_code() -> None:
    for code, expected in (("0e", "mov-seg"), ("16", "mov-seg"), ("1e", ""), ("1f", "mov-seg"), ("ce", "into"),
                           ("9a112233440800", "call-far"), ("ea112233440800", "jmp-far"), ("c500", "mov-seg")):
        assert reason(decode.decode(bytes.fromhex(code), 32)) == expected
